"""Synthetic blur and noise: what lenses, microscopes and cameras do to a sharp image."""
