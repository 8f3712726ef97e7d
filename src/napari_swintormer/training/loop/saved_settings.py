"""The settings of a run, kept in its folder so that it can be resumed from there alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from napari_swintormer.errors import OutputError, TrainingError
from napari_swintormer.models.files.card import TrainingData
from napari_swintormer.models.network.network_settings import SwintormerSettings
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings
from napari_swintormer.training.train_settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_swintormer.training.data.pairs import ImagePair

FILE_NAME = "settings.json"
_FILES = ("blurred", "dual_pixel", "annotations", "vgg19")
_LIST_OF: dict[str, Callable[[Any], Any]] = {
    "sharp": Path,
    "training_data": TrainingData.model_validate,
}
_MODELS: dict[str, type[BaseModel]] = {"network": SwintormerSettings, "prior": CompactPriorSettings}


def save_settings(settings: TrainSettings) -> None:
    """Write the settings into the folder of the run; of arrays only their names.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    fields = (f.name for f in dataclasses.fields(settings) if f.name not in ("out", "resume"))
    values: dict[str, Any] = {name: getattr(settings, name) for name in fields}
    values["pairs"] = [pair.name for pair in settings.pairs]
    file = settings.run_folder / FILE_NAME
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values, default=_plain, indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file} cannot be written ({error.strerror}).") from error


def load_settings(run_folder: Path, pairs: Sequence[ImagePair] = ()) -> TrainSettings:
    """Read the settings with which the run of this folder goes on.

    Parameters
    ----------
    run_folder
        Folder ending in ``.run``, beside the weights file to be.
    pairs
        The pairs of a run whose images came from arrays, such as layers: no file knows those.

    Raises
    ------
    TrainingError
        There is no run that can go on, its settings are damaged, or its pairs are missing.
    """
    file = run_folder / FILE_NAME
    if run_folder.suffix != ".run" or not file.is_file():
        raise TrainingError(
            f"{run_folder} is not the folder of a training that can go on. Choose the folder that "
            "ends in .run, beside the weights file to be."
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        names = values.pop("pairs")
        settings = TrainSettings(
            **{name: _read(name, value) for name, value in values.items()},
            out=run_folder.with_suffix(".safetensors"),
            pairs=tuple(pairs) if names else (),
            resume=True,
        )
    except TrainingError:
        if not names or pairs:
            raise
        raise TrainingError(
            f"This training learned from arrays or layers ({', '.join(map(str, names))}): open and "
            "choose them again, then resume it."
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
        raise TrainingError(f"{file} is damaged. Start the training anew.") from error
    return settings


def _plain(value: Any) -> Any:
    """Make of what JSON does not know something that `_read` understands."""
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


def _read(name: str, value: Any) -> Any:
    if name in _LIST_OF:
        return tuple(_LIST_OF[name](item) for item in value)
    if isinstance(value, list):
        return tuple(value)
    if name in _FILES and value is not None:
        return Path(value)
    if name in _MODELS and value is not None:
        return _MODELS[name].model_validate(value)
    return value
