"""Files of ``torch.save``, read as data: tensors and plain values, never code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_swintormer.errors import FileError, WeightsError

if TYPE_CHECKING:
    from pathlib import Path


def read_pickle(path: Path) -> Any:
    """Read a file with ``weights_only``; raises `FileError` or `WeightsError`."""
    if not path.is_file():
        raise FileError(f"There is no weights file {path}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or truncated pickle can raise anything
        raise WeightsError(
            f"{path} is damaged, or holds more than plain weights and is not opened for safety. "
            "Use a file that holds tensors only."
        ) from error


def state_dict_in(content: object, source: str) -> dict[str, Tensor]:
    """Find the state dict in the content of the file `source`.

    It is the content itself or lies under ``params_ema``, ``params``, ``state_dict`` or ``model``,
    the first of these that exists. Raises `WeightsError` for anything but tensors.
    """
    advice = (
        "Use a file that maps names to tensors, directly or under params_ema, params, state_dict "
        "or model."
    )
    for key in ("params_ema", "params", "state_dict", "model"):
        if isinstance(content, Mapping) and not isinstance(content.get(key), Tensor | None):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{source} holds no state dict (got {type(content).__name__}). {advice}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{source} holds no tensor at key {key!r} (got {type(value).__name__}). {advice}"
            )
    return {key.removeprefix("module."): value for key, value in content.items()}


def tensor_at(weights: Mapping[str, Tensor], key: str, source: str) -> Tensor:
    """Return a tensor of the state dict in `source`; raises `WeightsError` if it is missing."""
    if key not in weights:
        raise WeightsError(
            f"{source} has no key {key!r} (got {len(weights)} keys). Use the weights of one whole "
            "network of this kind."
        )
    return weights[key]


def size_at(weights: Mapping[str, Tensor], key: str, axis: int, source: str) -> int:
    """Return the length of an axis of a tensor; raises `WeightsError` if it has none."""
    weight = tensor_at(weights, key, source)
    if weight.ndim <= axis or weight.numel() == 0:
        raise WeightsError(
            f"{source} has shape {tuple(weight.shape)} at key {key!r}. Use the weights of one "
            "whole network of this kind."
        )
    return weight.shape[axis]
