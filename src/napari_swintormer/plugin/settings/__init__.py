"""The Settings widget and the page in napari's preferences."""
