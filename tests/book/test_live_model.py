"""The live model in a real browser: its numbers are PyTorch's, and the page can be used by anyone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from atrank_book.figures import GROUPS, INK, OTHER_GROUPS, PANEL, SPACES
from atrank_book.live import batch_of, rounded
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret import explain
from atrank_lib.model import ATRank
from atrank_lib.samples import prepare
from atrank_lib.serve.browser import browser_document, document_text
from tests.book.chromium import CHROMIUM, DESKTOP, PHONE
from tests.models import VARIANTS, a_log, fitting
from tests.serve.pages import a_model, random_behaviors
from tools.project import ROOT, Project

SCRIPT = ROOT / "book" / "_static" / "live_model.js"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CHROMIUM")


@pytest.fixture
def visit(browser: Browser) -> Iterator[Any]:
    """Open a file; the second value lists errors and whatever is asked of anybody else."""
    contexts = []

    def visit(file: Path, viewport: dict[str, int] = DESKTOP, **settings: Any) -> tuple[Page, list[str]]:
        context = browser.new_context(viewport=viewport, **settings)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(f"script error: {error}"))
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else troubles.append(r.url))
        page.goto(file.as_uri(), wait_until="load")
        return page, troubles

    yield visit
    for context in contexts:
        context.close()


def page_of(folder: Path, document: dict[str, Any]) -> Path:
    """The page that the book's chapter tells readers to make."""
    shutil.copy(SCRIPT, folder)
    (folder / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<div id="atrank-live"></div>'
        f'<script type="application/json" id="atrank-live-data">{document_text(document)}</script>'
        '<script src="live_model.js"></script>',
        encoding="utf-8",
    )
    return folder / "page.html"


# --- the numbers


@pytest.fixture(scope="module")
def histories() -> GroupedHistories:
    """What training showed, and objects that it did not show."""
    return prepare(a_log(), "validated")[0]


@pytest.fixture(scope="module")
def coupons() -> GroupedHistories:
    """One group alone, whose objects have ids: for the options that need them."""
    return GroupedHistories.from_log(a_log(5, ["coupon"]))


