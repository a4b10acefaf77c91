"""Figures for phones and for the dark: what is drawn, what stands in the page, and whether all of it can be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from atrank_book import figures
from atrank_book.colors import DARK, LIGHT, MIDDLE, in_the_dark, ink_on, mixed
from atrank_book.narrow import NARROW, WIDTH, both, narrow, narrowed
from atrank_book.narrow import svg as drawing_of
from tests.book.test_figures import contrast
from tools.project import Project

SMALLEST = 11  # pixels, on a phone
# Text and marks of a drawing, each with its size, its color, and the color of what lies under it. Glyphs are paths
# here; matplotlib draws them for a font of 100 units.
MEASURE = """() => {
  const svg = document.querySelector("svg");
  const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const over = (color, share, ground) => ground.map((g, i) => Math.round(g + share * (color[i] - g)));
  const hex = (color) => "#" + color.map((v) => v.toString(16).padStart(2, "0")).join("");
  const paints = (e) => {
    const s = getComputedStyle(e), found = [];
    let all = 1;
    for (let a = e; a !== svg; a = a.parentNode) all *= Number(getComputedStyle(a).opacity);
    if (/^rgb/.test(s.fill) && e.tagName !== "line") found.push([rgb(s.fill), all * Number(s.fillOpacity), "fill"]);
    if (/^rgb/.test(s.stroke)) found.push([rgb(s.stroke), all * Number(s.strokeOpacity), "stroke"]);
    return found;
  };
  const isGlyph = (e) => e.tagName === "use" && /^#(DejaVu|STIX|Cm)/.test(e.getAttribute("xlink:href") || "");
  const glyphs = [...svg.querySelectorAll("use")].filter(isGlyph);
  const texts = new Map();
  for (const glyph of glyphs) {
    const group = glyph.closest("g[id]");
    const m = glyph.getScreenCTM(), size = 100 * Math.hypot(m.c, m.d);
    if (!texts.has(group)) texts.set(group, {size, glyph});
    texts.get(group).size = Math.min(texts.get(group).size, size);
  }
  const ground = (x, y) => {
    let color = [255, 255, 255];
    const below = document.elementsFromPoint(x, y).filter((e) => svg.contains(e) && !isGlyph(e) && e.tagName !== "svg");
    for (const e of below.reverse())
      for (const [paint, share, kind] of paints(e)) if (kind === "fill") color = over(paint, share, color);
    return color;
  };
  const words = [...texts].map(([group, {size, glyph}]) => {
    const box = glyph.getBoundingClientRect();
    const under = ground(box.x + box.width / 2, box.y + box.height / 2);
    const [paint, share] = paints(glyph)[0];
    const name = document.createTreeWalker(group, NodeFilter.SHOW_COMMENT).nextNode();
    return {text: (name || {data: group.id}).data.trim(), size, ink: hex(over(paint, share, under)), under: hex(under)};
  });
  const marks = [];
  for (const e of svg.querySelectorAll("path, use"))
    if (!isGlyph(e) && !e.closest("defs") && !e.closest("[id^=QuadMesh]"))
      for (const [paint, share] of paints(e)) marks.push([hex(paint), share]);
  return {words, marks: [...new Map(marks.map((m) => [m.join(), m])).values()]};
}"""


def faults(page: Page, svg: str, width: float, mode: dict[str, str], least: float = 0) -> list[str]:
    """What cannot be read in a drawing shown so wide: text below `least` pixels, faint text, faint marks."""
    drawing = re.sub(r"^.*?(?=<svg)", "", svg, flags=re.S)
    drawing = re.sub(
        r'(<svg [^>]*?)width="[^"]*" height="[^"]*"|(<svg [^>]*?)height="[^"]*"', r"\1\2", drawing, count=1
    )
    drawing = re.sub(r'<svg ([^>]*?)width="[\d.]+pt"', r"<svg \1", drawing, count=1)
    page.set_viewport_size({"width": 1400, "height": 3000})
    page.set_content(f"<body style='margin:0'><div style='width:{width}px'>{drawing}</div>")
    found: dict[str, Any] = page.evaluate(MEASURE)
    assert found["words"], "no text found: does matplotlib write glyphs in another way?"
    report = []
    for word in found["words"]:
        if word["size"] < least - 0.05:
            report.append(f"{word['text']!r} is {word['size']:.1f} px")
        if contrast(word["ink"], word["under"]) < 4.5:
            report.append(
                f"{word['text']!r} {word['ink']} on {word['under']}: {contrast(word['ink'], word['under']):.1f}"
            )
    grounds = {mode[name] for name in ("panel", "raised", "faint")}
    seen = {c for c, share in found["marks"] if contrast(mixed(mode["panel"], c, share), mode["panel"]) >= 3}
    for color, share in found["marks"]:  # a band around a line may be faint, and points behind their mean
        if color not in grounds | seen and share > 0:
            report.append(f"marks {color}, {share}: {contrast(mixed(mode['panel'], color, share), mode['panel']):.1f}")
    return report


@pytest.fixture(autouse=True)
def _own_settings():
    with matplotlib.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def two_panels() -> plt.Figure:
    fig, axes = plt.subplots(1, 2, figsize=(8, 2.5), sharey=True)
    for ax, group in zip(axes, ("item", "query"), strict=True):
        ax.plot([0, 1], [0, 1], color=figures.group_color(group))
        ax.set(xlabel="samples", title=f"the {group}s, " + "with a title that is much too long for a phone " * 2)
    axes[0].set_ylabel("AUC")
    return fig


def test_a_narrow_figure_has_its_panels_below_each_other_and_larger_letters():
    fig = two_panels()
    before = fig.get_size_inches().tolist(), [ax.get_position().bounds for ax in fig.axes], len(plt.get_fignums())
    copy = narrowed(fig)
    first, second = (ax.get_position() for ax in copy.axes)
    assert first.y0 > second.y1
    assert first.x0 == pytest.approx(second.x0)
    assert copy.get_figwidth() == WIDTH
    assert [ax.get_ylabel() for ax in copy.axes] == ["AUC", "AUC"]
    assert all(label.get_visible() for label in copy.axes[1].get_yticklabels())
    assert "\n" in copy.axes[0].get_title(loc="left")
    now = fig.get_size_inches().tolist(), [ax.get_position().bounds for ax in fig.axes], len(plt.get_fignums())
    assert before == now


def test_a_figure_says_how_it_becomes_narrow():
    fig = two_panels()
    fig.axes[1].set_title("")
    narrow(fig, columns=2, height=2.8, tune=lambda copy: copy.axes[0].set_title("short", loc="left"))
    copy = narrowed(fig)
    first, second = (ax.get_position() for ax in copy.axes)
    assert first.x1 < second.x0
    assert copy.get_figheight() == 2.8
    assert copy.axes[0].get_title(loc="left") == "short"


def test_marks_of_an_axis_that_touch_are_thinned_and_names_turned():
    fig, (numbers, names) = plt.subplots(1, 2)
    numbers.set(xlim=(0, 30), xticks=range(0, 31))
    names.bar([f"the name number {i}" for i in range(9)], range(9))
    copy = narrowed(fig)
    assert 4 <= len(copy.axes[0].get_xticks()) <= 16
    assert [label.get_text() for label in copy.axes[1].get_xticklabels()] == [f"the name number {i}" for i in range(9)]
    assert {label.get_rotation() for label in copy.axes[1].get_xticklabels()} == {90}


def test_both_drawings_are_the_same_bytes_each_time():
    assert both(two_panels()) == both(two_panels())


def test_a_dark_drawing_has_every_color_of_the_light_one_turned():
    svg = drawing_of(two_panels())
    light, dark = (set(re.findall(r": (#[0-9a-f]{6})", text)) for text in (svg, in_the_dark(svg)))
    names = {name for name, color in LIGHT.items() if color in light}
    assert {"panel", "ink", "faint", "group-item", "group-query"} == names
    assert dark == {DARK[name] for name in names}


def test_a_color_of_no_table_is_refused():
    fig, ax = plt.subplots()
    ax.plot([0, 1], color="#123456")
    with pytest.raises(ValueError, match="#123456 is not in the table"):
        in_the_dark(drawing_of(fig))


@pytest.mark.parametrize("mode", [LIGHT, DARK], ids=["light", "dark"])
def test_numbers_in_cells_can_be_read_on_every_shade(mode):
    for color in mode.values():
        for share in np.linspace(0, 1, 101):
            cell = mixed(mode["panel"], color, float(share))
            assert contrast(ink_on(cell), cell) >= 4.5


@pytest.mark.parametrize("color", MIDDLE.values(), ids=MIDDLE)
def test_what_a_figure_is_about_keeps_its_color_and_is_seen_on_both_panels(color):
    assert contrast(color, LIGHT["panel"]) >= 3
    assert contrast(color, DARK["panel"]) >= 3
    assert in_the_dark(f"fill: {color}") == f"fill: {color}"


def test_the_measure_finds_what_cannot_be_read(browser: Browser):
    """The gate itself: a drawing with small letters, faint words and marks, and a heat map that is fine."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(6, 3))
    left.text(0.5, 0.5, "tiny", fontsize=4)
    left.text(0.2, 0.8, "faint", color=figures.INK, alpha=0.4)
    left.plot([0, 1], [0, 1], color=figures.GROUPS["item"], alpha=0.2)
    figures.heatmap(right, np.linspace(0, 1, 9).reshape(3, 3), rows=list("abc"), columns=list("xyz"))
    page = browser.new_page()
    svg = drawing_of(fig)
    for drawing, mode in ((svg, LIGHT), (in_the_dark(svg), DARK)):
        found = faults(page, drawing, 576, mode, least=8)
        assert [text.split()[0] for text in found] == ["'tiny'", "'faint'", "marks"]
    page.close()


