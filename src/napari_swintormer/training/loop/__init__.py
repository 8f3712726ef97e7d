"""The training loop: stages, optimizer state, checkpoints, validation."""
