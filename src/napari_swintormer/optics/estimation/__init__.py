"""Estimates of the blur from the image alone: defocus, motion, or none."""
