"""The diffusion prior: compact, the paper's, sampling and noise."""
