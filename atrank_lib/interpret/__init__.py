"""What a trained model looked at: attention, erasure and gradients, behavior by behavior."""

from atrank_lib.interpret.attribution import erasure, gradient
from atrank_lib.interpret.explanation import Explanation, attention, explain, spaces_of

__all__ = ["Explanation", "attention", "erasure", "explain", "gradient", "spaces_of"]
