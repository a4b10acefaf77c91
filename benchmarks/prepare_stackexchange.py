"""Time and peak memory of ``data_scripts.stackexchange`` on a dump of many rows.

The dump is generated, with the tables and shares of a real site (beer.stackexchange.com), a made-up text in every row
of posts, comments and histories, and everything that is left out: rows without a user, of the Community user, and of
posts that are missing::

    python benchmarks/prepare_stackexchange.py --folder FOLDER --rows 16000000

Memory is the sum of resident memory over the preparing process and its workers, sampled 20 times a second.
Processor time tells a slow preparation from a busy machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from _memory import gigabytes, report, watch

# of 25,418 rows: posts, comments, histories and badges of the site, and its users
SHARES = {"Posts": 3_471, "Comments": 3_509, "PostHistory": 9_071, "Badges": 9_367}
USERS, TAGS, BADGES = 4_223, 1_000, 60
HISTORY = np.array([1] * 12 + [2] * 38 + [3] * 11 + [4, 4, 4, 6, 6, 6, 10, 24, 24, 25, 25] + [5] * 17)
BLOCK = 100_000
START, END = 1_390_000_000_000, 1_590_000_000_000  # ms
HTML = "&lt;p&gt;It's &quot;brewed&quot; &amp; na\u00efve&lt;/p&gt;&#xA;"


def write_dump(folder: Path, rows: int, text: int, seed: int) -> None:
    """The tables, in the order of time, with ``text`` characters in every row of posts, comments and histories."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    total = sum(SHARES.values())
    sizes = {name: max(100, rows * share // total) for name, share in SHARES.items()}
    users, posts = max(10, rows * USERS // total), sizes["Posts"]
    body = (HTML * (text // len(HTML) + 1))[:text].rpartition(";")[0] + ";"

    def row(name: str) -> Callable[[int, str, int, int], str]:
        def user_in(attribute: str, user: int) -> str:
            return "" if user % 100 == 7 else f'{attribute}="{-1 if user % 100 == 8 else user + 1}" '

        def post(number: int, time: str, user: int, draw: int) -> str:
            kind = f'PostTypeId="2" ParentId="{draw % number // 3 * 3 + 1}"'
            if number % 3 == 1:
                tags = "".join(f"&lt;tag-{(draw >> shift) % TAGS}&gt;" for shift in (0, 7, 14)[: 1 + draw % 3])
                kind = f'PostTypeId="1" Tags="{tags}"'
            if number % 40 == 9:
                kind = 'PostTypeId="4"'
            return f'{kind} CreationDate="{time}" {user_in("OwnerUserId", user)}Score="1" Body="{body}" '

        def comment(number: int, time: str, user: int, draw: int) -> str:
            return f'PostId="{draw % (posts * 1.02):.0f}" CreationDate="{time}" {user_in("UserId", user)}Text="{body}" '

        def history(number: int, time: str, user: int, draw: int) -> str:
            kind = HISTORY[draw % len(HISTORY)]
            return f'PostHistoryTypeId="{kind}" ' + comment(number, time, user, draw // 100)

        def badge(number: int, time: str, user: int, draw: int) -> str:
            name = f'Name="Badge {draw % BADGES}" Class="{draw % 3 + 1}" TagBased="{draw % 60 == 59}"'
            return f'{name} Date="{time}" UserId="{user + 1}" '

        return {"Posts": post, "Comments": comment, "PostHistory": history, "Badges": badge}[name]

    for name, size in sizes.items():
        made = row(name)
        times = np.datetime_as_string(np.linspace(START, END, BLOCK).astype("int64").astype("datetime64[ms]"))
        with (folder / f"{name}.xml").open("w", encoding="utf-8") as file:
            root = name.lower()
            file.write(f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<{root}>\n')
            for first in range(1, size + 1, BLOCK):
                count = min(BLOCK, size + 1 - first)
                who = (users * rng.random(count) ** 3).astype(int).tolist()  # a few do much
                draws = rng.integers(0, 1 << 40, count).tolist()
                when = times[(first + np.arange(count)) * (BLOCK - 1) // (size + 1)].tolist()
                lines = zip(range(first, first + count), when, who, draws, strict=True)
                file.writelines(f'  <row Id="{line[0]}" {made(*line)}/>\n' for line in lines)
            file.write(f"</{root}>\n")
    tags = "".join(f'  <row Id="{n + 1}" TagName="tag-{n}" Count="1" />\n' for n in range(TAGS))
    (folder / "Tags.xml").write_text(f"<tags>\n{tags}</tags>\n")


def main(
    folder: Annotated[Path, typer.Option(help="Where the dump and the log go; the dump is kept.")],
    rows: Annotated[int, typer.Option(help="Rows of the dump, over all tables.")] = 16_000_000,
    text: Annotated[int, typer.Option(help="Characters of text in a row that has some.")] = 200,
    workers: Annotated[int, typer.Option(help="Parsing processes.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the generated files.")] = 0,
) -> None:
    """Generate the dump, prepare it, and print one JSON line: seconds, peak memory, sizes, machine."""
    dump = folder / "dump.stackexchange.com"
    if not dump.exists():
        write_dump(dump, rows, text, seed)
    options = ["--dump", str(dump), "--out", str(folder / "log"), "--overwrite", "--workers", str(workers)]
    used = watch([sys.executable, "-m", "data_scripts.stackexchange", *options])
    sizes = {"dump_gb": gigabytes(*dump.iterdir()), "log_gb": gigabytes(*(folder / "log").iterdir())}
    report(used, rows=rows, workers=workers, **sizes)


if __name__ == "__main__":
    typer.run(main)
