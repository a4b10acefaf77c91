"""One color language for the whole book, and the style its figures share.

The colors are those of `colors.py`: a behavior group keeps its own through the book, as the paper's composite
colors (Figure 1) do, a semantic space has one of eight atomic ones, and a model has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from atrank_book.colors import LIGHT, ink_on, mixed, named
from atrank_book.narrow import both

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PANEL, INK, MUTED, FAINT = (LIGHT[name] for name in ("panel", "ink", "muted", "faint"))
GROUPS = {name: color for name, color in named("group").items() if not name.startswith("other")}
OTHER_GROUPS = tuple(named("group-other").values())
SPACES = tuple(named("space").values())
MODELS = named("model")

_assigned: dict[str, str] = {}


def group_color(name: str) -> str:
    """The color of a behavior group.

    The paper's groups have fixed ones. Any other name takes the next of OTHER_GROUPS when first asked for and
    keeps it (they repeat after three), so ask in the schema's order.
    """
    if name in GROUPS:
        return GROUPS[name]
    if name not in _assigned:
        _assigned[name] = OTHER_GROUPS[len(_assigned) % len(OTHER_GROUPS)]
    return _assigned[name]


def space_color(k: int) -> str:
    """The color of semantic space k, counted from 0; they repeat after eight."""
    if k < 0:
        raise ValueError(f"semantic spaces are counted from 0, not {k}")
    return SPACES[k % len(SPACES)]


def use_style() -> None:
    """Set matplotlib's defaults for the book, and sharp, reproducible SVG in notebooks."""
    matplotlib.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.facecolor": PANEL,
            "axes.facecolor": PANEL,
            "savefig.facecolor": PANEL,
            "figure.constrained_layout.use": True,
            "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": FAINT,
            "grid.linewidth": 0.6,
            "lines.linewidth": 2,
            "legend.frameon": False,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.prop_cycle": cycler(color=[*GROUPS.values(), *OTHER_GROUPS]),
            "svg.hashsalt": "attention over behaviors",  # the same element ids in every run
        }
    )
    if matplotlib.get_backend().endswith("backend_inline"):
        from IPython.core.getipython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})  # else PNG comes along, and the time of the day
        shell = get_ipython()
        assert shell  # the backend is that of a notebook
        assert shell.display_formatter
        formatter = shell.display_formatter.mimebundle_formatter
        formatter.for_type(Figure, both)


def direct_label(ax: Axes, x: float, y: float, text: str, color: str) -> None:
    """Write `text` just right of the point (x, y), in the color of what it names: no legend to look up."""
    ax.annotate(
        text,
        (x, y),
        xytext=(6, 0),
        textcoords="offset points",
        color=color,
        va="center",
        annotation_clip=False,
    )


def named_line(
    ax: Axes, value: float, name: str, *, at: float = 1.0, side: str = "left", style: str = "--", width: float = 1
) -> None:
    """Draw a vertical line of reference through all of a panel, and write beside it what it stands for.

    Args:
        at: height of the name, as a share of the panel's; at 1 it stands above the line's end, in its middle.
        side: of the line, on which the name stands elsewhere.
    """
    ax.axvline(value, color=INK, linestyle=style, linewidth=width)
    above = at >= 1
    ax.annotate(
        name,
        (value, at),
        xycoords=ax.get_xaxis_transform(),
        xytext=(0, 2) if above else (-4 if side == "left" else 4, 0),
        textcoords="offset points",
        ha="center" if above else "right" if side == "left" else "left",
        va="bottom" if above else "center",
        fontsize=9,
        annotation_clip=False,
    )


