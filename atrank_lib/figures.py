"""One color language for the whole book, and the style its figures share.

A behavior group keeps its color through the book, as the paper's composite colors (Figure 1) do; a semantic
space has one of eight atomic ones. All come from the hues of Okabe and Ito (2008), darkened until each stands
out against the panel and all stay apart for color-blind readers; the paper's three groups differ in grey too.
Figures stand on a light panel of their own, so they look the same on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PANEL = "#fbfaf7"
INK = "#2b2b2b"
FAINT = "#d8d5ce"

GROUPS = {"item": "#00487f", "query": "#c24b00", "coupon": "#009e73"}
OTHER_GROUPS = ("#bf6ba0", "#51230b", "#1a1a1a")
SPACES = ("#033862", "#858911", "#077055", "#c7759e", "#4696de", "#51230b", "#675200", "#151515")

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
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", bbox_inches="tight", metadata={"Date": None})


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
    shades = LinearSegmentedColormap.from_list("shades", [to_rgb(PANEL), to_rgb(color)])
    sns.heatmap(
        values,
        ax=ax,
        cmap=shades,
        vmin=low,
        vmax=values.max() if high is None else high,
        annot=fmt is not None,
        fmt=fmt or "",
        square=True,
        cbar=False,
        linewidths=1,
        linecolor=PANEL,
        xticklabels=list(columns),
        yticklabels=list(rows),
    )
    ax.grid(False)
    ax.tick_params(length=0, rotation=0)
