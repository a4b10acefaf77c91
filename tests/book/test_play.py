"""Figures to play with, in a real browser: what they show is what the library computes, and anyone can use them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from playwright.sync_api import Locator, Page
from scipy.stats import binom

from atrank_book.colors import stylesheet
from atrank_book.play import Play
from atrank_lib import ATRank, GroupedHistories, TimeScale, bucketize_elapsed, build_batch, split
from atrank_lib.attention import SpaceAttention
from atrank_lib.batches import Packing, Samples
from atrank_lib.competitors.floors import popularity
from atrank_lib.evaluation import fixed_candidates
from atrank_lib.interpret import erasure
from atrank_lib.samples import prepare
from atrank_lib.time_encoding import TimeEncoding
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.records import recorded
from experiments.summary import read_table, table5
from tests.book.chromium import CHROMIUM, DESKTOP, PHONE
from tests.book.contrast import contrast
from tests.models import a_log
from tests.serve.pages import a_model
from tools.project import ROOT, Project

STATIC = ROOT / "book" / "_static"
MOST_BYTES = 40_000  # of a play: its numbers, and the script and styles that all share
SMALLEST = 11  # pixels of text on a phone
MINUS = "\u2212"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
TABLE = pd.DataFrame({"of the page": [1]})


def page_of(folder: Path, play: Play) -> Path:
    """A page with one play, and with the book's styles."""
    for name in ("play.js", "play.css", "book.css"):
        shutil.copy(STATIC / name, folder)
    (folder / "colors.css").write_text(stylesheet())
    styles = "".join(f'<link rel="stylesheet" href="{name}.css">' for name in ("book", "colors", "play"))
    (folder / "page.html").write_text(
        '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>A play</title>'
        f'<meta name="viewport" content="width=device-width">{styles}<script src="play.js"></script>'
        f"<body>{play._repr_html_()}",
        encoding="utf-8",
    )
    return folder / "page.html"


def said(page: Page) -> str:
    return page.locator(".play-stage output").inner_text()


def numbers(text: str) -> list[float]:
    """Every number in a text, its thousands with commas and its minus as typesetters write it."""
    return [float(n.replace(",", "").replace(MINUS, "-")) for n in re.findall(rf"[{MINUS}+]?\d[\d,]*(?:\.\d+)?", text)]


def walk(page: Page, slider: Locator, key: str = "ArrowRight") -> Iterator[str]:
    """What is said at every place of a slider, from its start to its end, by the keyboard."""
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(int(slider.evaluate("node => Math.round((node.max - node.min) / node.step)")) + 1):
        yield said(page)
        page.keyboard.press(key)


# --- what a cell leaves behind


def test_a_play_is_its_table_where_no_script_runs():
    play = Play("ages", {"x": 1 / 3, "list": [(1, 2.00000004)]}, TABLE)
    assert "<table" in play._repr_html_()
    assert '{"x":0.333333,"list":[[1,2.0]]}' in play._repr_html_()
    assert repr(play) == str(TABLE)


def test_a_play_in_the_place_of_a_figure_leaves_the_figure_there():
    html = Play("weight", {"x": 1}, figure="fig-compromise")._repr_html_()
    assert 'data-figure="fig-compromise"' in html
    assert "<table" not in html


def test_text_of_a_log_cannot_end_the_script():
    html = Play("life", {"what": "</script><img src=x onerror=alert(1)>"}, TABLE)._repr_html_()
    assert html.count("</script>") == 1
    assert "<img" not in html


@pytest.mark.parametrize("arguments", [{}, {"table": TABLE, "figure": "fig-compromise"}])
def test_there_is_one_thing_to_see_without_a_script(arguments: dict[str, Any]):
    with pytest.raises(ValueError, match="either a table or a figure"):
        Play("ages", {}, **arguments)


def test_a_play_stays_small():
    shared = sum((STATIC / name).stat().st_size for name in ("play.js", "play.css"))
    with pytest.raises(ValueError, match="bytes of numbers"):
        Play("erase", {"leads": ["x" * (MOST_BYTES - shared)]}, TABLE)


# --- chapter 3: ages


def rulers() -> list[dict[str, Any]]:
    scales = {"item": TimeScale(unit="day"), "coupon": TimeScale(unit="hour")}
    return [
        {"name": name, "unit": scale.unit, "edges": TimeEncoding(scale, 1).edges.tolist()}
        for name, scale in scales.items()
    ]


