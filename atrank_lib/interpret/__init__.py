"""What a trained model looked at: attention, erasure and gradients, behavior by behavior, and whom they suspect."""

from atrank_lib.interpret.attention import attention, spaces_of, table4
from atrank_lib.interpret.causes import agreement, caused, detector_auc, detectors, judge, planted, shares, suspects
from atrank_lib.interpret.erasure import erasure, gradient
from atrank_lib.interpret.explain import Explanation, explain

__all__ = [
    "Explanation",
    "agreement",
    "attention",
    "caused",
    "detector_auc",
    "detectors",
    "erasure",
    "explain",
    "gradient",
    "judge",
    "planted",
    "shares",
    "spaces_of",
    "suspects",
    "table4",
]
