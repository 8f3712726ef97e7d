"""A planned run: array or path in, array or path out, and folders of images."""
