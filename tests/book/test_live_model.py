"""The live model in a real browser: its numbers are PyTorch's, and the page can be used by anyone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page

from atrank_book.colors import LIGHT
from atrank_book.live import batch_of, rounded
from atrank_book.page import browser_document, document_text
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret import explain
from atrank_lib.model import ATRank
from atrank_lib.samples import prepare
from tests.book.chromium import CHROMIUM, PHONE
from tests.book.contrast import contrast, luminance
from tests.models import VARIANTS, a_log, fitting
from tests.serve.pages import a_model, random_behaviors
from tools.project import ROOT, Project

LAPTOP = {"width": 1366, "height": 768}
SCRIPT = ROOT / "book" / "_static" / "live_model.js"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CHROMIUM")


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


@pytest.mark.parametrize("way", [way for way in VARIANTS if way != "summed" and not way.startswith("original")])
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


def test_colors_are_those_of_the_book(visit, tmp_path: Path, histories):
    page, _ = visit(page_of(tmp_path, browser_document(a_model("atrank", histories)[0], histories, [])))
    colors = page.evaluate("atrankLive.colors")
    assert {name for name in LIGHT if name.startswith(("group", "space"))} < set(colors)
    assert colors == {name: LIGHT[name] for name in colors}


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
    def open_page(viewport: dict[str, int] = LAPTOP, link: str = "", **settings: Any) -> tuple[Page, list[str]]:
        return visit(project.html / "live_model.html", viewport, link, **settings)

    return open_page


STATUS = re.compile(r"scores (−?\d+\.\d\d), rank (\d+) of \d+\.")


def said(page: Page) -> tuple[float, int]:
    """Score and rank of the target, as the page says them."""
    text = page.locator("#atrank-live [role=status]").inner_text()
    found = STATUS.search(text)
    assert found, text
    return float(found[1].replace("−", "-")), int(found[2])


def score(page: Page) -> float:
    return said(page)[0]


def behaviors(page: Page) -> int:
    return page.locator("#atrank-live .atl-behavior").count()


def examples(page: Page) -> list[dict[str, Any]]:
    return json.loads(page.locator("#atrank-live-data").text_content() or "")["examples"]


def test_the_page_starts_with_the_first_example(live, project: Project):
    page, troubles = live()
    found = examples(page)
    assert len(found) == 7
    assert len({example["label"] for example in found}) == len({example["user"] for example in found}) == 7
    assert behaviors(page) == len(found[0]["behaviors"])
    assert (project.html / "live_model.html").stat().st_size < 400_000
    assert not troubles


def test_the_rank_moves_as_torch_says_when_the_cause_is_removed(live):
    """PyTorch wrote the ranks into the document; the page computes its own."""
    page, troubles = live()
    for number, example in enumerate(examples(page)):
        page.get_by_label("Start from").select_option(index=number)
        assert said(page)[1] == example["rank"]
        cause = example["causes"][-1][0]
        page.locator(".atl-behavior").nth(cause).get_by_role("button").click()
        assert said(page)[1] == example["erased"]
    assert all(example["erased"] > example["rank"] for example in examples(page)[:-1])  # Nora was not chosen
    default = examples(page)[0]
    assert default["rank"] <= 10
    assert default["erased"] > 3 * default["rank"]
    assert not troubles


def test_objects_have_names_not_numbers(live):
    page, _ = live()
    shown = page.locator("#atrank-live").inner_text()
    assert not re.search(r"\b(item|query|coupon|shop|brand|category|type|word|user)\d", shown)


def test_planted_causes_are_shown_on_demand(live):
    page, troubles = live()
    example = examples(page)[0]
    place, feature = example["causes"][-1]
    part = page.locator(".atl-user")
    assert "caused" not in part.inner_text()
    page.get_by_role("button", name="Show causes").click()
    assert page.locator(".atl-cause").count() == 1
    assert page.locator(".atl-cause .atl-number").inner_text() == str(place + 1)
    assert f"was caused by behavior {place + 1}: the same {feature}." in part.inner_text()
    for number, (cause, shared) in enumerate(example["causes"][:-1]):
        text = page.locator(".atl-behavior").nth(number).inner_text()
        if cause is None:
            assert "caused by an older behavior" in text
        elif cause < 0:
            assert "caused by nothing before" in text
        else:
            assert f"caused by behavior {cause + 1}: the same {shared}" in text
    page.locator(".atl-cause").get_by_role("button").click()
    assert f"was caused by one that you removed: the same {feature}." in part.inner_text()
    assert page.locator(".atl-cause").count() == 0
    page.get_by_label("Target", exact=True).select_option("new")
    assert "This target never happened" in part.inner_text()
    page.get_by_role("button", name="Show causes").click()
    assert "caused" not in part.inner_text()
    assert not troubles


# --- the link


def kept(page: Page) -> str:
    """The state in the address, once it is there."""
    page.wait_for_timeout(400)  # it is written a moment after the last change
    return page.url.partition("#")[2]


def state(page: Page) -> Any:
    return page.evaluate(
        "(({ behaviors, target, result, causes }) => [behaviors, target, result.scores, causes])(atrankLive.view)"
    )


def test_the_address_carries_what_is_seen(live):
    page, troubles = live()
    assert kept(page) == ""
    page.get_by_label("Start from").select_option(index=2)
    assert kept(page) == "live?user=Cleo"
    page.get_by_role("button", name="Remove behavior 2,").click()
    page.get_by_label(re.compile("Action of behavior")).first.select_option("buy")
    page.locator(".atl-behavior input[type=range]").nth(3).fill("4")
    page.get_by_label("Add a behavior on").select_option("query")
    page.get_by_label("Object", exact=True).select_option("new")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_label("Rank objects of").select_option("coupon")
    page.get_by_role("button", name="Show causes").click()
    link, before = kept(page), state(page)
    page.reload(wait_until="load")
    assert state(page) == before
    assert kept(page) == link
    other, more = live(link=f"#{link}")
    assert state(other) == before
    other.evaluate("location.hash = '#live?user=Ben'")  # somebody pastes another link
    other.wait_for_function("atrankLive.view.example.label.startsWith('Ben')")
    other.get_by_label("Start from").select_option(index=0)
    assert kept(other) == ""
    assert not troubles + more


def test_a_page_without_examples_has_links_too(visit, tmp_path: Path, histories):
    document = browser_document(a_model("atrank", histories)[0], histories, [])
    page, _ = visit(page_of(tmp_path, document), link="#live?target=0.1&behaviors=0.0.1.1.60")
    assert page.evaluate("[atrankLive.view.target, atrankLive.view.behaviors]") == [
        {"group": 0, "object": 1},
        [{"id": 0, "group": 0, "action": 1, "object": 1, "elapsed": 60}],
    ]


def test_an_anchor_of_the_page_stands_for_a_state(live):
    """Chapters point to these with a plain reference, which every format of the book can follow."""
    page, troubles = live(link="#live-user-dora")
    anchors = page.locator("main [id^=live-]").evaluate_all("nodes => nodes.map((node) => node.id)")
    assert len(anchors) > 5
    for anchor in anchors:
        if anchor == "live-model":
            continue  # the page itself
        page.evaluate("anchor => { location.hash = `#${anchor}` }", anchor)
        _, key, value = anchor.split("-")
        page.wait_for_function("link => location.hash.toLowerCase() === link", arg=f"#live?{key}={value}")
        assert not page.get_by_role("note").is_visible()
        if key == "tour":
            assert f"Step {value} of 6" in page.locator(".atl-tour").inner_text()
    assert not troubles


BROKEN = [
    *("user=Nobody", "tour=7", "tour=-1", "causes=yes", "color=red", "target=0", "target=0.99999", "target=0.1.2"),
    *("target=9.0", "behaviors=99", "behaviors=1_1", "behaviors=20.0.0.1", "behaviors=20.0.9.1.60", "behaviors=x"),
    *("behaviors=20.9.0.1.60", "behaviors=20.0.0.1.1e3", "behaviors=0__1", "user=%F0%28"),
]


def test_a_link_that_makes_no_sense_is_ignored_and_says_so(live):
    page, troubles = live()
    start = state(page)
    note = page.get_by_role("note")
    assert not note.is_visible()
    for broken in BROKEN:
        page.evaluate("link => { location.hash = link }", f"#live?{broken}")
        note.wait_for(state="visible", timeout=5000)
        assert state(page) == start, broken
        page.get_by_role("button", name="Undo all").click()
        assert not note.is_visible()
    other, more = live(link=f"#live?{BROKEN[0]}")
    assert other.get_by_role("note").is_visible()
    plain, _ = live(link="#try-this")  # of another part of the page
    assert not plain.get_by_role("note").is_visible()
    assert kept(plain) == "try-this"
    assert not troubles + more


# --- the tour


def test_the_tour_goes_by_keyboard(live):
    page, troubles = live(reduced_motion="reduce")
    page.get_by_role("button", name="Tour").focus()
    page.keyboard.press("Enter")
    card = page.locator(".atl-tour")
    parts = []
    for step in range(1, 7):
        assert card.evaluate("node => node === document.activeElement")
        assert f"Step {step} of 6" in card.inner_text()
        assert card.get_by_role("link").get_attribute("href").startswith(f"0{step}_")
        assert kept(page) == f"live?tour={step}"
        box = card.bounding_box()
        assert 0 <= box["y"] < 768 - box["height"]  # at once, without motion
        parts.append(card.evaluate("node => node.closest('section').className"))
        outlined = page.evaluate(
            """() => [...document.querySelectorAll("#atrank-live *")].filter((node) => node !== document.activeElement)
                .filter((node) => getComputedStyle(node).outlineStyle === "solid").length"""
        )
        assert outlined >= 1
        page.keyboard.press("ArrowRight")
    assert len(set(parts)) == 3
    assert "Step 6 of 6" in card.inner_text()  # the last stays
    page.keyboard.press("ArrowLeft")
    assert "Step 5 of 6" in card.inner_text()
    card.get_by_role("button", name="Next").click()
    most = page.evaluate(
        "atrankLive.view.result.targetAttention.reduce((a, w) => a.map((x, i) => x + w[i] / 4), Array(12).fill(0))"
    )
    assert f"{round(100 * max(most))}\u00a0%" in card.inner_text()
    page.keyboard.press("Escape")
    assert card.count() == 0
    assert kept(page) == ""
    assert "Tour" in page.evaluate("document.activeElement.textContent")
    assert not troubles


def test_the_tour_starts_from_a_link_and_follows_changes(live):
    page, troubles = live(link="#live?user=Nora&tour=6")
    card = page.locator(".atl-tour")
    before = card.inner_text()
    assert "Step 6 of 6" in before
    page.get_by_role("button", name=re.compile("Remove behavior")).nth(3).click()
    assert card.inner_text() != before
    page.get_by_role("button", name="Forget everything").click()
    assert "Nothing is known" in card.inner_text()
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
    page.get_by_role("button", name="Undo all").click()
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
    for number in range(7):
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
    assert page.locator(".atl-words", has_text=re.compile(f"^{other} ")).count() > 0


def test_the_cause_loses_its_hold_when_it_ages(live):
    """The second experiment: the target's score falls, and the target looks less at its cause."""
    page, _ = live()
    place = examples(page)[0]["causes"][-1][0]
    look = f"atrankLive.view.result.targetAttention.reduce((sum, w) => sum + w.at({place}), 0)"
    before, attention = score(page), page.evaluate(look)
    page.locator(".atl-behavior input[type=range]").nth(place).focus()
    page.keyboard.press("End")
    assert score(page) < before
    assert page.evaluate(look) < attention


