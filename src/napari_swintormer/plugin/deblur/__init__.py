"""The Deblur widget."""
