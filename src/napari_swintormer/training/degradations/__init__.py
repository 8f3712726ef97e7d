"""Synthetic blur and noise, as lenses, microscopes and cameras make them."""
