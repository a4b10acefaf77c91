"""Time and peak memory of ``data_scripts.amazon`` on a pair of files of Electronics' size.

The files are generated: 1,689,188 reviews of 192,403 users and 63,001 items (lines of about 800 bytes) and
498,196 products (lines of about 1 KB, Python literals with lists of related products and quoted text)::

    python benchmarks/prepare_amazon.py --folder FOLDER

Memory is the sum of resident memory over the preparing process and its workers, sampled 20 times a second.
Processor time tells a slow preparation from a busy machine.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from _memory import report, watch

USERS, ITEMS, CATEGORIES, REVIEWS, PRODUCTS = 192_403, 63_001, 801, 1_689_188, 498_196
WORDS = re.split(
    r"\s+",
    """the camera's battery lasts all day and it "just works" with my old lens cable adapter screen I don't regret
    buying this one for price sound quality is great but shipping took forever would recommend to any friend who
    needs a sturdy case naïve café 5" display""",
)


def text(rng: np.random.Generator, length: float) -> str:
    """Words of about ``length`` characters, with both kinds of quotes."""
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), max(3, int(length / 5.5))))


def asin(number: int) -> str:
    return f"B{number:09d}"


def write_pair(folder: Path, share: float, seed: int) -> tuple[Path, Path]:
    """The two files at ``share`` of Electronics' size; every user and item occurs five times or more."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    users, items, reviews, products = (max(10, int(n * share)) for n in (USERS, ITEMS, REVIEWS, PRODUCTS))
    bodies = [text(rng, length) for length in rng.lognormal(6.1, 0.6, 2000)]
    paths = folder / "reviews_Electronics_5.json.gz", folder / "meta_Electronics.json.gz"
    of_user = np.concatenate([np.repeat(np.arange(users), 5), rng.integers(0, users, reviews - 5 * users)])
    of_item = np.concatenate([np.repeat(np.arange(items), 5), rng.zipf(1.3, reviews - 5 * items) % items])
    rng.shuffle(of_user)
    order = np.argsort(of_item, kind="stable")  # the originals are sorted by item
    days = rng.integers(10_957, 16_274, reviews) * 86_400
    with gzip.open(paths[0], "wt", compresslevel=6, encoding="utf-8") as file:
        for user, item, day in zip(of_user[order].tolist(), of_item[order].tolist(), days.tolist(), strict=True):
            record = {
                "reviewerID": f"A{user:013X}",
                "asin": asin(item),
                "reviewerName": f'Reader {user} "Al"',
                "helpful": [user % 7, user % 7 + 2],
                "reviewText": bodies[(user + item) % len(bodies)],
                "overall": float(1 + user % 5),
                "summary": bodies[user % len(bodies)][:40],
                "unixReviewTime": day,
                "reviewTime": "01 1, 2014",
            }
            file.write(json.dumps(record) + "\n")
    with gzip.open(paths[1], "wt", compresslevel=6, encoding="utf-8") as file:
        for item in range(products):
            related = [asin(i) for i in rng.integers(0, products, 26).tolist()]
            leaf = f"Leaf {item % int(max(1, CATEGORIES * min(1, share * 4)))}"
            record = {
                "asin": asin(item),
                "imUrl": f"http://ecx.images-amazon.com/images/I/{item}.jpg",
                "description": bodies[item % len(bodies)][:450],
                "categories": [
                    ["Electronics", "Computers & Accessories"],
                    ["Electronics", "Accessories", leaf],
                ],
                "title": bodies[-item % len(bodies)][:60],
                "price": item % 500 + 0.99,
                "salesRank": {"Electronics": item},
                "related": {
                    "also_bought": related[:13],
                    "also_viewed": related[13:24],
                    "buy_after": related[24:],
                },
                "brand": "",
            }
            file.write(repr(record) + "\n")
    return paths


def main(
    folder: Annotated[Path, typer.Option(help="Where the pair of files and the log go; the pair is kept.")],
    share: Annotated[float, typer.Option(help="Size relative to Electronics.")] = 1.0,
    workers: Annotated[int, typer.Option(help="Parsing processes.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the generated files.")] = 0,
) -> None:
    """Generate the pair, prepare it, and print one JSON line: seconds, peak memory, sizes, machine."""
    pair = folder / "reviews_Electronics_5.json.gz", folder / "meta_Electronics.json.gz"
    if not all(path.exists() for path in pair):
        write_pair(folder, share, seed)
    command = [
        sys.executable,
        "-m",
        "data_scripts.amazon",
        "--category",
        "Electronics",
        "--raw-dir",
        str(folder),
    ]
    command += ["--out", str(folder / "log"), "--overwrite", "--workers", str(workers)]
    sizes = [round(path.stat().st_size / 1e9, 3) for path in pair]
    report(watch(command), files_gb=sizes, workers=workers)


if __name__ == "__main__":
    typer.run(main)