@needs_chromium
def test_every_age_falls_into_the_bucket_of_the_library(visit, tmp_path: Path):
    page, troubles = visit(page_of(tmp_path, Play("ages", {"groups": rulers(), "start": 72_000}, TABLE)))
    assert said(page).startswith("20 hours is 72,000 seconds.\nitem: bucket 0,")
    seen = set()
    for text in walk(page, page.get_by_label("Age of the behavior")):
        first, *lines = text.split("\n")
        seconds = int(numbers(first)[-1])
        seen.add(seconds)
        for line, (unit, size) in zip(lines, (("day", 86_400), ("hour", 3_600)), strict=True):
            bucket = int(bucketize_elapsed([seconds], unit=unit))
            shown = numbers(line)
            assert shown[0] == bucket, text
            if bucket == 0:
                assert line.endswith(f"bucket 0, less than 1 {unit}")
            elif bucket < 15:
                assert shown[1] * size <= seconds < shown[2] * size, text
            else:
                assert line.endswith(f"{2**14:,} {unit}s or more")
    assert min(seen) == 60
    edges = {edge for ruler in rulers() for edge in ruler["edges"] if edge <= 999 * 86_400}
    assert edges <= seen, "the slider misses an edge"
    assert not troubles


@needs_chromium
def test_the_marked_bucket_is_the_one_in_words(visit, tmp_path: Path):
    page, _ = visit(page_of(tmp_path, Play("ages", {"groups": rulers(), "start": 72_000}, TABLE)))
    marked = page.locator(".play-stage rect[fill^='var(--group-']")
    assert marked.evaluate_all("nodes => nodes.map(node => node.dataset.key)") == ["0 0", "1 5"]
    page.get_by_label("Age of the behavior").press("End")
    assert marked.evaluate_all("nodes => nodes.map(node => node.dataset.key)") == ["0 10", "1 15"]


# --- chapter 5: vectors

NAMES = ["tent", "boots", "guitar"]
S = [[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]
W = [[1.0, 0.0], [1.0, 1.0]]


def attended(s: list[list[float]], w: list[list[float]]) -> np.ndarray:
    """Shares and outputs of eq. 3-5 through the library, with P = Q = I: a row for each vector."""
    layer = SpaceAttention(2, sizes=[2])
    same, nothing = torch.eye(2), torch.zeros(2)
    maps = {f"{name}.weight": same for name in ("queries.map.0", "values.0")}
    biases = {f"{name}.bias": nothing for name in ("queries.map.0", "values.0")}
    layer.load_state_dict({**maps, **biases, "keys.weight": torch.tensor(w)})
    with torch.no_grad():
        packing = Packing.of(torch.zeros(3, dtype=torch.long), torch.arange(3), size=1)
        queries, keys, values = layer.project(torch.tensor(s))
        shares = layer.weights(packing.pad(queries), keys, packing)[0, 0]
        return torch.cat([shares, layer.attend(queries, keys, values, packing)], dim=1).numpy()


@pytest.fixture
def vectors(visit, tmp_path: Path) -> Any:
    def opened(viewport: dict[str, int] = DESKTOP, **settings: Any) -> tuple[Page, list[str]]:
        data = {"names": NAMES, "axes": ["outdoors", "music"], "S": S, "W": W}
        return visit(page_of(tmp_path, Play("vectors", data, TABLE)), viewport, **settings)

    return opened


def shown_vectors(page: Page) -> np.ndarray:
    return np.array([numbers(line) for line in said(page).split("\n")])


@needs_chromium
def test_shares_and_outputs_are_those_of_the_library(vectors):
    page, troubles = vectors()
    np.testing.assert_allclose(shown_vectors(page), attended(S, W), atol=0.006)
    rng = np.random.default_rng(0)
    for _ in range(6):
        s = (rng.integers(-10, 31, (3, 2)) / 10).tolist()
        w = (rng.integers(-20, 21, (2, 2)) / 10).tolist()
        for i, name in enumerate(NAMES):
            for j, axis in enumerate(("outdoors", "music")):
                page.get_by_label(f"Vectors S: {name}, {axis}").fill(str(s[i][j]))
        for i, has in enumerate(("outdoors", "music")):
            for j, asks in enumerate(("outdoors", "music")):
                page.get_by_label(f"Matrix W: has {has}, asks {asks}").fill(str(w[i][j]))
        np.testing.assert_allclose(shown_vectors(page), attended(s, w), atol=0.006)
        heat = [
            float(page.locator(f"[data-key='number {i} {j}']").text_content() or "") for i in range(3) for j in range(3)
        ]
        np.testing.assert_allclose(np.reshape(heat, (3, 3)), attended(s, w)[:, :3], atol=0.006)
    page.get_by_role("button", name="Start again").click()
    np.testing.assert_allclose(shown_vectors(page), attended(S, W), atol=0.006)
    assert not troubles


@needs_chromium
def test_a_vector_moves_with_the_arrow_keys(vectors):
    page, _ = vectors()
    page.get_by_label("Vectors S: tent, music").press("ArrowUp")
    np.testing.assert_allclose(shown_vectors(page), attended([[2, 0.1], *S[1:]], W), atol=0.006)


@needs_chromium
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_vector_is_dragged(vectors, viewport: dict[str, int]):
    page, troubles = vectors(viewport)
    handle = page.locator(".play-handle[data-key='2']").bounding_box()  # the guitar
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    zero, one = (page.locator(f"[data-key='x{v} number']").evaluate("n => +n.getAttribute('x')") for v in (0, 1))
    unit = one - zero
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + unit, y + unit, steps=4)
    page.mouse.up()
    page.mouse.move(x, y)  # nobody holds it any more
    assert page.get_by_label("Vectors S: guitar, outdoors").input_value() == "1"
    assert page.get_by_label("Vectors S: guitar, music").input_value() == "1"
    np.testing.assert_allclose(shown_vectors(page), attended([*S[:2], [1.0, 1.0]], W), atol=0.006)
    assert not troubles


