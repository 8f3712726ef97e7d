"""What a model file holds: decided here alone, from its content, without running any of it."""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import FileError, WeightsError

if TYPE_CHECKING:
    from pathlib import Path

PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt")
MODEL_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES, ".pt2", ".torchscript", ".ts")
CARD_KEY = "swintormer"
"""Key of a model's card in the header of its weights file."""
FOREIGN_KEY = "swintormer-foreign"
"""Key of the card of a network of others."""
_HEADER_LIMIT = 16 * 2**20  # bytes; the header of a 25 M-parameter model has 60 kB
_PICKLE_LIMIT = 16 * 2**20  # bytes that are searched for names of tensors


class Kind(Enum):
    """What a model file holds."""

    OWN = "weights of this package"
    IMPORTED = "weights of a network of others, with a card of this package"
    TENSORS = "safetensors without a card"
    RELEASED = "weights of the authors' released code"
    STATE_DICT = "weights of a network of others"
    PRIOR = "a latent diffusion model"
    TORCHSCRIPT = "a TorchScript program"
    EXPORTED = "a program exported by torch"
    UNKNOWN = "damaged, or no model"

    @property
    def is_program(self) -> bool:
        """Whether loading the file runs code of its author."""
        return self in (Kind.TORCHSCRIPT, Kind.EXPORTED)

    @property
    def is_pickle(self) -> bool:
        """Whether the file was written by ``torch.save``."""
        return self in (Kind.RELEASED, Kind.STATE_DICT, Kind.PRIOR)

    @property
    def is_recognised(self) -> bool:
        """Whether spandrel must find out which network the tensors belong to."""
        return self in (Kind.TENSORS, Kind.STATE_DICT)


def has_model_suffix(path: Path) -> bool:
    """Whether a file has one of the names that model files have."""
    return path.suffix.lower() in MODEL_SUFFIXES


def detect(path: Path) -> Kind:
    """Decide what a model file holds; imports no torch and runs nothing.

    A missing or damaged file is `Kind.UNKNOWN` or the kind that its name suggests. Reading it
    raises an error with the reason.
    """
    entries: list[str] = []
    with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as file:
        entries = file.namelist()
    if any("/code/" in entry for entry in entries):
        return Kind.TORCHSCRIPT
    if any(entry.endswith("archive_format") for entry in entries):
        return Kind.EXPORTED
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return _detect_pickle(path)
    try:
        metadata = read_header(path).get("__metadata__")
    except (FileError, WeightsError):
        return Kind.UNKNOWN
    keys = set(metadata) if isinstance(metadata, dict) else set()
    if FOREIGN_KEY in keys:
        return Kind.IMPORTED
    return Kind.OWN if CARD_KEY in keys else Kind.TENSORS


def _detect_pickle(path: Path) -> Kind:
    names = _pickled_strings(path)
    if any(".attn.cpb_mlp." in name or "patch_embed.proj2.weight" in name for name in names):
        return Kind.RELEASED
    if any(name.startswith("model.diffusion_model.") for name in names):
        return Kind.PRIOR
    return Kind.PRIOR if "input_blocks.0.0.weight" in names else Kind.STATE_DICT


def _pickled_strings(path: Path) -> set[str]:
    """Collect the strings in a file of ``torch.save``, without unpickling it."""
    strings: set[str] = set()
    with suppress(Exception), open(path, "rb") as file:  # hostile files can raise anything
        pickles = 1
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                entry = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                with archive.open(entry) as stream:
                    content = io.BytesIO(stream.read(_PICKLE_LIMIT))
        else:  # written before 2020: the names are in the fourth of several pickles
            file.seek(0)
            content, pickles = io.BytesIO(file.read(_PICKLE_LIMIT)), 4
        for _ in range(pickles):
            for _, argument, _ in pickletools.genops(content):
                if isinstance(argument, str):
                    strings.add(argument)
    return strings


def read_header(path: Path) -> dict[str, Any]:
    """Parse the JSON at the head of a safetensors file: 8 bytes of length, then the text.

    Raises `FileError` if there is no such file, `WeightsError` if the header is damaged.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= size - 8:
                raise WeightsError(
                    f"{path} is not a safetensors file, or it was cut short. Use a .safetensors "
                    "file of this package, or a .pth file of the released code under that name."
                )
            if length > _HEADER_LIMIT:
                raise WeightsError(
                    f"The header of {path} is too large for a weights file "
                    f"(got {length} bytes, at most {_HEADER_LIMIT})."
                )
            header = json.loads(file.read(length))
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"There is no weights file {path}.") from error
    except OSError as error:
        raise FileError(f"The weights file {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"The header of {path} is not valid JSON; the file is damaged."
        ) from error
    if not isinstance(header, dict):
        raise WeightsError(f"The header of {path} is not a JSON object; the file is damaged.")
    return header
