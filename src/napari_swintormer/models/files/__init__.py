"""Model files: the card, the weights, and what kind a file is."""