@needs_chromium
def test_a_vector_is_dragged_by_a_finger(vectors):
    page, _ = vectors(PHONE, has_touch=True, is_mobile=True)
    box = page.locator(".play-handle[data-key='0']").bounding_box()  # the tent, at (2, 0)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    unit = (
        page.locator("[data-key='x1 number']").bounding_box()["x"]
        - page.locator("[data-key='x0 number']").bounding_box()["x"]
    )
    touch = page.context.new_cdp_session(page)
    for kind, step in (("touchStart", 0), ("touchMove", 0.3), ("touchMove", 0.7), ("touchMove", 1)):
        touch.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x - unit * step, "y": y - unit * step}]}
        )
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.get_by_label("Vectors S: tent, outdoors").input_value() == "1"
    assert page.get_by_label("Vectors S: tent, music").input_value() == "1"


# --- chapter 4: one weight, or one in each space


@needs_chromium
def test_what_the_weights_keep(visit, tmp_path: Path):
    first, second, wanted = np.array([[1.0, 0, 1, 0], [0, 1.0, 0, 1], [1.0, 0, 0, 1]])
    data = {"names": ["sneakers", "backpack"], "first": [1, 0, 1, 0], "second": [0, 1, 0, 1], "wanted": [1, 0, 0, 1]}
    page, troubles = visit(page_of(tmp_path, Play("weight", data, TABLE)))
    other = page.get_by_label("Weight of the sneakers for the kind")
    assert other.is_disabled()
    distances = []
    for step, text in enumerate(walk(page, page.get_by_label("Weight of the sneakers", exact=True))):
        mean = step / 100 * first + (1 - step / 100) * second
        *shown, distance, match = numbers(text)
        np.testing.assert_allclose(shown, [*mean, *wanted], atol=0.006)
        assert distance == pytest.approx(np.linalg.norm(mean - wanted), abs=0.006)
        assert match == pytest.approx(mean @ wanted, abs=0.006)
        distances.append(distance)
    assert min(distances) == pytest.approx(1, abs=0.006)  # one weight cannot come closer
    page.get_by_label("The kind gets a weight of its own").press("Space")
    other.press("Home")  # the color is the sneakers' by now, the kind the backpack's
    assert numbers(said(page))[-2:] == [0, 2]
    assert not troubles


# --- chapter 9: every set of behaviors erased


