"""Checkpoints: everything that a training needs to continue as if it had never stopped."""

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

    from napari_swintormer.training.train_settings import TrainSettings

FILE_NAME = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """State of a training; the file has the names of the fields."""

    step: int  # finished steps
    settings: Mapping[str, Any]  # `TrainSettings.resume_key` with the fingerprint of the images
    network: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]  # moving average of the parameters
    optimizer: Mapping[str, Any]
    at_once: int  # patches whose gradients are computed at once
    recompute: bool = False  # whether activations are computed again instead of kept
    scaler: Mapping[str, Any] = field(default_factory=dict)  # of the loss in fp16


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a run; a crash in the middle leaves the old one."""
    import torch

    content = vars(checkpoint) | {"settings": json.dumps(dict(checkpoint.settings))}
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
            f"The checkpoint in {folder} cannot be written ({error.strerror}). Free some disk "
            "space, then resume the training."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint of a run as data; nothing in it is executed."""
    import torch

    path = folder / FILE_NAME
    if not path.is_file():
        raise TrainingError(
            f"There is no checkpoint {path} to resume from. Start the training without resume."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        read = {name: int(content[name]) for name in ("step", "at_once")}
        return Checkpoint(**content | read | {"settings": json.loads(content["settings"])})
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise TrainingError(
            f"The checkpoint {path} is damaged. Delete {folder} and start the training again."
        ) from error


def check_same_settings(folder: Path, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Refuse to resume with other settings than those of the checkpoint."""
    given = json.loads(json.dumps(dict(settings)))  # tuples are lists in JSON
    for name in sorted(given.keys() | checkpoint.settings.keys()):
        before, value = checkpoint.settings.get(name), given.get(name)
        if before != value:
            raise TrainingError(
                f"The training in {folder} was started with {name}={before!r}, which cannot "
                f"change (got {name}={value!r}). Resume with the settings that it was started "
                "with, or start a new training under another name."
            )


def check_new_run(settings: TrainSettings) -> None:
    """Refuse to overwrite a model, or a training that could be resumed."""
    if (settings.run_folder / FILE_NAME).exists():
        raise TrainingError(
            f"There is a training in {settings.run_folder} already. Resume it, delete the folder, "
            "or choose another name."
        )
    if settings.out.exists():
        raise OutputError(f"{settings.out} exists already. Delete it or write to another name.")
