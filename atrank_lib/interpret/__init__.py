"""What a trained model looked at: attention, erasure and gradients, behavior by behavior, and whom they suspect."""

from atrank_lib.interpret.attention import attention, spaces_of
from atrank_lib.interpret.erasure import erasure, gradient
from atrank_lib.interpret.explain import Explanation, explain

__all__ = [
    "Explanation",
    "attention",
    "erasure",
    "explain",
    "gradient",
    "spaces_of",
]
