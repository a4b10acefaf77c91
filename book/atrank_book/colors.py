"""The colors of the book, in the light and in the dark: figures, map and live model take theirs from this one table.

Groups of behaviors, semantic spaces and models have colors of their own, and ATRank the one that strikes. Each is
readable as text on its panel (WCAG's 4.5:1), and those of one kind stay apart for color-blind readers. The hues are
the same in both modes; they were searched under these conditions, near those of Okabe and Ito (2008).
"""

from __future__ import annotations

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