# What can be played with stands in a figure's place; on paper, and where there are no scripts, it is the figure.
IMAGES = """() => {
  for (const place of document.querySelectorAll("figure.play-live")) place.classList.remove("play-live");
  return Promise.all([...document.querySelectorAll("a.figure-larger")].map(async (link) => {
  const [shown, ...others] = [...link.querySelectorAll("img")].filter((image) => image.checkVisibility());
  shown.loading = "eager";
  await shown.decode();
  return [shown.currentSrc, shown.clientWidth, others.length];
}))}"""


def test_every_figure_of_the_book_can_be_read_on_a_phone_and_in_the_dark(project: Project, browser: Browser):
    """All figures as they stand in the pages: size of text, contrast of text and marks, width of the page."""
    report, seen = [], 0
    page, bench = browser.new_page(), browser.new_page()
    page.route("**/mathjax/**", lambda route: route.abort())  # no figure waits for a formula
    page.add_init_script("localStorage.setItem('theme', 'dark'); localStorage.setItem('mode', 'dark')")
    with_figures = [path for path in sorted(project.html.glob("*.html")) if "_images/" in path.read_text()]
    for path in with_figures:
        images = re.findall(r'<img [^>]*src="_images/[^"]*"[^>]*>', path.read_text())
        assert len(images) == 2 * path.read_text().count('class="figure-larger"'), (
            f"{path.name}: a figure without variants"
        )
        page.goto(path.as_uri())
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        for mode, colors in (("dark", DARK), ("light", LIGHT)):
            page.evaluate(f"document.documentElement.dataset.theme = '{mode}'")
            for width in (390, 1366):
                page.set_viewport_size({"width": width, "height": 900})
                for source, shown, others in page.evaluate(IMAGES):
                    name = Path(source).name
                    assert not others
                    assert ("-narrow" in name, "-dark" in name) == (width == 390, mode == "dark")
                    svg = (project.html / "_images" / name).read_text()
                    seen += 1
                    least = SMALLEST if width == 390 else 9
                    report += [
                        f"{path.stem}, {name[:6]}, {width}, {mode}: {f}"
                        for f in faults(bench, svg, shown, colors, least)
                    ]
    assert seen >= 4 * 50
    assert not report, "\n".join(report)


def test_no_drawing_tells_the_time(project: Project):
    """Else no two builds would be the same."""
    assert not [path.name for path in project.notebooks.glob("*.ipynb") if "dc:date" in path.read_text()]


def test_a_figure_opens_by_keyboard_and_closes_by_escape(project: Project, browser: Browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((project.html / "04_projection.html").as_uri())
    link = page.locator("a.figure-larger").first
    link.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.figure-dialog")
    assert dialog.locator("img:visible").count() == 1
    assert dialog.locator("img:visible").bounding_box()["width"] > 700  # type: ignore[index]
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert link.evaluate("link => link === document.activeElement")
    page.close()


def test_a_chapter_holds_each_figure_twice(project: Project):
    notebook = (project.notebooks / "04_projection.ipynb").read_text()
    assert notebook.count(f'"{NARROW}": "<?xml') == notebook.count('"image/svg+xml"') >= 3
