"""One family of errors: every user mistake ends in one sentence.

The sentence says what is wrong, what was given and what would work; GUI, command line and API
show the same text. Each class also derives from the built-in a caller would expect to catch.
"""

from __future__ import annotations


class SwintormerError(Exception):
    """Something the user can put right; its message is meant to be shown as it is."""


class ImageError(SwintormerError, ValueError):
    """The image cannot be worked on: its axes, shape, data type or content."""


class FileError(SwintormerError, OSError):
    """A file is missing, damaged or of an unknown format."""


class OutputError(SwintormerError, OSError):
    """The result cannot be written: it exists, equals the input, or the disk is full."""


class TilingError(SwintormerError, ValueError):
    """Tile size, overlap or blending do not fit together or do not fit the model."""


class SettingsError(SwintormerError, ValueError):
    """A setting is outside what is possible: device, precision, number of steps."""


class ModelNotFoundError(SwintormerError, LookupError):
    """No model has this name, and no file lies at this path."""


class WeightsError(SwintormerError, ValueError):
    """A weights file is damaged, incomplete or of another architecture."""


class TrainingError(SwintormerError, ValueError):
    """Training data or a checkpoint cannot be used."""


def one_line(message: object) -> str:
    """Shorten a message of another library so that it fits into a sentence."""
    return " ".join(str(message).split())[:200].rstrip(".")