def test_a_laptop_shows_the_ranking_beside_the_history(live):
    page, _ = live(LAPTOP)
    history, ranking = (page.locator(f".atl-{part}").bounding_box() for part in ("user", "target"))
    assert history["x"] + history["width"] <= ranking["x"]
    assert history["width"] > 500
    assert ranking["width"] > 400
    page.locator("#atrank-live").evaluate("node => node.scrollIntoView()")
    for number in (0, 5, behaviors(page) - 1):
        slider = page.locator(".atl-behavior input[type=range]").nth(number)
        slider.evaluate("node => node.scrollIntoView({ block: 'nearest' })")
        for part in ("[role=status]", ".atl-target ol"):
            box = page.locator(f"#atrank-live {part}").bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= LAPTOP["height"], (number, part)
    page.locator(".atl-readout").scroll_into_view_if_needed()
    looking, maps = (page.locator(f".atl-{part}").bounding_box() for part in ("looking", "self"))
    assert looking["y"] + looking["height"] <= maps["y"]
    tops = [page.locator(".atl-map").nth(number).bounding_box()["y"] for number in range(4)]
    assert len(set(tops)) == 1


@pytest.mark.parametrize("viewport", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_nothing_lies_over_the_score(live, viewport: dict[str, int]):
    page, _ = live(viewport)
    for number in (0, 6):
        page.locator(".atl-behavior").nth(number).scroll_into_view_if_needed()
        page.mouse.wheel(0, -40)  # the theme's button comes when one scrolls back
        page.wait_for_timeout(200)
        assert page.evaluate(
            """() => {
                const status = document.querySelector("#atrank-live [role=status]");
                const { left, top, width, height } = status.getBoundingClientRect();
                const at = (x) => document.elementFromPoint(left + x * width, top + height / 2);
                return [0.02, 0.25, 0.5, 0.75, 0.98].every((x) => status.contains(at(x)));
            }"""
        )


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
    controls.first.focus()
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
@pytest.mark.parametrize("viewport", [PHONE, LAPTOP], ids=["phone", "laptop"])
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
    page.get_by_role("button", name="Show causes").click()
    page.get_by_role("button", name="Tour").click()
    texts = (
        "h2, p, label, button, select, small, .atl-words > span, .atl-name, .atl-num, .atl-head, .atl-age, .atl-number"
    )
    text = painted(page, f"#atrank-live :is({texts}, .atl-caption, .atl-tour a)", "color")
    assert len(text) > 100
    assert not [(what, found) for what, *found in text if contrast(*found) < 4.5]
    for name, marks, paint in (
        ("stripes of groups", ".atl-number", "borderLeftColor"),
        ("bars", ".atl-bar > i", "backgroundColor"),
        ("the start's mark", ".atl-bar > b:not([hidden])", "backgroundColor"),
        ("swatches of spaces", ".atl-swatch", "backgroundColor"),
        ("the tour's border", ".atl-tour", "borderLeftColor"),
    ):
        found = painted(page, marks, paint)
        assert found
        assert min(contrast(*pair) for _, *pair in found) >= 3, name
    assert not troubles


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_part_is_light_in_the_dark_or_dark_in_the_light(live, scheme: str):
    page, _ = live(color_scheme=scheme)
    ground = [
        luminance(back)
        for _, _, back in painted(page, "#atrank-live, #atrank-live :is(section, ol, div, p, svg)", "color")
    ]
    assert len(ground) > 20
    assert max(ground) < 0.05 if scheme == "dark" else min(ground) > 0.8


def painted(page: Page, selector: str, paint: str) -> list[tuple[str, list[float], list[float]]]:
    """Of all that is shown: what it is, and its color and that of what is behind it, as painted, in 0..1."""
    found = page.locator(selector).evaluate_all(
        """(nodes, paint) => {
            const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
            const channels = (color) => {
                canvas.clearRect(0, 0, 1, 1);
                canvas.fillStyle = color;
                canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data];
            };
            const behind = (node) => {
                for (let at = node; at; at = at.parentElement) {
                    const color = channels(getComputedStyle(at).backgroundColor);
                    if (color[3] === 255) return color;
                }
                return [255, 255, 255, 255];
            };
            return nodes.filter((node) => node.checkVisibility()).map((node) => {
                const color = channels(getComputedStyle(node)[paint]);
                const name = `${node.tagName}.${node.getAttribute("class")}`;
                return [name, color, behind(paint === "backgroundColor" ? node.parentElement : node)];
            });
        }""",
        paint,
    )

    return [(name, *([value / 255 for value in color] for color in pair)) for name, *pair in found]


def test_motion_is_left_out_for_those_who_ask(live):
    page, _ = live(reduced_motion="reduce")
    assert page.locator(".atl-bar > i").first.evaluate("node => getComputedStyle(node).transitionDuration") == "0s"


def test_without_javascript_the_page_says_so(live, visit, project: Project):
    page, _ = visit(project.html / "live_model.html", java_script_enabled=False)
    assert "needs JavaScript" in page.locator("#atrank-live").inner_text()
    assert page.locator("figure img:visible").count() == 1


def test_no_other_page_loads_the_scripts(project: Project):
    pages = [path.name for path in project.html.glob("*.html") if 'src="_static/live_' in path.read_text()]
    assert pages == ["live_model.html"]
