"""WCAG's contrast of two colors, for the tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def linear(color: Sequence[float]) -> np.ndarray:
    """Red, green and blue in 0..1 as amounts of light."""
    rgb = np.array(color[:3])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(color: Sequence[float]) -> float:
    return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(color))


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)
