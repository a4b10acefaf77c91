"""Beyond one process: devices, processes, shards."""
