"""Image files: one module for each format, opened lazily and written band by band."""
