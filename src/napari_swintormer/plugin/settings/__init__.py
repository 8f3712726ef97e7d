"""The Settings panel and the page in napari's preferences."""
