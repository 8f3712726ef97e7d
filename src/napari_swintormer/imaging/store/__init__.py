"""Results on disk while a run fills them: journal, levels, shards."""
