"""Sharded logs, written by pandas alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from atrank_lib.log.events import EventLog


def number(user: str, shards: int) -> int:
    return int.from_bytes(hashlib.md5(user.encode()).digest()[:2], "big") % shards


def write(log: EventLog, folder: Path, shards: int) -> Path:
    """The sharded log, by pandas alone."""
    log.write(folder)
    for name, events in log.events.items():
        (folder / f"{name}.events.parquet").unlink()
        at = np.array([number(user, shards) for user in events["user_id"]])
        for shard in range(shards):
            place = folder / f"shard-{shard:04d}"
            place.mkdir(exist_ok=True)
            events[at == shard].astype({"action": "str"}).to_parquet(place / f"{name}.events.parquet", index=False)
    return folder
