"""The colors of the book, in the light and in the dark: figures, map and live model take theirs from this one table.

Groups of behaviors, semantic spaces and models have colors of their own, and ATRank the one that strikes. Each is
readable as text on its panel (WCAG's 4.5:1), and those of one kind stay apart for color-blind readers. The hues are
the same in both modes; they were searched under these conditions, near those of Okabe and Ito (2008).
"""

from __future__ import annotations

import re

# Name: (on light, on dark). `faint` is for grids and grounds alone, which nothing has to be read from.
COLORS = {
    "panel": ("#fbfaf7", "#1d2126"),
    "raised": ("#efece5", "#2c3239"),
    "ink": ("#2b2b2b", "#e6e2d9"),
    "muted": ("#5d5a54", "#b9b4aa"),
    "faint": ("#d8d5ce", "#3f464f"),
    "group-item": ("#04316c", "#7c84ca"),
    "group-query": ("#9b3902", "#ffb369"),
    "group-coupon": ("#0f815f", "#4bb792"),
    "group-other-1": ("#a34d85", "#f387c4"),
    "group-other-2": ("#4c2e00", "#b28a5c"),
    "group-other-3": ("#6041ab", "#b08fff"),
    "space-1": ("#002854", "#b3c5ff"),
    "space-2": ("#4c5100", "#989d35"),
    "space-3": ("#134f29", "#4eb87e"),
    "space-4": ("#7a234f", "#da84a6"),
    "space-5": ("#3073b5", "#398cdd"),
    "space-6": ("#a26155", "#d16f5a"),
    "space-7": ("#886c16", "#fed77f"),
    "space-8": ("#686d7d", "#8495c7"),
    "model-atrank": ("#c30f3f", "#f4767f"),
    "model-bi-lstm": ("#496a76", "#67acc3"),
    "model-bi-lstm-attention": ("#773d9d", "#c68be8"),
    "model-cnn": ("#174c15", "#aaee98"),
    "model-din": ("#7e7300", "#a49430"),
    "model-bst": ("#207a9d", "#8fd7fc"),
    "model-wide-deep": ("#252327", "#c3bfc6"),
    "model-bpr-mf": ("#62344f", "#b37a9a"),
}
# Colors that a figure is about: the same in both modes, and 3:1 on either panel.
MIDDLE = {
    "red": "#d0393b",
    "green": "#2c8a4b",
    "blue": "#4273d0",
    "violet": "#94549c",
    "teal": "#2f8391",
    "ocher": "#a3702a",
}
LIGHT = {name: light for name, (light, _) in COLORS.items()}
DARK = {name: dark for name, (_, dark) in COLORS.items()}


def named(prefix: str) -> dict[str, str]:
    """The light colors whose names begin with `prefix` and a hyphen, without it."""
    return {name.removeprefix(f"{prefix}-"): light for name, light in LIGHT.items() if name.startswith(f"{prefix}-")}


def stylesheet() -> str:
    """The table as variables of CSS, --panel, --group-item, --space-1, ..., for pages that set `data-theme`."""
    rules = []
    for selector, colors in ((":root", LIGHT), ('html[data-theme="dark"]', DARK)):
        lines = "".join(f"  --{name}: {color};\n" for name, color in colors.items())
        rules.append(f"{selector} {{\n{lines}}}\n")
    return "".join(rules)


INK_ON_CELLS = ("#010101", "#ffffff")  # for pure black, matplotlib would write no color
COLOR = re.compile(r"(?<=: )#[0-9a-f]{6}\b")
# A number in a cell of a heat map: id of its group, what follows up to its color, and that color.
ON_CELL = re.compile(
    r'(<g id="on-([0-9a-f]{6})-([01]\.\d+)-[^"]*">\s*(?:<!--.*?-->\s*)?<g )style="fill: #[0-9a-f]{6}"', re.S
)


def in_the_dark(svg: str) -> str:
    """A figure as matplotlib writes it, from colors on light to those on dark.

    Raises ValueError where it holds a color that is not in the table.
    """
    dark = dict(COLORS.values()) | {color: color for color in (*MIDDLE.values(), *INK_ON_CELLS)}

    def turned(match: re.Match[str]) -> str:
        if match[0] not in dark:
            raise ValueError(f"the color {match[0]} is not in the table of atrank_book.colors")
        return dark[match[0]]

    def number(match: re.Match[str]) -> str:
        cell = mixed(DARK["panel"], dark[f"#{match[2]}"], float(match[3]))
        return f'{match[1]}style="fill: {ink_on(cell)}"'

    return ON_CELL.sub(number, COLOR.sub(turned, svg))


def mixed(ground: str, color: str, share: float) -> str:
    """A color laid over a ground, `share` of it."""
    pairs = zip(channels(ground), channels(color), strict=True)
    return "#" + "".join(f"{round(255 * (a + share * (b - a))):02x}" for a, b in pairs)


def channels(color: str) -> list[float]:
    return [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def luminance(color: str) -> float:
    """Relative luminance as WCAG defines it."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ink_on(cell: str) -> str:
    """The one of the two inks for cells that can be read on this one: 4.5:1 at least, whatever its color."""
    return INK_ON_CELLS[luminance(cell) < 0.1798]
