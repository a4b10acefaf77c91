"""What a log is: schema, events, objects, shards. Nothing here knows of models, or of torch."""

from atrank_lib.log.events import EventLog
from atrank_lib.log.extent import Extent, check_moment
from atrank_lib.log.schema import EventLogError, Feature, Group, Problem, Schema, TimeScale
from atrank_lib.log.sharded import ShardedLog, read_log

__all__ = [
    "EventLog", "EventLogError", "Extent", "Feature", "Group", "Problem", "Schema", "ShardedLog", "TimeScale",
    "check_moment", "read_log",
]  # fmt: skip
