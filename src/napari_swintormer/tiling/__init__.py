"""Tiles, their weights and the plan of a run: standard library and numpy only."""