def heatmap(
    ax: Axes,
    matrix: ArrayLike,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    color: str = INK,
    low: float = 0.0,
    high: float | None = None,
    fmt: str | None = ".2f",
) -> None:
    """Draw a matrix as shades of one color: the panel's at `low`, full at `high` (default: the maximum).

    `rows` and `columns` name the entries; `fmt` prints each number into its square, None prints none. Raises
    ValueError when the names do not match the matrix.
    """
    values = np.asarray(matrix, dtype=float)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"heatmap: a matrix of shape {values.shape} with {len(rows)} row and {len(columns)} column names"
        )
    top = values.max() if high is None else high
    shares = np.clip((values - low) / (top - low), 0, 1)
    # Opacity, not a mixed color: the dark variant lays the same share over its own panel.
    shades = LinearSegmentedColormap.from_list("shades", [to_rgba(color, 0), to_rgba(color, 1)])
    ax.pcolormesh(shares, cmap=shades, vmin=0, vmax=1, edgecolors=PANEL, linewidth=1)
    place = ax.figure.axes.index(ax)
    for (row, column), share in np.ndenumerate(shares) if fmt is not None else ():
        ink = ink_on(mixed(PANEL, color, share))
        text = format(values[row, column], fmt or "")
        number = ax.text(column + 0.5, row + 0.5, text, color=ink, ha="center", va="center")
        number.set_gid(f"on-{to_hex(color)[1:]}-{share:.4f}-{place}-{row}-{column}")
    ax.set(aspect="equal", xticks=np.arange(len(columns)) + 0.5, yticks=np.arange(len(rows)) + 0.5)
    ax.set_xticklabels(list(columns))
    ax.set_yticklabels(list(rows))
    ax.set_ylim(len(rows), 0)  # not invert_yaxis, which turns an axis that panels share once for each
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.tick_params(length=0, rotation=0)


def plain_log_ticks(axis: Axis) -> None:
    """Mark a logarithmic axis at 1, 2, 5, 10, ... and write the numbers out."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def model_color(name: str) -> str:
    """The color of a model; INK for one that is not in the table."""
    return MODELS.get(name, INK)


def label_lines(ax: Axes, ends: Mapping[str, tuple[float, float]], gap: float, colors: Mapping[str, str]) -> None:
    """Write the names of lines in a column right of their ends (x, y), each at its end's height.

    Names that would come closer than `gap` in y are pushed apart, their mean stays. A dotted line leads from an end
    left of the column to its name.
    """
    right = max(x for x, _ in ends.values())
    order = sorted(ends, key=lambda name: ends[name][1])
    blocks: list[tuple[float, int]] = []  # names that touch: their mean height, their number
    for name in order:
        mean, count = ends[name][1], 1
        while blocks and mean - blocks[-1][0] < gap * (count + blocks[-1][1]) / 2:
            below, more = blocks.pop()
            mean, count = (mean * count + below * more) / (count + more), count + more
        blocks.append((mean, count))
    places = [mean + gap * (i - (count - 1) / 2) for mean, count in blocks for i in range(count)]
    for name, place in zip(order, places, strict=True):
        x, y = ends[name]
        if x < right:
            ax.plot([x, right], [y, place], color=colors[name], linewidth=0.8, linestyle=":")
        direct_label(ax, right, place, name, colors[name])


def learning_curves(curves: pd.DataFrame, models: Sequence[str] | None = None) -> Figure:
    """AUC against samples seen, and against seconds: one line a model, the mean over seeds.

    Args:
        curves: columns model, seed, epoch, samples, seconds, AUC.
        models: which to show; all by default.
    """
    names = list(dict.fromkeys(curves["model"])) if models is None else list(models)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4), sharey=True)
    for ax, column, unit in ((axes[0], "samples", 1e6), (axes[1], "seconds", 60)):
        ends = {}
        for name in names:
            mean = curves[curves["model"] == name].groupby("epoch")[[column, "AUC"]].mean()
            x = mean[column] / unit
            ax.plot(x, mean["AUC"], color=model_color(name), linewidth=2.6 if name == "atrank" else 1.3)
            ends[name] = (float(x.iloc[-1]), float(mean["AUC"].iloc[-1]))
        shown = curves.loc[curves["model"].isin(names), "AUC"]
        low, high = shown.min(), shown.max()
        label_lines(ax, ends, (high - low) / 14, {name: model_color(name) for name in names})
    axes[0].set(xlabel="samples seen, in millions", ylabel="validation AUC")
    axes[1].set(xlabel="minutes of processor time")
    return figure


def sketch(model: str) -> Figure:
    """A diagram of how a model turns five behaviors and a target into a score, beside that of ATRank."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 2.3))
    for ax, name in zip(axes, (model, "atrank"), strict=True):
        sketch_on(ax, name)
    return figure


