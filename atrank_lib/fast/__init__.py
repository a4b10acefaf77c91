"""Faster on a CPU, put in from outside: kernels in the place of layers, and steps that touch a batch's rows alone."""

from atrank_lib.fast.kernels import off, ready
from atrank_lib.fast.layers import plain, sped_up, speed_up
from atrank_lib.fast.row_updates import RowSteps

__all__ = ["RowSteps", "off", "plain", "ready", "sped_up", "speed_up"]
