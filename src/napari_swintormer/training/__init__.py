"""Training: pairs, synthetic blur, and the loop that makes weights."""
