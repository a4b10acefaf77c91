"""The figure of `benchmarks.bench`: samples per second of every contender, a panel for each setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from atrank_book.figures import FAINT, model_color, use_style

COLUMNS = 4


def draw(rows: list[dict[str, Any]], models: dict[str, str], ours: set[str], file: Path) -> None:
    """Filled marks are ours, open ones are others'; lines reach from the slowest repeat to the fastest.

    Args:
        models: the model of every contender, which gives it its color.
    """
    use_style()
    frame = pd.DataFrame(rows)
    settings = list(dict.fromkeys(frame["setting"]))
    names = [name for name in reversed(list(models)) if name in set(frame["contender"])]
    columns = min(COLUMNS, len(settings))
    lines = -(-len(settings) // columns)
    size = (1.6 + 2.3 * columns, lines * (1.0 + 0.2 * len(names)))
    fig, axes = plt.subplots(lines, columns, figsize=size, sharey=True, squeeze=False)
    for ax in axes.flat[len(settings) :]:
        ax.set_visible(False)
    for ax, setting in zip(axes.flat, settings, strict=False):
        for row in frame[frame["setting"] == setting].to_dict("records"):
            name, color = row["contender"], model_color(models[row["contender"]])
            place = names.index(name)
            ax.plot([row["low"], row["high"]], [place, place], color=color)
            fill = color if name in ours else "white"
            ax.plot(row["samples_per_second"], place, "o", color=color, markerfacecolor=fill, zorder=3)
        ax.set_title(setting, fontsize=10)
        ax.set(xscale="log", xlabel="samples per second")
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.grid(axis="y", color=FAINT)
    fig.savefig(file, metadata={"Date": None})
    plt.close(fig)
