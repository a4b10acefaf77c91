"""ATRank in PyTorch: a user is the list of what they did.

Read top to bottom, the names follow the data: an event log is read (``EventLog``), grouped
(``GroupedHistories``), cut into samples (``split``), embedded, projected, related by attention (``ATRank``),
trained (``fit``) and judged (``evaluate``).
"""

import os

# before torch is loaded: threads that wait for one another spin briefly, and leave the processor to other programs
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from atrank_lib.attention import SelfAttention, TargetAttention
from atrank_lib.batches import Samples
from atrank_lib.embedding import BehaviorEmbedding
from atrank_lib.evaluation import Evaluation, average_user_auc, evaluate
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret import Explanation
from atrank_lib.log.events import EventLog, EventLogError
from atrank_lib.log.schema import Feature, Group, Schema, TimeScale
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.negatives import NegativeSampler
from atrank_lib.projection import GroupProjection, SemanticProjection
from atrank_lib.samples import Split, batches, build_batch, split
from atrank_lib.serve.ranker import Ranker
from atrank_lib.time_encoding import TimeEncoding, bucketize_elapsed
from atrank_lib.training import RECIPES, FitResult, Recipe, fit

__version__ = "0.2.0"

__all__ = [
    "RECIPES", "ATRank", "ATRankConfig", "BehaviorEmbedding", "Evaluation", "EventLog", "EventLogError", "Explanation",
    "Feature", "FitResult", "Group", "GroupProjection", "GroupedHistories", "NegativeSampler", "Ranker", "Recipe",
    "Samples", "Schema", "SelfAttention", "SemanticProjection", "Split", "TargetAttention", "TimeEncoding", "TimeScale",
    "Vocabularies", "average_user_auc", "batches", "bucketize_elapsed", "build_batch", "evaluate", "fit", "split",
]  # fmt: skip
