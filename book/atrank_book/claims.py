"""Numbers that a chapter stands for: checked once, quoted in its prose, listed in the results ledger.

`begin` opens a chapter, `claim` records numbers of it, in a cell that its page leaves out. In a notebook the
record is an output that shows nothing: MyST-NB reads it where the prose says ``{glue:text}`name:.3f` ``, and the
ledger reads its metadata. In a plain Python process `claim` only checks.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from dataclasses import dataclass

# What myst_nb.glue(name, value, display=False) writes; written here so that a chapter runs without myst_nb.
GLUE_PREFIX = "application/papermill.record/"


class ClaimError(AssertionError):
    """A recorded number lies outside the range that the text around it relies on."""


@dataclass(frozen=True)
class _Chapter:
    name: str
    profile: str
    seed: int
    data: str  # "" for the chapter's own log, else the name and fingerprint of the reader's log


_current: _Chapter | None = None


def begin(chapter: str, *, profile: str = "fast", data: str = "", seed: int = 0) -> None:
    """Open a chapter: one torch thread (or OMP_NUM_THREADS), a fixed seed, the book's style of figures and tables.

    Claims know from then on where they belong.

    `data` is the folder of an event log, "" for the log that the chapter simulates itself. Raises ValueError
    for an unknown profile and EventLogError for a log that does not read.
    """
    global _current
    if profile not in ("fast", "full"):
        raise ValueError(f"begin({chapter!r}): profile is {profile!r}, but must be 'fast' or 'full'")
    label = ""
    if data:
        from atrank_lib.log.events import EventLog

        log = EventLog.read(data)
        label = f"{log.schema.name} ({log.fingerprint()})"
    import torch  # here, so that whoever only reads claims need not wait for it

    # One thread adds up in one order: the same digits in every run. Who asks for more gets it.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]))
    torch.manual_seed(seed)
    if importlib.util.find_spec("matplotlib"):
        from atrank_book import figures, tables

        figures.use_style()
        tables.use_typesetting()
    _current = _Chapter(chapter, profile, seed, label)


def claim(
    name: str = "",
    value: object = None,
    /,
    low: float | None = None,
    high: float | None = None,
    **several: object,
) -> int | float | str | None:
    """Record one number, `claim(name, value, low, high)`, and return it, or several: `claim(a=1, b=(auc, 0.8, 0.9))`.

    A value is a number or a text of Python, numpy or torch. One outside [low, high] (either end may be left open:
    `(auc, 0.8)`, `(auc, None, 0.9)`) raises ClaimError; so does one that is not finite. On a reader's own log the range
    is recorded but not enforced, since it was measured on the simulated one. Raises TypeError for a value of another
    kind, RuntimeError outside a chapter.
    """
    if several:
        if name or value is not None or low is not None or high is not None:
            raise TypeError(
                f"claim({name!r}, ..., {next(iter(several))}=...): one number by name, or several, not both"
            )
        for key, entry in several.items():
            _record(key, *entry if isinstance(entry, tuple) else (entry,))
        return None
    return _record(name, value, low, high)


def _record(name: str, value: object, low: float | None = None, high: float | None = None) -> int | float | str:
    if _current is None:
        raise RuntimeError(f"claim({name!r}) outside a chapter: call begin(chapter) first")
    plain = _plain(name, value, low, high)
    where = f"{_current.name}: claim {name!r} is {plain!r}"
    run = f"seed {_current.seed}, profile {_current.profile!r}, data {_current.data or 'simulated'}"
    if isinstance(plain, float) and not math.isfinite(plain):
        raise ClaimError(f"{where}, not a finite number ({run})")
    if not isinstance(plain, str) and not _current.data and not _inside(plain, low, high):
        raise ClaimError(f"{where}, outside {format_range(low, high)} ({run})")
    record: dict[str, object] = {
        "name": name,
        "value": plain,
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "chapter": _current.name,
        "profile": _current.profile,
        "seed": _current.seed,
        "data": _current.data,
    }
    _publish(name, plain, record)
    return plain


def format_range(low: float | None, high: float | None) -> str:
    """A closed interval as text, with an infinity sign for an open end; "" when both ends are open."""
    if low is None and high is None:
        return ""
    left = "(−∞" if low is None else f"[{low:g}"
    right = "∞)" if high is None else f"{high:g}]"
    return f"{left}, {right}"


def _inside(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _plain(name: str, value: object, low: float | None, high: float | None) -> int | float | str:
    """The value as Python's own int, float or str: a scalar of numpy or torch gives it by `item`."""
    if isinstance(value, str):
        if low is not None or high is not None:
            raise TypeError(f"claim({name!r}): text has no range, but low={low} and high={high} were given")
        return str(value)
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise TypeError(f"claim({name!r}): a {type(value).__name__} is no number or text, and holds not just one")
    return plain


def _publish(name: str, value: int | float | str, record: dict[str, object]) -> None:
    """Write the record as an output of the running cell; outside IPython there is nowhere to write it."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        return
    from IPython.display import display

    metadata = {
        "scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX},
        "atrank_claim": record,
    }
    display({f"{GLUE_PREFIX}text/plain": repr(value)}, raw=True, metadata=metadata)
