"""The trivago script against plain Python, on a small table and on the real one."""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from atrank_lib.impressions import prepare_shown
from atrank_lib.log.events import EventLog
from atrank_lib.runs import load_run, train_run
from atrank_lib.training import Recipe
from data_scripts import trivago

pytestmark = [
    # Ibis 12 calls DuckDB 2 by an old name
    pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning"),
]
app = typer.Typer()
app.command()(trivago.main)

HEADER = ["user_id", "session_id", "timestamp", "step", "action_type", "reference", "platform", "city", "device"]
HEADER += ["current_filters", "impressions", "prices"]


def prepare(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def some_rows(users: int = 12, seed: int = 0, longest: int = 13, hotels: int = 12) -> list[list[str]]:
    """Rows in the order of users, as in the challenge, a few of them about nothing."""
    rng, rows = np.random.default_rng(seed), []
    kinds = list(trivago.ACTIONS)
    for user in range(users):
        time = 1_541_000_000 + int(rng.integers(1_000))
        for step in range(int(rng.integers(3, longest + 1))):
            time += int(rng.integers(0, 40)) * int(rng.integers(0, 2))  # equal times are common
            kind = kinds[rng.integers(len(kinds))] if rng.random() < 0.6 else trivago.CLICKOUT
            city, hotel = f"City {rng.integers(3)}, Land", str(rng.integers(100, 100 + hotels))
            reference, shown, prices = hotel, "", ""
            if trivago.ACTIONS[kind][0] == "search":
                reference = f"Old Town {rng.integers(9)} - {rng.choice(['Köln', 'Zürich', 'São Paulo'])}, Bar/Café"
            elif trivago.ACTIONS[kind][0] == "filter":
                reference = f"{rng.integers(30)} Star"
            elif kind == trivago.CLICKOUT:
                listed = [str(h) for h in rng.integers(100, 100 + hotels, rng.integers(1, 9))]  # with repeats
                if rng.random() < 0.9:
                    listed[rng.integers(len(listed))] = hotel
                shown, prices = "|".join(listed), "|".join(str(p) for p in rng.integers(30, 90, len(listed)))
            elif rng.random() < 0.1:
                reference = "unknown"
            rows.append(
                [f"U{user}", "s", str(time), str(step), kind, reference, "DE", city, "mobile", "", shown, prices]
            )
    return rows


def write(folder: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


def expected(rows: list[list[str]]) -> tuple[dict[str, list[tuple[str, int, str, str]]], list[dict[str, object]]]:
    """Behaviors by group and impressions of items, by loops."""
    events: dict[str, list[tuple[str, int, str, str]]] = defaultdict(list)
    impressions = []
    order = sorted(range(len(rows)), key=lambda i: (rows[i][0], int(rows[i][2]), i))
    past: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for i in order:
        user, _, time, _, kind, reference, _, _, _, _, shown, prices = rows[i]
        group, action = trivago.ACTIONS[kind]
        if group == "item" and not reference.isdecimal():
            continue
        event = len(events[group])
        events[group].append((user, int(time), action, reference))
        if group != "item":
            continue
        listed = shown.split("|") if shown else []
        if kind == trivago.CLICKOUT and reference in listed:
            for place, hotel in enumerate(listed):
                if hotel in listed[:place]:
                    continue
                own = [(n, did) for n, (other, did) in enumerate(past[user]) if other == hotel]
                price = float(prices.split("|")[place])
                impressions.append(
                    {
                        "event": event,
                        "object_id": hotel,
                        "place": str(place + 1),
                        "price": price,
                        "cheaper": str(sum(float(p) < price for p in prices.split("|"))),
                        "last_action": own[-1][1] if own else None,
                        "ago": str(math.ceil(math.log2(len(past[user]) - own[-1][0]))) if own else None,
                    }
                )
        past[user].append((reference, action))
    return events, impressions


@pytest.mark.parametrize("seed", range(3))
def test_against_loops(tmp_path: Path, seed: int) -> None:
    rows = some_rows(seed=seed)
    done = prepare("--raw", write(tmp_path / "raw", rows), "--out", tmp_path / "log")
    assert done.exit_code == 0, done.output
    log = EventLog.read(tmp_path / "log")
    events, impressions = expected(rows)
    for group, found in log.events.items():
        assert list(found.astype({"action": "str"}).itertuples(index=False, name=None)) == events[group]
    table = log.impressions["item"]
    assert table["event"].is_monotonic_increasing
    found = table.astype(object).where(table.notna(), None).to_dict("records")
    assert found == impressions
    left_out = len(rows) - sum(map(len, events.values()))
    assert f"{left_out} rows about nothing that can be named, left out" in done.output
    assert (
        f"{len(rows)} rows" in (tmp_path / "log" / "JOINS.md").read_text()
        or f"| rows | {len(rows)} |" in (tmp_path / "log" / "JOINS.md").read_text()
    )


def test_hotels_searches_and_metadata(tmp_path: Path) -> None:
    rows = some_rows(seed=5)
    folder = write(tmp_path / "raw", rows)
    (folder / "item_metadata.csv").write_text(
        "item_id,properties\n101,Free WiFi|Bar\n105,\n999,Pool\n", encoding="utf-8"
    )
    assert prepare("--raw", folder / "train.csv", "--out", tmp_path / "log").exit_code == 0
    log = EventLog.read(tmp_path / "log")
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if trivago.ACTIONS[row[4]][0] == "item" and row[5].isdecimal():
            listed = dict.fromkeys(row[10].split("|")) if row[5] in row[10].split("|") else {}
            for hotel in [row[5], *listed]:
                seen[hotel][row[7]] += 1
    hotels = log.objects["item"].set_index("object_id")
    assert set(hotels.index) == set(seen)
    for hotel, cities in seen.items():
        assert hotels["city"][hotel] == min(cities, key=lambda city: (-cities[city], city))
    assert hotels["properties"]["101"] == ["Free WiFi", "Bar"]
    assert hotels["properties"]["102"] == []
    words = log.objects["search"].set_index("object_id")["words"]
    for text, found in words.items():
        assert found == [word.lower() for word in re.findall(r"[^\s,/-]+", str(text))]


def test_the_same_from_parquet_and_csv(tmp_path: Path) -> None:
    rows = some_rows(seed=6)
    prepare("--raw", write(tmp_path / "raw", rows), "--out", tmp_path / "a")
    table = pd.DataFrame(rows, columns=HEADER).replace("", None).astype({"timestamp": "int64"})
    (tmp_path / "other").mkdir()
    table.to_parquet(tmp_path / "other" / "some.parquet")
    assert prepare("--raw", tmp_path / "other", "--out", tmp_path / "b").exit_code == 0
    assert EventLog.read(tmp_path / "a").fingerprint() == EventLog.read(tmp_path / "b").fingerprint()


def test_a_model_reads_it(tmp_path: Path) -> None:
    prepare("--raw", write(tmp_path / "raw", some_rows(users=40)), "--out", tmp_path / "log")
    log = EventLog.read(tmp_path / "log")
    recipe = Recipe(epochs=1, negative_kind="impressions", negatives=4, batch_size=16)
    options = {"hidden": 16, "embedding_size": 8, "spaces": 2, "ranking": "mlp"}
    train_run(log, tmp_path / "run", recipe=recipe, options=options, targets=["item"], progress=False)
    found = load_run(tmp_path / "run").evaluate(log, negatives=None, kind="impressions")
    assert found.users > 5


def spoiled(change) -> list[list[str]]:
    rows = some_rows()
    at = next(i for i, row in enumerate(rows) if row[4] == trivago.CLICKOUT and row[10].count("|") > 1)
    change(rows[at])
    return rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.__setitem__(2, "noon"), r"row \d+: timestamp 'noon' is not a whole number of seconds"),
        (lambda row: row.__setitem__(2, "1541.5e"), r"row \d+: timestamp '1541.5e' is not a whole number"),
        (lambda row: row.__setitem__(2, ""), r"row \d+: timestamp is missing"),
        (lambda row: row.__setitem__(0, ""), r"row \d+: user_id is missing"),
        (lambda row: row.__setitem__(4, "clickout"), r"row \d+: action_type 'clickout' is none of clickout item, "),
        (lambda row: row.__setitem__(4, ""), r"row \d+: action_type is missing"),
        (lambda row: row.__setitem__(11, row[11] + "|7"), r"row \d+: prices '.*' are not as many as impressions"),
        (lambda row: row.__setitem__(11, ""), r"row \d+: prices is missing"),
        (
            lambda row: row.__setitem__(11, re.sub(r"^\d+", "dear", row[11])),
            r"row \d+: prices 'dear\|.*' hold what is no number",
        ),
        (lambda row: row.append("more"), "train.csv: cannot be read"),
    ],
)
def test_a_faulty_value_is_named(tmp_path: Path, change, message: str) -> None:
    done = prepare("--raw", write(tmp_path / "raw", spoiled(change)), "--out", tmp_path / "log")
    assert done.exit_code == 1
    assert re.search(message, done.output), done.output
    assert len(done.output.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: (raw / "train.csv").unlink(), "neither train.csv nor a .parquet"),
        (lambda raw: (raw / "more.parquet").write_bytes(b""), "train.csv, more.parquet; name the one table"),
        (lambda raw: (raw / "train.csv").write_text("a,b\n1,2\n"), "no column user_id, timestamp, "),
        (lambda raw: (raw / "train.csv").write_text(""), "train.csv: "),
        (lambda raw: (raw / "train.csv").write_text(",".join(HEADER) + "\n"), "not a single row"),
        (lambda raw: (raw / "train.csv").write_bytes(b"\x00\xff" * 50), "train.csv: "),
        (lambda raw: (raw / "item_metadata.csv").write_text("item_id,stars\n1,2\n"), "no column properties"),
        (
            lambda raw: (raw / "item_metadata.csv").write_text("item_id,properties\n1,a\n1,b\n"),
            "item_id '1' is on 2 rows",
        ),
    ],
)
def test_a_faulty_file_is_named(tmp_path: Path, spoil, message: str) -> None:
    spoil(write(tmp_path / "raw", some_rows()))
    done = prepare("--raw", tmp_path / "raw", "--out", tmp_path / "log")
    assert done.exit_code == 1
    assert message in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", some_rows())
    (tmp_path / "log").mkdir()
    assert "exists already" in prepare("--raw", raw, "--out", tmp_path / "log").output
    assert "not an event log" in prepare("--raw", raw, "--out", tmp_path / "log", "--overwrite").output


@pytest.mark.skipif("ATRANK_DATA_DIR" not in os.environ, reason="ATRANK_DATA_DIR is not set: no real data here")
def test_the_real_table(tmp_path: Path) -> None:
    raw = Path(os.environ["ATRANK_DATA_DIR"]) / "trivago_100k"
    done = prepare("--raw", raw, "--out", tmp_path / "log")
    assert done.exit_code == 0, done.output
    log = EventLog.read(tmp_path / "log")
    summary = log.summary()
    assert summary["behaviors"].to_dict() == {"item": 87_608, "search": 4_140, "filter": 8_251, "all groups": 99_999}
    assert summary.loc["item", ["choices", "shown"]].tolist() == [13_596, 312_514]
    assert summary.loc["all groups", "users"] == 6_593
    _, parts = prepare_shown(log, "validated", ["item"], choices=True)
    assert len(parts.test["item"]) == 4_388
