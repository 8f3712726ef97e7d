"""Layers of the viewer: read, shown, compared and saved."""
