"""Beyond one process and one memory: devices, processes, shards."""

from atrank_lib.scale.devices import Device, Execution, Placed, Precision, moved
from atrank_lib.scale.processes import ALONE, PeerError, Processes, ScaledSteps, joined
from atrank_lib.scale.shards import Shards

__all__ = [
    "ALONE",
    "Device",
    "Execution",
    "PeerError",
    "Placed",
    "Precision",
    "Processes",
    "ScaledSteps",
    "Shards",
    "joined",
    "moved",
]
