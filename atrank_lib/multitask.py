"""Many tasks: the seven training modes of the paper (*Multi-behavior*, Table 5).

A task is a target group; one model serves several, and every batch is of one task, in random order (``training``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from atrank_lib.log.schema import Schema


@dataclass(frozen=True)
class Mode:
    """What a model reads and what it predicts; ``name`` is the paper's, such as ``all2item``."""

    name: str
    kind: Literal["one2one", "all2one", "all2all"]
    histories: tuple[str, ...]
    targets: tuple[str, ...]


def modes(schema: Schema, targets: Sequence[str] | None = None) -> tuple[Mode, ...]:
    """Every training mode of a schema: with ``G`` groups, ``G`` one2one, ``G`` all2one and one all2all.

    ``targets`` are the groups to predict, all by default. With one group in all, there is one mode.

    >>> [mode.name for mode in modes(histories.schema)][:4], len(modes(histories.schema))
    (['item2item', 'query2query', 'coupon2coupon', 'all2item'], 7)
    """
    everything = tuple(schema.groups)
    wanted = everything if targets is None else tuple(targets)
    found = [Mode(f"{g}2{g}", "one2one", (g,), (g,)) for g in wanted]
    if len(everything) > 1:
        found += [Mode(f"all2{g}", "all2one", everything, (g,)) for g in wanted]
    if len(wanted) > 1:
        found.append(Mode("all2all", "all2all", everything, wanted))
    return tuple(found)
