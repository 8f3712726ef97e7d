"""File formats, one module each, listed in `registry`; opening and writing of any of them."""
