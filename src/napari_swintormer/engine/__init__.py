"""Runs a restorer over images of any size: one device, streaming, stop and go."""
