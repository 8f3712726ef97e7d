"""The training loop: stages, state, checkpoints, log."""
