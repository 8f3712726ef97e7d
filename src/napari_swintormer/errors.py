"""The errors of this package: every mistake of the user ends in one sentence.

The sentence says what is wrong, what was given and what would work. GUI, command line and API show
the same text. Each class also derives from the built-in error that a caller would catch.
"""

from __future__ import annotations


class SwintormerError(Exception):
    """A mistake that the user can correct; the message is made to be shown."""


class ImageError(SwintormerError, ValueError):
    """The image has axes, a shape, a data type or content that cannot be used."""


class FileError(SwintormerError, OSError):
    """A file is missing, damaged or of an unknown format."""


class OutputError(SwintormerError, OSError):
    """The result cannot be written: its file exists or is the input, or the disk is full."""


class TilingError(SwintormerError, ValueError):
    """Tile size, overlap and blending do not fit each other or the model."""


class SettingsError(SwintormerError, ValueError):
    """A setting has an impossible value, such as a missing device."""


class ModelNotFoundError(SwintormerError, LookupError):
    """No model has this name, and no file lies at this path."""


class WeightsError(SwintormerError, ValueError):
    """A weights file is damaged, incomplete or of another architecture."""


class TrainingError(SwintormerError, ValueError):
    """Training data or a checkpoint cannot be used."""


def one_line(message: object) -> str:
    """Shorten a message of another library so that it fits into a sentence."""
    return " ".join(str(message).split())[:200].rstrip(".")