def compare(page: Page, model: ATRank, histories: GroupedHistories, behaviors: list[list[Any]], group: str) -> None:
    """Scores and all attention of the page and of PyTorch, for all objects of a group."""
    model = rounded(model)
    objects = [*range(len(histories.catalogs[group])), None]
    number = list(histories.groups).index(group)
    given = [dict(zip(("group", "action", "object", "elapsed"), behavior, strict=True)) for behavior in behaviors]
    found = page.evaluate("([b, g, o]) => atrankLive.run(atrankLive.model, b, g, o)", [given, number, objects])
    batch, order = batch_of(histories, behaviors, group, objects)
    explained, n = explain(model, batch), len(order)
    with torch.no_grad():
        scores = model(batch).scores[0]
    torch.testing.assert_close(torch.tensor(found["scores"], dtype=torch.float32), scores, atol=1e-4, rtol=1e-4)
    if not n:
        assert found["targetAttention"] == [[[]] * len(objects)] * len(model.target.attention.sizes)
        assert found["selfAttention"] == [[[]] * len(model.target.attention.sizes)] * len(model.blocks)
        return
    place = torch.tensor(np.argsort(order))  # from the page's order to the model's
    target = explained.target_attention[0][:, :, place]
    torch.testing.assert_close(torch.tensor(found["targetAttention"], dtype=torch.float32), target, atol=1e-4, rtol=0)
    assert len(found["selfAttention"]) == len(explained.self_attention)
    for layer, matrices in zip(found["selfAttention"], explained.self_attention, strict=True):
        torch.testing.assert_close(
            torch.tensor(layer, dtype=torch.float32), matrices[0][:, place][:, :, place], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("way", VARIANTS)
def test_the_page_computes_what_torch_computes(visit, tmp_path: Path, histories, coupons, way: str):
    histories = coupons if fitting(VARIANTS[way]) else histories
    model, _ = a_model(way, histories, seed=3)
    page, troubles = visit(page_of(tmp_path, browser_document(model, histories, [])))
    rng = np.random.default_rng(0)
    for group in histories.groups:
        for count in (0, 1, 2, 5, 20):
            compare(page, model, histories, random_behaviors(rng, histories, count), group)
    # an edge of a bucket, from below and from it
    edges = model.embedding("coupon").time.edges.tolist()
    if VARIANTS[way].get("time") == "continuous":
        edges = edges[:4]  # years, taken as raw numbers of days, are beyond the precision of torch's 32 bits
    coupon = list(histories.groups).index("coupon")
    compare(page, model, histories, [[coupon, 0, 1, edge - late] for edge in edges for late in (0, 1)], "coupon")
    assert not troubles


def test_a_page_of_three_groups_with_the_authors_choices(visit, tmp_path: Path, histories):
    model, _ = a_model("authors", histories)
    page, _ = visit(page_of(tmp_path, browser_document(model, histories, [])))
    for count in (0, 4, 9):
        compare(page, model, histories, random_behaviors(np.random.default_rng(count), histories, count), "item")


def test_behaviors_of_a_group_that_the_model_does_not_read(visit, tmp_path: Path, histories):
    torch.manual_seed(0)
    model = ATRank(histories.schema, histories.vocabularies, histories=["item", "query"]).eval()
    page, troubles = visit(page_of(tmp_path, browser_document(model, histories, [])))
    offered = page.get_by_label("Add a behavior on").locator("option").all_inner_texts()
    assert offered == ["item", "query"]
    assert page.get_by_label("Rank objects of").locator("option").all_inner_texts() == ["item", "query", "coupon"]
    with pytest.raises(Exception, match="reads no behaviors of group coupon"):
        page.evaluate("atrankLive.encode(atrankLive.model, [{group: 2, action: 0, object: 0, elapsed: 1}])")
    assert not troubles


def test_a_document_of_another_format_is_refused(visit, tmp_path: Path, histories):
    document = browser_document(a_model("atrank", histories)[0], histories, []) | {"format": "atrank-browser-0"}
    _, troubles = visit(page_of(tmp_path, document))
    assert len(troubles) == 1
    assert "a document of format atrank-browser-0, not atrank-browser-1" in troubles[0]


def test_colors_are_those_of_the_figures(visit, tmp_path: Path, histories):
    page, _ = visit(page_of(tmp_path, browser_document(a_model("atrank", histories)[0], histories, [])))
    assert page.evaluate("atrankLive.colors") == {
        "panel": PANEL,
        "ink": INK,
        "groups": GROUPS,
        "others": list(OTHER_GROUPS),
        "spaces": list(SPACES),
    }


def test_names_from_a_log_are_text_never_markup(visit, tmp_path: Path, histories):
    document = browser_document(a_model("atrank", histories)[0], histories, [])
    document["groups"][0]["objects"]["ids"][0] = "<img src=x onerror=alert(1)>"
    page, troubles = visit(page_of(tmp_path, document))
    page.get_by_role("button", name="Add", exact=True).click()
    assert page.locator("#atrank-live img").count() == 0
    assert not troubles


# --- the page of the book


@pytest.fixture
def live(visit, project: Project) -> Any:
    def open_page(viewport: dict[str, int] = DESKTOP, **settings: Any) -> tuple[Page, list[str]]:
        page, troubles = visit(project.html / "live_model.html", viewport, **settings)
        return page, troubles

    return open_page


def score(page: Page) -> float:
    text = page.locator("#atrank-live [role=status]").inner_text()
    found = re.search(r"scores (−?\d+\.\d\d), rank \d+ of \d+\.", text)
    assert found, text
    return float(found[1].replace("−", "-"))


def behaviors(page: Page) -> int:
    return page.locator("#atrank-live .atl-behavior").count()


def test_the_page_starts_with_the_numbers_of_torch(live, project: Project):
    page, troubles = live()
    document = json.loads(page.locator("#atrank-live-data").text_content())
    assert len(document["examples"]) == 6
    assert len({example["label"] for example in document["examples"]}) == 6
    assert behaviors(page) == len(document["examples"][0]["behaviors"])
    assert (project.html / "live_model.html").stat().st_size < 400_000
    assert not troubles


def test_a_behavior_more_or_less_changes_the_numbers(live):
    page, troubles = live()
    start, count = score(page), behaviors(page)
    page.get_by_role("button", name="Remove behavior 1,").click()
    assert behaviors(page) == count - 1
    after = page.evaluate("atrankLive.view.result.score")
    page.get_by_label("Add a behavior on").select_option("query")
    page.get_by_role("button", name="Add", exact=True).click()
    assert behaviors(page) == count
    assert page.evaluate("atrankLive.view.result.score") != after
    assert "Before your changes" in page.locator("#atrank-live [role=status]").inner_text()
    for number in range(4):
        assert page.locator("#atrank-live svg").nth(number).locator("rect").count() == count**2 + 2 * count + 1
    page.get_by_role("button", name="Undo all changes").click()
    assert score(page) == start
    page.get_by_role("button", name="Forget everything").click()
    assert behaviors(page) == 0
    assert "nothing to look at" in page.locator("#atrank-live").inner_text()
    assert not troubles


def test_attention_shown_adds_up(live):
    page, _ = live()
    assert page.evaluate(
        "atrankLive.view.result.targetAttention.every(w => Math.abs(w.reduce((a, b) => a + b) - 1) < 1e-9)"
    )
    shown = [int(text.removesuffix("\u00a0%")) for text in page.locator(".atl-look .atl-num").all_inner_texts()]
    assert len(shown) == behaviors(page)
    assert sum(shown) == pytest.approx(100, abs=len(shown) / 2)


def test_every_example_and_every_target_group(live):
    page, troubles = live()
    for number in range(6):
        page.get_by_label("Start from").select_option(index=number)
        assert behaviors(page) > 0
        score(page)
    for group in ("item", "query", "coupon"):
        page.get_by_label("Rank objects of").select_option(group)
        before = score(page)
        page.locator("#atrank-live .atl-score").first.click()  # the best becomes the target
        assert score(page) >= before
        assert page.locator("#atrank-live .atl-score[aria-pressed=true]").count() == 1
        page.get_by_label("Target", exact=True).select_option("new")
        score(page)
    assert not troubles


def test_actions_change_the_numbers(live):
    page, _ = live()
    before = page.evaluate("atrankLive.view.result.score")
    action = page.get_by_label(re.compile("Action of behavior")).first
    other = next(a for a in ("buy", "mark") if a != action.locator("option:checked").inner_text())
    action.select_option(other)
    assert page.evaluate("atrankLive.view.result.score") != before
    assert page.locator(".atl-behavior", has_text=f"{other} item").count() > 0


def test_the_first_experiment_works(live):
    """The first user's latest coupon loses its hold on the target when it ages."""
    page, _ = live()
    coupons = page.locator(".atl-behavior", has_text="receive coupon")
    slider = coupons.last.locator("input[type=range]")
    look = "atrankLive.view.result.targetAttention.reduce((sum, w) => sum + w.at(%d), 0)"
    place = int(coupons.last.locator(".atl-number").inner_text()) - 1
    before, attention = score(page), page.evaluate(look % place)
    slider.focus()
    page.keyboard.press("End")
    assert score(page) < before
    assert page.evaluate(look % place) < attention


def test_the_score_stays_in_sight(live):
    """On a phone the list and the score do not fit one screen; the score sticks to its edge."""
    page, _ = live(PHONE)
    page.locator(".atl-behavior").nth(1).scroll_into_view_if_needed()
    box = page.locator("#atrank-live [role=status]").bounding_box()
    assert box["y"] + box["height"] <= PHONE["height"] + 1
    slider = page.locator(".atl-behavior input[type=range]").nth(1)
    slider.focus()
    assert slider.bounding_box()["y"] < box["y"]


def test_everything_works_from_the_keyboard(live):
    page, troubles = live()
    count = behaviors(page)
    # every control is reached by the tab key, in the order of the page
    controls = page.locator("#atrank-live").locator("button, select, input, [tabindex='0']")
    page.get_by_label("Start from").focus()
    for number in range(controls.count()):
        assert controls.nth(number).evaluate("node => node === document.activeElement"), number
        outline = controls.nth(number).evaluate("node => getComputedStyle(node).outlineStyle")
        assert outline != "none"
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Remove behavior 2,").focus()
    page.keyboard.press("Enter")
    assert behaviors(page) == count - 1
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Remove behavior 2,")
    slider = page.locator(".atl-behavior input[type=range]").first
    slider.focus()
    before = page.evaluate("atrankLive.view.behaviors[0].elapsed"), slider.get_attribute("aria-valuetext")
    page.keyboard.press("Home")
    assert (page.evaluate("atrankLive.view.behaviors[0].elapsed"), slider.get_attribute("aria-valuetext")) != before
    assert slider.evaluate("node => node === document.activeElement")
    page.locator("#atrank-live svg").nth(1).focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert "In space 2, behavior 2" in page.locator(".atl-readout").inner_text()
    assert not troubles


def test_every_control_has_a_name(live):
    page, _ = live()
    names = (
        page.locator("#atrank-live")
        .locator("button, select, input")
        .evaluate_all(
            """nodes => nodes.map((node) => {
            const own = node.tagName === "BUTTON" ? node.textContent : "";
            return node.getAttribute("aria-label") || own || node.labels[0]?.textContent || "";
        })"""
        )
    )
    assert len(names) > 20
    assert all(name.strip() for name in names)
    assert page.locator("#atrank-live svg[role=img][aria-label]").count() == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_fits_and_can_be_read(live, viewport: dict[str, int], scheme: str):
    page, troubles = live(viewport, color_scheme=scheme, has_touch=viewport is PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    for _ in range(10):  # a long history
        page.get_by_role("button", name="Add", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    wide = page.evaluate(
        """() => {
            const right = (node) => node.getBoundingClientRect().right;
            const edge = right(document.querySelector("#atrank-live")) + 1;
            const inside = [...document.querySelectorAll("#atrank-live *:not(.atl-hidden)")];
            return inside.filter((node) => right(node) > edge).map((node) => node.outerHTML.slice(0, 80));
        }"""
    )
    assert not wide
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    for place in (
        "h3",
        "[role=status]",
        ".atl-words small",
        "select",
        ".atl-name",
        ".atl-readout",
        ".atl-number",
        ".atl-caption",
    ):
        assert contrast(page, f"#atrank-live {place}") >= 4.5, place
    assert not troubles


def contrast(page: Page, selector: str) -> float:
    """WCAG contrast of the first match's text with what is behind it."""
    colors = page.locator(selector).first.evaluate(
        """node => {
            const ink = getComputedStyle(node).color;
            for (let at = node; at; at = at.parentElement) {
                const paint = getComputedStyle(at).backgroundColor;
                if (!/^rgba\\(.*, 0\\)$|^transparent$/.test(paint)) return [ink, paint];
            }
            return [ink, "rgb(255, 255, 255)"];
        }"""
    )

    def luminance(color: str) -> float:
        channels = [float(c) / 255 for c in re.findall(r"[\d.]+", color)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(map(luminance, colors))
    return (light + 0.05) / (dark + 0.05)


def test_motion_is_left_out_for_those_who_ask(live):
    page, _ = live(reduced_motion="reduce")
    assert page.locator(".atl-bar > i").first.evaluate("node => getComputedStyle(node).transitionDuration") == "0s"


def test_without_javascript_the_page_says_so(live, visit, project: Project):
    page, _ = visit(project.html / "live_model.html", java_script_enabled=False)
    assert "needs JavaScript" in page.locator("#atrank-live").inner_text()
    assert page.locator("figure img").count() == 1


def test_no_other_page_loads_the_script(project: Project):
    pages = [
        path.name for path in project.html.glob("*.html") if '<script src="_static/live_model.js' in path.read_text()
    ]
    assert pages == ["live_model.html"]
