"""What a model file is: weights of ours, of the released code, of another network, or a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_swintormer.models.files.weights import (
    RELEASED_SUFFIXES,
    file_sha256,
    has_card,
    load_weights,
    read_card,
    read_tensors,
)
from napari_swintormer.models.foreign import zoo

if TYPE_CHECKING:
    from pathlib import Path

    from napari_swintormer.models.files.card import ModelCard


def card_of(path: Path) -> ModelCard:
    """Card of any model file; torch is needed for weights that were not imported.

    Raises
    ------
    FileError, WeightsError
        The file cannot be read, or is not a model.
    SettingsError
        It is a program that the user has not said to trust.
    """
    if zoo.is_program(path):
        return zoo.trusted_card(path, file_sha256(path))
    if path.suffix.lower() == ".safetensors" and has_card(path):
        return read_card(path)
    if is_foreign(path):
        return zoo.described(path, file_sha256(path), read_tensors)
    return load_weights(path)[0]


def is_foreign(path: Path) -> bool:
    """Whether a file without our card holds weights of another network than the released one.

    Raises
    ------
    FileError, WeightsError
        The file cannot be read.
    """
    if path.suffix.lower() == ".safetensors":
        return not has_card(path)
    if path.suffix.lower() not in RELEASED_SUFFIXES:
        return False
    from napari_swintormer.models.files.released import looks_released

    return not looks_released(read_tensors(path))
