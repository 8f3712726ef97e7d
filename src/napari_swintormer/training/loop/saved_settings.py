"""The settings of a run in its folder, so that it can be resumed from the folder alone."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from napari_swintormer.errors import OutputError, TrainingError
from napari_swintormer.training.train_settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_swintormer.training.data.pairs import ImagePair

FILE_NAME = "settings.json"


def save_settings(settings: TrainSettings) -> None:
    """Write the settings into the folder of the run; arrays are written as their names."""
    fields = (f.name for f in dataclasses.fields(settings) if f.name not in ("out", "resume"))
    values: dict[str, Any] = {name: getattr(settings, name) for name in fields}
    values["pairs"] = [pair.name for pair in settings.pairs]
    file = settings.run_folder / FILE_NAME
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values, default=to_jsonable_python, indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file} cannot be written ({error.strerror}).") from error


def load_settings(run_folder: Path, pairs: Sequence[ImagePair] = ()) -> TrainSettings:
    """Read the settings to resume a run with.

    `run_folder` ends in ``.run``. `pairs` are those of a run that learned from arrays, such as
    layers; no file holds them.
    """
    file = run_folder / FILE_NAME
    if run_folder.suffix != ".run" or not file.is_file():
        raise TrainingError(
            f"{run_folder} is not the folder of a training. Choose the folder that ends in .run, "
            "beside the weights file."
        )
    types = get_type_hints(TrainSettings, localns={"ImagePair": Any})
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        names = values.pop("pairs")
        read = {k: TypeAdapter(types[k]).validate_python(value) for k, value in values.items()}
        return TrainSettings(
            **read,
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
        raise TrainingError(f"{file} is damaged. Start the training again.") from error
