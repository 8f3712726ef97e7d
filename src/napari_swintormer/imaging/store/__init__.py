"""The result of a run on disk: journal, levels, pyramid and shards."""
