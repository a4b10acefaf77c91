"""The palette is checked by measuring it: contrast, lightness, and what color-blind readers see."""

from __future__ import annotations

import io
import itertools
import re
from typing import cast

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Annotation

from atrank_book import figures
from atrank_book.colors import COLORS, stylesheet
from atrank_book.figures import (
    GROUPS,
    OTHER_GROUPS,
    direct_label,
    group_color,
    heatmap,
    named_line,
    plain_log_ticks,
    space_color,
)
from tests.book.contrast import contrast as contrast_of
from tests.book.contrast import linear
from tools.project import ROOT

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "typical": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a linear RGB color, white point D65."""
    xyz = TO_XYZ @ rgb / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colors as matplotlib names them."""
    return contrast_of(to_rgb(one), to_rgb(other))


def distance(one: str, other: str, vision: str) -> float:
    seen = [lab(np.clip(VISION[vision] @ linear(to_rgb(color)), 0, 1)) for color in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


@pytest.fixture(autouse=True)
def _own_settings():
    with matplotlib.rc_context():
        yield
    plt.close("all")


GROUND = ("panel", "raised", "faint")


def members(prefix: str, mode: int) -> dict[str, str]:
    return {name: both[mode] for name, both in COLORS.items() if name.startswith(prefix)}


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", [name for name in COLORS if name not in GROUND])
def test_every_color_can_be_read_on_the_panel(name, mode):
    assert contrast(COLORS[name][mode], COLORS["panel"][mode]) >= 4.5  # WCAG 1.4.3, text


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted"])
def test_text_can_be_read_on_what_is_raised(name, mode):
    assert contrast(COLORS[name][mode], COLORS["raised"][mode]) >= 4.5


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_colors_of_one_kind_stay_apart_for_every_reader(vision, mode):
    for kind, least in (("group", 16), ("space", 15.5), ("model", 13)):
        pairs = itertools.combinations(members(kind, mode).values(), 2)
        assert min(distance(a, b, vision) for a, b in pairs) >= least
    papers = [COLORS[f"group-{name}"][mode] for name in ("item", "query", "coupon")]
    assert min(distance(a, b, vision) for a, b in itertools.combinations(papers, 2)) >= 30
    atrank, *others = members("model", mode).values()
    assert min(distance(atrank, other, vision) for other in others) >= 20


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_groups_spaces_and_models_share_no_color(mode):
    kinds = [members(kind, mode).values() for kind in ("group", "space", "model")]
    for one, other in itertools.combinations(kinds, 2):
        assert min(distance(a, b, "typical") for a in one for b in other) >= 9.5


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_the_papers_groups_differ_in_grey(mode):
    lightness = sorted(lab(linear(to_rgb(COLORS[f"group-{name}"][mode])))[0] for name in ("item", "query", "coupon"))
    assert min(np.diff(lightness)) >= 10


def test_the_style_sheet_has_every_color_in_both_modes():
    light, dark = re.findall(r"\{(.*?)\}", stylesheet(), re.S)
    for text, mode in ((light, 0), (dark, 1)):
        assert dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text)) == {n: both[mode] for n, both in COLORS.items()}


def test_the_map_takes_every_color_from_the_table():
    drawing = (ROOT / "book" / "_static" / "model_map.svg").read_text()
    assert set(re.findall(r'(?:fill|stroke)="([^"]*)"', drawing)) <= {
        *("none", "transparent"),
        *(f"var(--{name})" for name in COLORS),
    }


def test_group_colors_are_fixed_and_kept(monkeypatch):
    monkeypatch.setattr(figures, "_assigned", {})
    assert {name: group_color(name) for name in GROUPS} == GROUPS
    others = [group_color(name) for name in ("campaign", "review", "campaign", "visit")]
    assert others == [OTHER_GROUPS[0], OTHER_GROUPS[1], OTHER_GROUPS[0], OTHER_GROUPS[2]]
    assert group_color("a seventh group") == OTHER_GROUPS[0]


def test_space_colors_repeat_after_eight():
    assert len(set(map(space_color, range(8)))) == 8
    assert space_color(8) == space_color(0)
    with pytest.raises(ValueError, match="counted from 0"):
        space_color(-1)


def draw() -> bytes:
    figures.use_style()
    fig, (left, right) = plt.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=group_color("item"))
    direct_label(left, 1, 1, "item", group_color("item"))
    heatmap(right, [[0.0, 0.5], [1.0, 0.25]], rows=["a", "b"], columns=["x", "y"], color=space_color(0))
    stream = io.BytesIO()
    fig.savefig(stream, format="svg", metadata={"Date": None})
    plt.close(fig)
    return stream.getvalue()


def test_the_same_figure_gives_the_same_bytes():
    assert draw() == draw()