def leads_without(model: ATRank, histories: GroupedHistories, sample: Samples, candidates: torch.Tensor) -> list[float]:
    """The target's lead for every set of erased behaviors: number b of the history is erased where bit b is set."""
    batch = build_batch(histories, sample, candidates)
    leads = []
    with torch.no_grad():
        rows = model.project(batch)[batch.packing.order]
        for places in range(2 ** len(rows)):
            left = rows[[b for b in range(len(rows)) if not places >> b & 1]]
            packing = Packing.of(torch.zeros(len(left), dtype=torch.long), torch.arange(len(left)), size=1)
            scores = model.score(model.read(left, packing), batch.candidates).scores[0]
            leads.append(float(scores[0] - scores[1:].mean()))
    return leads


@needs_chromium
def test_without_a_behavior_the_lead_falls_as_erasure_says(visit, tmp_path: Path):
    histories, parts = prepare(a_log(), "validated")
    samples = parts.train["item"]  # their histories are short
    lengths = (samples.ends - torch.stack([g.offsets[samples.users] for g in histories.groups.values()], 1)).sum(1)
    sample = samples[(lengths >= 4) & (lengths <= 8)][:1]
    model, _ = a_model("atrank", histories, seed=3)
    candidates = fixed_candidates(histories, {"item": sample}, negatives=4)["item"]
    leads = leads_without(model, histories, sample, candidates)
    scale = 5 / max(map(abs, leads))  # an untrained model has small leads
    falls = scale * erasure(model, histories, sample, candidates)
    n = len(falls)
    assert len(leads) == 2**n
    behaviors = [{"group": "item", "what": f"behavior {b}", "age": 3600 * (b + 1)} for b in range(n)]
    hundredths = [round(100 * scale * lead) for lead in leads]
    data = {"target": "buy item1", "behaviors": behaviors, "hundredths": hundredths}
    page, troubles = visit(page_of(tmp_path, Play("erase", data, TABLE)))

    def shown() -> list[float]:
        return [numbers(page.locator(f"[data-key='fall {b}']").text_content() or "")[0] for b in range(n)]

    np.testing.assert_allclose(shown(), falls, atol=0.011)
    for b in range(n):
        box = page.get_by_role("checkbox", name=f"behavior {b}")
        box.press("Space")
        assert box.is_checked()
        text = said(page).split("\n")[0]
        assert text.startswith(f"Without behavior {b} the lead is")
        assert numbers(text)[-1] == pytest.approx(scale * leads[0] - falls[b], abs=0.011)
        box.press("Space")
    page.get_by_role("checkbox", name="behavior 0").press("Space")
    page.get_by_role("checkbox", name=f"behavior {n - 1}").press("Space")
    assert numbers(said(page).split("\n")[0])[-1] == pytest.approx(scale * leads[1 | 1 << (n - 1)], abs=0.006)
    assert not troubles


# --- on the pages of the book

PAGES = {
    "01_behaviors": "life",
    "03_time_encoding": "ages",
    "04_projection": "weight",
    "05_attention": "vectors",
    "08_multitask": "influence",
    "09_interpret": "erase",
    "10_honest": "negatives",
}


@pytest.fixture
def chapter(visit, project: Project) -> Any:
    def opened(name: str, viewport: dict[str, int] = DESKTOP, **settings: Any) -> tuple[Page, list[str]]:
        page, troubles = visit(project.html / f"{name}.html", viewport, **settings)
        return page, troubles

    return opened


