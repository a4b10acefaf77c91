"""What a trained model looked at: attention, erasure, gradients."""

from atrank_lib.interpret.methods import *  # noqa: F403