def sketch_on(ax: Axes, model: str) -> None:
    """The diagram of one model; time runs to the right."""
    ax.set(title=model, xlim=(-0.7, 8.4), ylim=(-1.3, 1.75))
    ax.axis("off")
    color = model_color(model)
    places = [(x, 0.0) for x in range(5)]
    target, user, score = (5.6, 0.0 if model == "bst" else -0.75), (5.6, 0.75), (7.6, 0.0)
    boxes: dict[tuple[float, float], FancyBboxPatch | None] = {}

    def box(place: tuple[float, float], text: str, edge: str, shape: str) -> None:
        look = {"boxstyle": f"{shape},pad=0.35", "facecolor": PANEL, "edgecolor": edge, "linewidth": 1.3}
        boxes[place] = ax.text(*place, text, ha="center", va="center", fontsize=12.5, bbox=look).get_bbox_patch()

    def arrow(
        start: tuple[float, float], end: tuple[float, float], width: float = 1.4, bend: float = 0.0, style: str = "-|>"
    ) -> None:
        """From the edge of one box to that of the other, or from a bare point."""
        ax.annotate(
            "",
            end,
            start,
            arrowprops={
                "arrowstyle": style,
                "color": color,
                "linewidth": width,
                "patchA": boxes.get(start),
                "patchB": boxes[end],
                "shrinkA": 2,
                "shrinkB": 2,
                "connectionstyle": f"arc3,rad={bend}",
            },
        )

    for i, place in enumerate(places):
        box(place, f"$s_{i + 1}$", INK, "circle")
    box(target, "target", INK, "round")
    box(score, "score", INK, "round")
    label = {"bpr-mf": "user id", "wide-deep": "mean", "cnn": "maximum"}.get(model, "user")
    if model != "bst":
        box(user, label, color, "round")
        arrow(user, score)
    arrow(target, score)
    weights = {
        "din": (0.7, 3.4, 0.7, 2.2, 4.2),
        "bi-lstm-attention": (0.7, 2.8, 0.7, 1.6, 3.6),
        "atrank": (0.7, 3.0, 0.7, 1.8, 3.8),
    }
    if model in ("bi-lstm", "bi-lstm-attention"):
        for left, right in pairwise(places):
            arrow(left, right, 1.2, -0.35)
            arrow(right, left, 1.2, -0.35)
    if model == "bi-lstm":
        arrow(places[-1], user)
        arrow(places[0], user, 1.4, -0.3)
    if model == "wide-deep":
        for place in places:
            arrow(place, user, 1.0, -0.15)
        arrow(target, places[2], 1.0, -0.3)
        ax.text(2.0, -0.95, "counts of what they share", ha="center", color=color, fontsize=10)
    if model in weights:
        for place, width in zip(places, weights[model], strict=True):
            arrow(place, user, width, -0.15)
        arrow(target, user, 1.0)
    if model == "cnn":
        for first, last, y in ((0, 1, -0.5), (1, 2, -0.62), (2, 4, -0.5)):
            ax.plot([first - 0.3, first - 0.3, last + 0.3, last + 0.3], [y + 0.12, y, y, y + 0.12], color=color)
        arrow((2.6, 0.25), user, 1.4, -0.15)
    if model in ("bst", "atrank"):
        everything = [*places, target] if model == "bst" else places
        for i, start in enumerate(everything):
            for end in everything[i + 1 :]:
                arrow(start, end, 0.8, -0.35 if model == "bst" else 0.4, "-")
    if model == "bst":
        arrow(places[-1], score, 1.2, -0.25)
