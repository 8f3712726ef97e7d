"""Checkpoints: everything that is needed to go on with a training as if it had never stopped."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import OutputError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

FILE_NAME = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """State of a training after a number of steps.

    Attributes
    ----------
    step
        Steps done.
    settings
        Settings that the result depends on, as plain JSON values.
    network, ema
        Parameters, and their exponential moving average.
    optimizer
        State of the optimizer.
    at_once
        Patches whose gradients are computed at once; fewer than a step has where memory is short.
    recompute
        Whether activations are computed again instead of kept, as memory is shorter still.
    scaler
        State of what scales the loss in fp16; empty in other precisions.
    """

    step: int
    settings: Mapping[str, Any]
    network: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    at_once: int
    recompute: bool = False
    scaler: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a run; a crash in the middle leaves the one before."""
    import torch

    content = {
        "step": checkpoint.step,
        "settings": json.dumps(dict(checkpoint.settings)),
        "network": dict(checkpoint.network),
        "ema": dict(checkpoint.ema),
        "optimizer": dict(checkpoint.optimizer),
        "at_once": checkpoint.at_once,
        "recompute": checkpoint.recompute,
        "scaler": dict(checkpoint.scaler),
    }
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".partial", delete=False) as file:
            temporary = Path(file.name)
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / FILE_NAME)
    except OSError as error:
        raise OutputError(
            f"The checkpoint in {folder} cannot be written ({error.strerror}). Make room, then "
            "resume the training."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint of a run, as data: nothing in it is executed.

    Raises
    ------
    TrainingError
        There is none, or it is damaged.
    """
    import torch

    path = folder / FILE_NAME
    if not path.is_file():
        raise TrainingError(
            f"There is no checkpoint {path} to resume from. Start the training anew instead."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(
            step=int(content["step"]),
            settings=json.loads(content["settings"]),
            network=content["network"],
            ema=content["ema"],
            optimizer=content["optimizer"],
            at_once=int(content["at_once"]),
            recompute=bool(content.get("recompute", False)),  # older ones have neither
            scaler=content.get("scaler", {}),
        )
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise TrainingError(
            f"The checkpoint {path} is damaged. Delete {folder} and start the training anew."
        ) from error


def check_same_settings(folder: Path, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Refuse to resume under other settings: the result would belong to neither."""
    given = json.loads(json.dumps(dict(settings)))  # tuples are lists in JSON
    for name in sorted(given.keys() | checkpoint.settings.keys()):
        before, value = checkpoint.settings.get(name), given.get(name)
        if before != value:
            raise TrainingError(
                f"The training in {folder} was started with {name}={before!r}, which cannot "
                f"change on the way (got {name}={value!r}). Resume with the settings it was "
                "started with, or start anew under another name."
            )