def test_a_heatmap_shades_from_panel_to_color():
    figures.use_style()
    fig, ax = plt.subplots()
    heatmap(ax, [[0.0, 0.5], [1.0, 0.25]], rows=["a", "b"], columns=["x", "y"], color="#000000")
    fig.canvas.draw()
    faces = np.asarray(ax.collections[0].get_facecolor())[:, :3]
    np.testing.assert_allclose(faces, np.zeros((4, 3)), atol=0.01)  # one color,
    shares = np.asarray(ax.collections[0].get_facecolor())[:, 3]  # laid over the panel
    np.testing.assert_allclose(shares, [0, 0.5, 1, 0.25], atol=0.01)
    assert [text.get_text() for text in ax.texts] == ["0.00", "0.50", "1.00", "0.25"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.yaxis_inverted()  # the first row on top, as in a matrix


def test_the_first_row_is_on_top_also_where_panels_share_an_axis():
    _, axes = plt.subplots(2, 2, sharex=True, sharey=True)
    for ax in axes.flat:
        heatmap(ax, [[0.0, 1.0]], rows=["a"], columns=["x", "y"])
    assert all(ax.yaxis_inverted() for ax in axes.flat)


def test_a_logarithmic_axis_writes_its_numbers_out():
    fig, ax = plt.subplots()
    ax.set(xscale="log", xlim=(0.4, 60))
    plain_log_ticks(ax.xaxis)
    fig.canvas.draw()
    low, high = ax.get_xlim()
    shown = [
        label.get_text() for x, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True) if low <= x <= high
    ]
    assert shown == ["0.5", "1", "2", "5", "10", "20", "50"]


def test_a_heatmap_with_the_wrong_names_says_so():
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"shape \(1, 2\) with 2 row and 2 column names"):
        heatmap(ax, [[0.0, 0.5]], rows=["a", "b"], columns=["x", "y"])


def test_a_named_line_has_its_name_beside_it_or_above_its_end():
    fig, ax = plt.subplots()
    ax.set_xlim(0, 1)
    for at, side in ((1.0, "left"), (0.5, "left"), (0.5, "right")):
        named_line(ax, 0.5, f"{at} {side}", at=at, side=side)
    fig.canvas.draw()
    place = ax.transData.transform((0.5, 0))[0]
    above, left, right = (text.get_window_extent() for text in ax.texts)
    assert above.y0 >= ax.bbox.y1
    assert above.x0 < place < above.x1
    assert left.x1 < place < right.x0


def test_a_direct_label_stands_right_of_its_point():
    _, ax = plt.subplots()
    direct_label(ax, 0.5, 0.25, "item", "#000000")
    label = cast(Annotation, ax.texts[0])
    assert label.get_text() == "item"
    assert label.xy == (0.5, 0.25)
    assert label.get_color() == "#000000"


@pytest.mark.parametrize("model", [name for name in figures.MODELS if name != "atrank"])
def test_a_sketch_shows_behaviors_target_and_score(model):
    figure = figures.sketch(model)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"$s_1$", "$s_5$", "target", "score"} <= texts


@pytest.mark.parametrize("model", [name for name in figures.MODELS if name != "atrank"])
def test_no_arrow_of_a_sketch_runs_into_a_box(model):
    figures.use_style()
    figure = figures.sketch(model)
    figure.canvas.draw()
    texts = figure.axes[0].texts
    boxes = {text.get_text(): box for text in texts if (box := text.get_bbox_patch()) is not None}
    arrows = [text.arrow_patch for text in texts if isinstance(text, Annotation)]
    assert len(boxes) >= 7
    assert len(arrows) >= 2
    for arrow in arrows:
        assert arrow is not None
        points = np.concatenate(arrow.get_path().to_polygons(closed_only=False))
        assert not [
            name
            for name, box in boxes.items()
            if box.get_path().contains_points(box.get_transform().inverted().transform(points)).any()
        ]


def test_labels_of_lines_are_pushed_apart():
    _, ax = plt.subplots()
    figures.label_lines(ax, {"a": (1, 0.5), "b": (2, 0.5), "c": (2, 0.9)}, 0.1, dict.fromkeys("abc", "#000000"))
    places = {text.get_text(): cast(Annotation, text).xy for text in ax.texts}
    assert {x for x, _ in places.values()} == {2}
    assert {name: y for name, (_, y) in places.items()} == pytest.approx({"a": 0.45, "b": 0.55, "c": 0.9})
    (leader,) = ax.lines  # from the end of "a", left of the others', to its name
    assert np.asarray(leader.get_xydata()) == pytest.approx(np.array([[1, 0.5], [2, 0.45]]))


def test_pushing_labels_apart_may_touch_the_next_ones():
    _, ax = plt.subplots()
    ends = {"a": (1, 0.5), "b": (1, 0.5), "c": (1, 0.6), "d": (1, 0.1)}
    figures.label_lines(ax, ends, 0.1, dict.fromkeys("abcd", "#000000"))
    places = {text.get_text(): cast(Annotation, text).xy[1] for text in ax.texts}
    assert places == pytest.approx({"a": 1.6 / 3 - 0.1, "b": 1.6 / 3, "c": 1.6 / 3 + 0.1, "d": 0.1})
    assert not ax.lines


def test_learning_curves_are_means_over_seeds():
    curves = pd.DataFrame(
        [
            (model, seed, epoch, 1e6 * epoch, 60.0 * epoch, 0.5 + 0.1 * epoch + 0.02 * seed)
            for model in ("atrank", "cnn")
            for seed in (0, 1)
            for epoch in (1, 2)
        ],
        columns=["model", "seed", "epoch", "samples", "seconds", "AUC"],
    )
    figure = figures.learning_curves(curves)
    for ax in figure.axes:
        assert len(ax.lines) == 2
        assert np.asarray(ax.lines[0].get_xdata(), dtype=float).tolist() == pytest.approx([1, 2])
        assert np.asarray(ax.lines[0].get_ydata(), dtype=float).tolist() == pytest.approx([0.61, 0.71])
    assert [text.get_text() for text in figure.axes[0].texts] == ["atrank", "cnn"]
