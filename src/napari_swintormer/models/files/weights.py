"""Weights files: one ``.safetensors`` that holds the trained numbers and the model card.

A weights file comes from anywhere, so it is data until it has been checked: its header is read
with bounds, its tensors are compared with those of the network that its card describes, and
whatever is wrong is said in one sentence with the file and the key.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_swintormer.errors import FileError, OutputError, WeightsError
from napari_swintormer.imaging.formats.writing import disk_errors
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.models.files.card import FORMAT_VERSION, ForeignCard, ModelCard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.models.prior.prior_settings import PriorSettings

    Shapes = Mapping[str, tuple[int, ...]]

CARD_KEY = "swintormer"
FOREIGN_KEY = "swintormer-foreign"
"""Of the card of a network of others, see `napari_swintormer.models.foreign.zoo`."""
RELEASED_SUFFIXES = (".pth", ".pt", ".ckpt")
_HEADER_LIMIT = 16 * 2**20  # bytes; the header of a 25 M-parameter model has 60 kB
_FLOATS = ("F64", "F32", "F16", "BF16")


def save_weights(path: str | Path, state_dict: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write a weights file; equal input gives equal bytes.

    The file appears under its name complete or not at all.

    Parameters
    ----------
    path
        File to write or replace; its name ends in ``.safetensors``.
    state_dict
        Parameters of the network that `card` describes, finite.
    card
        Description of the model.

    Raises
    ------
    WeightsError
        The parameters are not those of the card's network, or are not finite.
    OutputError
        The file cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise OutputError(f"A weights file must end in .safetensors (got {path.name}).")
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state_dict.items()}
    if isinstance(card, ForeignCard):
        tensors = {key: tensor.clone() for key, tensor in tensors.items()}  # some share memory
        _write(path, save(tensors, {FOREIGN_KEY: card.model_dump_json(exclude_none=True)}))
        return
    _check_shapes(path, {key: tuple(t.shape) for key, t in tensors.items()}, card)
    _check_finite(path, tensors)
    # a model without prior keeps the card that earlier versions read
    _write(path, save(tensors, {CARD_KEY: card.model_dump_json(exclude_none=True)}))


def load_weights(path: str | Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """Read and check a weights file, ours or one of the authors' released code.

    Parameters
    ----------
    path
        A ``.safetensors`` file written by `save_weights`, or a ``.pth``, ``.pt`` or ``.ckpt``
        file of the released code; the card of the latter is made up from what the file shows.

    Returns
    -------
    card, state_dict
        float32 tensors on the CPU, exactly those of the network that the card describes.

    Raises
    ------
    FileError
        There is no such file, or it cannot be read.
    WeightsError
        The file is damaged, incomplete or not a model of ours.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.suffix.lower() in RELEASED_SUFFIXES:
        return _load_released(path)
    header = _read_header(path)
    card = _parse_card(path, header)
    if isinstance(card, ForeignCard):
        return card, read_tensors(path)
    _check_shapes(path, _header_shapes(path, header), card)
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key).to(torch.float32) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights file {path} is damaged ({_one_line(error)}). Fetch or copy it again."
        ) from error
    _check_finite(path, state)
    return card, state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file as they are, whatever network they are of; nothing in it is run.

    Raises
    ------
    FileError
        There is no such file.
    WeightsError
        The file is damaged, or holds more than plain tensors.
    """
    if path.suffix.lower() in RELEASED_SUFFIXES:
        from napari_swintormer.models.foreign.zoo import state_tensors

        return state_tensors(_load_pickle(path), path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights file {path} is damaged ({_one_line(error)}). Fetch or copy it again."
        ) from error


def has_card(path: Path) -> bool:
    """Whether a ``.safetensors`` file names this package in its header."""
    metadata = _read_header(path).get("__metadata__")
    return isinstance(metadata, dict) and bool({CARD_KEY, FOREIGN_KEY} & metadata.keys())


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a ``.safetensors`` weights file; only its header, and without torch.

    Raises
    ------
    FileError
        There is no such file, or it cannot be read.
    WeightsError
        The header is damaged or holds no card of ours.
    """
    path = Path(path)
    return _parse_card(path, _read_header(path))


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file in hexadecimal digits; the identity of a model in provenance."""
    stat = os.stat(path)
    return _file_sha256(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)  # a widget plans anew whenever a field changes
def _file_sha256(path: str, _changed: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- reading ---------------------------------------------------------------------------------


def _read_header(path: Path) -> dict[str, Any]:
    """Parse the JSON at the head of a safetensors file: 8 bytes of length, then the text."""
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
    except FileNotFoundError as error:
        raise FileError(f"There is no weights file {path}.") from error
    except OSError as error:
        raise FileError(f"The weights file {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"The header of {path} is not valid JSON; the file is damaged."
        ) from error
    if not isinstance(header, dict):
        raise WeightsError(f"The header of {path} is not a JSON object; the file is damaged.")
    return header


def _parse_card(path: Path, header: Mapping[str, Any]) -> ModelCard:
    metadata = header.get("__metadata__")
    text = metadata.get(CARD_KEY) if isinstance(metadata, dict) else None
    kind: type[ModelCard] = ModelCard
    if isinstance(metadata, dict) and isinstance(metadata.get(FOREIGN_KEY), str):
        text, kind = metadata[FOREIGN_KEY], ForeignCard
    if not isinstance(text, str):
        raise WeightsError(
            f"{path} holds no model of this package: its header has no key {CARD_KEY!r}. Use a "
            "file written by `swintormer train`."
        )
    try:
        fields = json.loads(text)
        version = fields.get("format_version") if isinstance(fields, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise WeightsError(
                f"{path} was written by a newer napari-swintormer (format_version={version}, this "
                f"version reads up to {FORMAT_VERSION}). Update the package."
            )
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "card"
        raise WeightsError(
            f"The model card in {path} is not valid at key {key!r}: {_one_line(first['msg'])}."
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"The model card in {path} is not valid JSON.") from error


def _header_shapes(path: Path, header: Mapping[str, Any]) -> Shapes:
    shapes = {}
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise WeightsError(f"The header of {path} is damaged at key {key!r}.")
        if entry.get("dtype") not in _FLOATS:
            raise WeightsError(
                f"{path} has the data type {entry.get('dtype')!r} at key {key!r}; weights are "
                f"one of {', '.join(_FLOATS)}."
            )
        shapes[key] = tuple(shape)
    return shapes


def _load_released(path: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    from napari_swintormer.models.files.released import convert_released

    content = _load_pickle(path)
    settings, state = convert_released(content, str(path))
    _check_finite(path, state)
    return _released_card(path, settings), state


def _load_pickle(path: Path) -> Any:
    """Read a file of torch, of which nothing but plain tensors is taken."""
    import torch

    if not path.is_file():
        raise FileError(f"There is no weights file {path}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or truncated pickle can raise anything
        raise WeightsError(
            f"{path} is damaged, or holds more than plain weights and is not opened for safety. "
            "Use a file of the released code that holds tensors only."
        ) from error


def _released_card(path: Path, settings: SwintormerSettings) -> ModelCard:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
    return ModelCard(
        name=(name.lstrip("._-") or "released")[:64],
        title=f"Weights of the released code ({path.name})",
        summary="Trained with the authors' released code; works best on 8-bit RGB photographs.",
        network=settings,
        # The paper's best tiles: 512 with a stride of 220, uniform average.
        tile_size=512,
        overlap=292,
        blend="uniform",
        intensity=IntensityConvention(scope="image", low=0, high=100),
        clip_output=True,
    )


# ---- checks ----------------------------------------------------------------------------------


def _check_shapes(path: Path, found: Shapes, card: ModelCard) -> None:
    """Compare the tensors of a file with those of its networks, which are built without memory."""
    expected = _expected_shapes(card.network, card.prior)
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise WeightsError(
            f"The weights in {path} lack the key {missing[0]!r}{_and_others(missing)}."
        )
    unexpected = sorted(found.keys() - expected.keys())
    if unexpected:
        raise WeightsError(
            f"The weights in {path} have the key {unexpected[0]!r}{_and_others(unexpected)}, which "
            "the network of their card does not have."
        )
    for key, shape in expected.items():
        if found[key] != shape:
            raise WeightsError(
                f"The weights in {path} have the shape {found[key]} at key {key!r}; the network "
                f"of their card needs {shape}."
            )


@lru_cache(maxsize=8)
def _expected_shapes(network: SwintormerSettings, prior: PriorSettings | None) -> Shapes:
    import torch

    from napari_swintormer.models.prior.compact import build_network

    with torch.device("meta"):
        state = build_network(network, prior).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    for key, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"The weights in {path} are not finite (NaN or inf) at key {key!r}.")


def _and_others(keys: list[str]) -> str:
    return f" and {len(keys) - 1} more" if len(keys) > 1 else ""


def _one_line(message: object) -> str:
    return " ".join(str(message).split()).rstrip(".")


# ---- writing ---------------------------------------------------------------------------------


def _write(path: Path, content: bytes) -> None:
    """Write beside, then rename: a reader sees the old file or the new one, never a half."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        beside = Path(name)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.chmod(0o644)  # mkstemp lets nobody else read
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