@needs_chromium
def test_history_and_scorers_of_a_life(chapter):
    """A log simulated and split anew: what is history, and how many of the untouched objects a scorer puts below."""
    page, troubles = chapter("01_behaviors")
    market = simulate(MarketplaceConfig(users=2000, seed=0))
    log, histories = market.log, GroupedHistories.from_log(market.log)
    parts = split(histories, "validated")
    asked = 0
    for text in walk(page, page.get_by_label("Now: just before behavior")):
        found = re.search(r"Next: (\w+) ((item|query|coupon)\d+)\. (.*)$", text)
        assert found, text
        action, object_id, group, verdict = found.groups()
        table = log.events[group]
        data = json.loads(page.locator(".play script").text_content() or "")
        users = [
            set(log.events[b["group"]].query("object_id == @b['what'].split()[1]")["user_id"])
            for b in data["behaviors"][:8]
        ]
        (user,) = set.intersection(*users)
        touched = table[table["user_id"] == user]
        number = list(histories.groups).index(group)
        day = int(numbers(text)[0])
        start = min(t.loc[t["user_id"] == user, "timestamp"].min() for t in log.events.values())
        days = ((touched["timestamp"] - start) / 86_400).round()
        row = touched.index[(touched["object_id"] == object_id) & (touched["action"] == action) & (days == day)][0]
        samples = [getattr(parts, part)[group] for part in ("train", "validation", "test")]
        mine = [s[histories.groups[group].rows[s.positions] == row] for s in samples]
        mine = [s for s in mine if len(s)]
        if not mine:
            assert verdict == f"no sample: nothing of group {group} came before"
            continue
        (sample,) = mine
        starts = torch.stack([g.offsets[sample.users[0]] for g in histories.groups.values()])
        counts = (sample.ends[0] - starts).tolist()
        assert numbers(text.split("\n")[0])[1:] == [sum(counts), *counts]
        others = ~torch.isin(
            torch.arange(len(histories.catalogs[group])),
            histories.groups[group].objects[starts[number] : histories.groups[group].offsets[sample.users[0] + 1]],
        )
        rows = torch.cat([sample.objects, others.nonzero()[:, 0]])[None]
        popular = popularity(histories, sample, rows, parts.train[group])[0].numpy()
        truth = market.truth.scores(log, group, np.array([row]), rows.numpy())[0]
        before = histories.groups[group].objects[starts[number] : sample.ends[0, number]]
        truth[0] += bool(torch.isin(sample.objects, before))
        share = [((s[1:] < s[0]) + 0.5 * (s[1:] == s[0])).mean() for s in (popular, truth)]
        shown = [n / 100 for n in numbers(verdict)]
        assert [shown[0], shown[2]] == pytest.approx(share, abs=0.0051), text
        asked += 1
    assert asked > 15
    assert not troubles


@needs_chromium
def test_what_influence_is_worth_is_what_the_records_say(chapter):
    page, troubles = chapter("08_multitask")
    names = ("_cross_influence_0", "_cross_influence_0_3", "", "_cross_influence_3")
    for name, text in zip(names, walk(page, page.get_by_label("Cross influence")), strict=True):
        folder = recorded(f"table5/simulated_marketplace{name}")
        assert folder
        table = table5(read_table(folder))
        for line, group in zip(text.split("\n"), ("item", "query", "coupon"), strict=True):
            one, best = table.loc[("one2one", group)], table.loc[("all2one", group)]
            assert line.startswith(f"{group}: ")
            shown = numbers(line.replace("one2one", "").replace("all2one", ""))
            assert shown == pytest.approx([one["AUC"], best["AUC"], best["AUC"] + best["missing"]], abs=0.00051)
            label = page.locator(f".play-stage [data-key='{group}']").text_content() or ""
            assert numbers(label) == pytest.approx(list(best[["gain", "low", "high"]]), abs=0.00051)
    assert not troubles


@needs_chromium
def test_recall_falls_as_the_binomial_says(chapter):
    """The share of users whose positive is among ten, in expectation over ranks: no draw is made here."""
    page, troubles = chapter("10_honest")
    above = np.arange(10_000)  # of all other objects, how many rank higher
    specialist = 0.3 * (above < 10) / 10 + 0.7 / 10_000
    all_rounder = ((above >= 10) & (above < 1_999)) / 1_989
    leaders = []
    for text in walk(page, page.get_by_label("Negatives drawn")):
        first, leader = text.split("\n")
        drawn = 9_999 if "all of them" in first else int(numbers(first)[0])
        hits = (above < 10) if drawn == 9_999 else binom.cdf(9, drawn, above / 9_999)
        expected = [(specialist * hits).sum(), (all_rounder * hits).sum()]
        assert numbers(first)[-2:] == pytest.approx(expected, abs=0.03), text  # 4,000 users were drawn
        leaders.append(leader.split(" leads")[0])
    assert "The all-rounder" in leaders
    assert leaders[-1] == "The specialist"  # they have changed places
    assert not troubles


