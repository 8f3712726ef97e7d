"""Weights files: one ``.safetensors`` that holds the trained numbers and the model card.

A weights file may come from anyone, so it is data until it is checked: the header is read with
bounds, and the tensors are compared with the network that the card describes. An error names the
file and the key.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_swintormer.errors import OutputError, WeightsError, one_line
from napari_swintormer.imaging.formats.boundary import disk_errors
from napari_swintormer.models.files.card import (
    FORMAT_VERSION,
    ForeignCard,
    ModelCard,
    first_problem,
)
from napari_swintormer.models.files.kinds import CARD_KEY, FOREIGN_KEY, Kind, detect, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.models.prior.prior_settings import PriorSettings

    Shapes = Mapping[str, tuple[int, ...]]

_FLOATS = ("F64", "F32", "F16", "BF16")


def save_weights(path: str | Path, state_dict: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write a ``.safetensors`` weights file, complete or not at all; equal input gives equal bytes.

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
    else:
        _check_shapes(path, {key: tuple(t.shape) for key, t in tensors.items()}, card)
        _check_finite(path, tensors)
    key = FOREIGN_KEY if isinstance(card, ForeignCard) else CARD_KEY
    # without the fields that are None, earlier versions can read the card
    content = save(tensors, {key: card.model_dump_json(exclude_none=True)})
    with written_beside(path) as partial, open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def load_weights(path: str | Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """Read and check a weights file of this package or of the authors' released code.

    Returns
    -------
    card, state_dict
        Float32 tensors on the CPU, exactly those of the network that the card describes; those of
        a network of others as they are. Released weights get a card made from their shapes.

    Raises
    ------
    FileError
        There is no such file, or it cannot be read.
    WeightsError
        The file is damaged, incomplete, or no weights file of either.
    """
    path = Path(path)
    kind = detect(path)
    if kind.is_program or kind is Kind.PRIOR:
        raise WeightsError(
            f"{path} is {kind.value}. Use weights of a network that restores images."
        )
    if kind.is_pickle:
        from napari_swintormer.models.files.pickles import read_pickle
        from napari_swintormer.models.files.released import convert_released, released_card

        settings, state = convert_released(read_pickle(path), str(path))
        _check_finite(path, state)
        return released_card(path, settings), state
    header = read_header(path)
    card = _parse_card(path, header)
    if isinstance(card, ForeignCard):
        return card, read_tensors(path)
    _check_shapes(path, _header_shapes(path, header), card)
    state = {key: tensor.float() for key, tensor in read_tensors(path).items()}
    _check_finite(path, state)
    return card, state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file as they are, whatever network they belong to; runs nothing."""
    if detect(path).is_pickle:
        from napari_swintormer.models.files.pickles import read_pickle, state_dict_in

        return state_dict_in(read_pickle(path), str(path))
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights file {path} is damaged ({one_line(error)}). Fetch or copy it again."
        ) from error


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a ``.safetensors`` weights file from its header, without torch.

    Raises `FileError` or `WeightsError` if the header cannot be read or holds no card.
    """
    path = Path(path)
    return _parse_card(path, read_header(path))


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file in hexadecimal digits; the identity of a model in provenance."""
    stat = os.stat(path)
    return _file_sha256(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)  # a widget plans anew whenever a field changes
def _file_sha256(path: str, _changed: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write to, and rename it to `path` at the end.

    Readers see the old file or the new one, never a half.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o644)  # mkstemp lets nobody else read
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _parse_card(path: Path, header: Mapping[str, Any]) -> ModelCard:
    metadata = header.get("__metadata__")
    metadata = metadata if isinstance(metadata, dict) else {}
    kind = ForeignCard if FOREIGN_KEY in metadata else ModelCard
    text = metadata.get(FOREIGN_KEY, metadata.get(CARD_KEY))
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
        raise WeightsError(
            f"The model card in {path} is not valid {first_problem(error)}."
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


def _check_shapes(path: Path, found: Shapes, card: ModelCard) -> None:
    """Compare the tensors of a file with the network of its card."""
    expected = _expected_shapes(card.network, card.prior)
    if missing := sorted(expected.keys() - found.keys()):
        raise WeightsError(f"The weights in {path} lack the key {_first(missing)}.")
    if unexpected := sorted(found.keys() - expected.keys()):
        raise WeightsError(
            f"The weights in {path} have the key {_first(unexpected)}, which the network of their "
            "card does not have."
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

    with torch.device("meta"):  # allocates nothing
        state = build_network(network, prior).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    for key, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"The weights in {path} are not finite (NaN or inf) at key {key!r}.")


def _first(keys: list[str]) -> str:
    return f"{keys[0]!r} and {len(keys) - 1} more" if len(keys) > 1 else repr(keys[0])
