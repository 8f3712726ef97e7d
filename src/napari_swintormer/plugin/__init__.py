"""The napari plugin: widgets, reader and sample data. Opening any of them imports no torch."""