@needs_chromium
@pytest.mark.parametrize("name", PAGES)
def test_a_chapter_s_play(chapter, project: Project, name: str):
    """It is there once, small, in the place of what it stands for, and paper and pages without scripts keep that."""
    html = (project.html / f"{name}.html").read_text()
    (play,) = BeautifulSoup(html, "html.parser").select(".play")
    assert play["data-play"] == PAGES[name]
    shared = sum((STATIC / file).stat().st_size for file in ("play.js", "play.css"))
    assert shared + len(str(play)) < MOST_BYTES
    page, troubles = chapter(name)
    instead = (
        f"#{play['data-figure']} > :not(figcaption, .play-stage)" if "data-figure" in play.attrs else ".play table"
    )
    stage, before = page.locator(".play-stage"), page.locator(instead).first
    assert stage.is_visible()
    assert before.is_hidden()
    page.emulate_media(media="print")
    assert stage.is_hidden()
    assert before.is_visible()
    still, _ = chapter(name, java_script_enabled=False)
    assert still.locator(instead).first.is_visible()
    assert still.locator(".play-stage").count() == 0
    assert not troubles


@needs_chromium
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", PAGES)
def test_a_play_fits_and_can_be_read(chapter, name: str, viewport: dict[str, int]):
    page, troubles = chapter(name, viewport, color_scheme="dark")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'", timeout=10_000)
        stage = page.locator(".play-stage")
        stage.scroll_into_view_if_needed()
        edge = stage.bounding_box()
        texts = stage.locator("svg text").evaluate_all(
            """nodes => nodes.filter(n => n.textContent).map(n => {
                const box = n.getBoundingClientRect();
                return [n.textContent, box.left, box.right, parseFloat(getComputedStyle(n).fontSize)];
            })"""
        )
        assert texts
        for text, left, right, size in texts:
            assert left >= edge["x"] - 1, text
            assert right <= edge["x"] + edge["width"] + 1, text
            assert size >= SMALLEST, text
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        for paint, background in stage.evaluate(PAINTS):
            assert ratio(paint, background) >= 4.5, (scheme, paint, background)
    assert not troubles


# The color of every text of a drawing, and what it stands on: the page, or the mark of the group that it is written on.
PAINTS = """stage => {
    const ground = getComputedStyle(document.documentElement).getPropertyValue("--pst-color-background");
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = ground;
    const page = getComputedStyle(probe).color;
    probe.remove();
    return [...stage.querySelectorAll("svg text")].filter(n => n.textContent).map(n => {
        const fill = getComputedStyle(n).fill;
        const under = n.previousElementSibling;
        return [fill, fill === page && under?.tagName === "rect" ? getComputedStyle(under).fill : page];
    });
}"""


def ratio(ink: str, ground: str) -> float:
    """WCAG's contrast of two colors as a browser writes them."""
    one, other = ([float(c) / 255 for c in re.findall(r"[\d.]+", color)[:3]] for color in (ink, ground))
    return contrast(one, other)


@needs_chromium
@pytest.mark.parametrize("name", PAGES)
def test_every_control_has_a_name_and_shows_its_focus(chapter, name: str):
    page, _ = chapter(name)
    controls = page.locator(".play-stage").locator("input:not([disabled]), button")
    assert controls.count() > 1
    controls.first.focus()
    for number in range(controls.count()):
        node = controls.nth(number)
        assert node.evaluate("n => n === document.activeElement"), number  # the tab key goes through all, in order
        assert node.evaluate("n => getComputedStyle(n).outlineStyle") != "none"
        assert node.evaluate("n => n.getAttribute('aria-label') || n.labels?.[0]?.textContent || n.textContent")
        page.keyboard.press("Tab")
    assert page.locator(".play-stage svg[role=img][aria-label]").count() == 1


@needs_chromium
@pytest.mark.parametrize(("motion", "seconds"), [("reduce", {"0s"}), ("no-preference", {"0.25s"})])
def test_nothing_moves_for_those_who_ask(chapter, motion: str, seconds: set[str]):
    page, _ = chapter("08_multitask", reduced_motion=motion)
    marks = page.locator(".play-stage svg circle")
    times = marks.evaluate_all("ns => ns.flatMap(n => getComputedStyle(n).transitionDuration.split(', '))")
    assert set(times) == seconds


def test_no_other_page_loads_the_script(project: Project):
    for file in ("play.js", "play.css"):
        pages = {path.stem for path in project.html.glob("*.html") if f"_static/{file}" in path.read_text()}
        assert pages == set(PAGES)
