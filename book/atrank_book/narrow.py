"""Every figure twice: as wide as its chapter draws it, and for a phone.

A notebook shows the wide drawing. The metadata of this output carry the narrow one along: the same figure with its
panels one below the other and larger letters. The site shows the one that fits the window.
"""

from __future__ import annotations

import io
import pickle
import re
import textwrap
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from matplotlib.axes import Axes
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter
from matplotlib.transforms import Bbox

NARROW = "narrow"
WIDTH = 3.6  # inches: a page on a phone
SMALLEST, LARGEST = 8.6, 10.0  # points
TALLEST = 3.0  # inches, of a panel
NOTHING = {"Date": None, "Creator": None, "Format": None, "Type": None}


class Way(NamedTuple):
    columns: int
    height: float | None
    tune: Callable[[Figure], object] | None


USUAL = Way(1, None, None)
_ways: WeakKeyDictionary[Figure, Way] = WeakKeyDictionary()


def narrow(
    figure: Figure,
    *,
    columns: int = 1,
    height: float | None = None,
    tune: Callable[[Figure], object] | None = None,
) -> None:
    """Say how a figure becomes narrow, where the usual way does not do.

    Args:
        columns: panels side by side.
        height: of each row of panels, in inches; by default as high as they are in the wide figure.
        tune: called with the narrow figure for what else has to change.
    """
    _ways[figure] = Way(columns, height, tune)


def both(figure: Figure) -> tuple[dict[str, str], dict[str, str]]:
    """What a notebook keeps of a figure: the wide drawing by its MIME type, and metadata with the narrow one."""
    return {"image/svg+xml": svg(figure)}, {NARROW: svg(narrowed(figure))}


def svg(figure: Figure) -> str:
    """The same bytes in every run, without what no reader sees: metadata, and digits below a hundredth of a point."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata=NOTHING)
    return re.sub(r'(?: (?:d|x|y)="|translate\()[^")]*', shorter, stream.getvalue())


def shorter(match: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), match[0])


def narrowed(figure: Figure) -> Figure:
    """A copy of the figure for a narrow page; the figure itself stays as it is."""
    way = _ways.get(figure, USUAL)
    manager, figure.canvas.manager = figure.canvas.manager, None  # else the copy would be shown as well
    try:
        copy: Figure = pickle.loads(pickle.dumps(figure))
    finally:
        figure.canvas.manager = manager
    copy.set_dpi(72)  # a pixel is a point
    stack(copy, way)
    for ax in copy.axes:
        for axis in (ax.xaxis, ax.yaxis):
            for which in ("major", "minor"):
                size = max([points(label) for label in axis.get_ticklabels(which=which)], default=LARGEST)
                axis.set_tick_params(which=which, labelsize=resized(size))
    for text in copy.findobj(Text):
        small = re.search(r"\$[^$]*[_^][^$]*\$", text.get_text())  # an index is drawn at 0.7 of the size
        text.set_fontsize(max(resized(points(text)), SMALLEST / 0.7 if small else 0))
    if way.tune:
        way.tune(copy)
    copy.draw_without_rendering()
    for legend in copy.legends:
        narrow_legend(copy, legend)
    for ax in copy.axes:
        wrap_titles(ax)
        thin_ticks(ax)
    return copy


def points(text: Text) -> float:
    return text.get_fontproperties().get_size_in_points()


def resized(size: float) -> float:
    return min(max(0.86 * size, SMALLEST), LARGEST) if size < 12 else size  # what is larger has a reason


def stack(figure: Figure, way: Way) -> None:
    """Put the panels one below the other (or in `columns`), and write again what neighbors shared."""
    if figure.get_figwidth() <= WIDTH and way == USUAL:
        return  # drawn for a phone already
    placed = [(ax, spec) for ax in figure.axes if (spec := ax.get_subplotspec())]
    if not placed:
        figure.set_size_inches(WIDTH, way.height or figure.get_figheight() * WIDTH / figure.get_figwidth())
        return
    wide = figure.get_figheight()
    heights: list[float] = []
    for place, (_, spec) in enumerate(placed):
        own = way.height or min(TALLEST, wide * len(spec.rowspan) / spec.get_gridspec().nrows)
        if place % way.columns:
            heights[-1] = max(heights[-1], own)
        else:
            heights.append(own)
    grid = GridSpec(len(heights), way.columns, figure=figure, height_ratios=heights)
    figure.set_size_inches(WIDTH, sum(heights))
    for place, (ax, _) in enumerate(placed):
        ax.set_subplotspec(grid[divmod(place, way.columns)])
        shared = ax.get_shared_y_axes().get_siblings(ax)
        if len(shared) > 1 and place % way.columns == 0 and ax.axison:
            ax.tick_params(labelleft=True)
            if not ax.get_ylabel():
                ax.set_ylabel(next((other.get_ylabel() for other in shared if other.get_ylabel()), ""))


def narrow_legend(figure: Figure, legend: Any) -> None:
    """Fewer columns, until the legend is no wider than the figure; matplotlib has no public way to lay it out anew."""
    size = max(points(text) for text in legend.get_texts())
    while legend.get_window_extent().width > figure.bbox.width and legend._ncols > 1:
        legend.set_ncols(legend._ncols - 1)
        legend._fontsize = size
        legend.prop.set_size(size)
        legend._init_legend_box(legend.legend_handles, [text.get_text() for text in legend.get_texts()])
        legend._legend_box.set_offset(legend._findoffset)
        figure.draw_without_rendering()


def wrap_titles(ax: Axes) -> None:
    """Break titles and axis labels that are longer than there is room."""
    figure = ax.get_figure()
    assert figure is not None
    page = figure.bbox
    for text, along in (
        (ax.title, "width"),
        (ax._left_title, "width"),  # type: ignore[attr-defined]
        (ax.xaxis.label, "width"),
        (ax.yaxis.label, "height"),
    ):
        words = text.get_text()
        middle = (ax.bbox.x0 + ax.bbox.x1) / 2
        room = page.width - ax.bbox.x0 if along == "width" else ax.bbox.height
        if text is ax.xaxis.label:
            room = 2 * min(middle, page.width - middle)
        length = getattr(text.get_window_extent(), along)
        if words and "\n" not in words and length > room:
            text.set_text(textwrap.fill(words, int(len(words) * room / length * 0.97), break_long_words=False))


def thin_ticks(ax: Axes) -> None:
    """Drop every second mark of a horizontal axis until none touches the next; turn names, which must all stay."""
    for _ in range(4):
        low, high = sorted(ax.get_xlim())
        marks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=False)  # without labels where another panel has them
        shown = [(x, label) for x, label in marks if label.get_visible() and label.get_text() and low <= x <= high]
        boxes = [label.get_window_extent() for _, label in shown]
        if not any(Bbox.intersection(a.padded(1.5), b.padded(1.5)) for a, b in pairwise(boxes)):
            return
        if isinstance(ax.xaxis.get_major_formatter(), FixedFormatter | FuncFormatter | StrCategoryFormatter):
            ax.tick_params(axis="x", labelrotation=90)
        else:
            ax.xaxis.set_major_locator(FixedLocator([x for x, _ in shown][::2]))
        figure = ax.get_figure(root=True)
        assert figure is not None
        figure.draw_without_rendering()
