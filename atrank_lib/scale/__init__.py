"""Beyond one process and one memory: devices, processes, shards."""

from atrank_lib.scale.devices import Execution, Placed, moved
from atrank_lib.scale.processes import ALONE, Processes, ScaledSteps, joined
from atrank_lib.scale.shards import Shards

__all__ = ["ALONE", "Execution", "Placed", "Processes", "ScaledSteps", "Shards", "joined", "moved"]
