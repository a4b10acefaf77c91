"""Beyond one process and one memory: devices, processes, shards."""

from atrank_lib.scale.execution import Execution
from atrank_lib.scale.processes import ALONE, Processes, joined
from atrank_lib.scale.shards import Shards
from atrank_lib.scale.steps import ScaledSteps

__all__ = ["ALONE", "Execution", "Processes", "ScaledSteps", "Shards", "joined"]
