"""Measures speed and memory on the user's own machine; `swintormer benchmark` runs it."""
