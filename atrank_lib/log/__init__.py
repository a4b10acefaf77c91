"""What a log is: schema, events, objects, shards. Nothing here knows of models, or of torch."""
