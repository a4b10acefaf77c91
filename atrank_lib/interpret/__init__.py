"""What a trained model looked at: attention, erasure and gradients, behavior by behavior, and whom they suspect."""

from atrank_lib.interpret.attribution import erasure, gradient
from atrank_lib.interpret.causes import agreement, caused, detector_auc, detectors, judge, planted, shares, suspects
from atrank_lib.interpret.explanation import Explanation, attention, explain, spaces_of, table4

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
