"""The catalogue: which models there are, and how a name or a path becomes a restorer.

Built-in models come with the package; a file copied into the user's folder is a model at once,
under the name of the file. Listing reads the headers of the files and imports no torch.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_swintormer.config import DEFAULT_MODEL, models_folder
from napari_swintormer.errors import (
    FileError,
    ModelNotFoundError,
    OutputError,
    WeightsError,
)
from napari_swintormer.models.weights import (
    RELEASED_SUFFIXES,
    file_sha256,
    load_weights,
    read_card,
    save_weights,
)

if TYPE_CHECKING:
    from napari_swintormer.models.card import ModelCard
    from napari_swintormer.models.restorer import Restorer

BUILT_IN_FOLDER = Path(__file__).parents[1] / "weights"

Source = Literal["built-in", "user", "path"]


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be chosen, or a file in the user's folder that cannot and why.

    Attributes
    ----------
    name
        Name to choose it by: the file's name without its suffix.
    path
        The weights file.
    source
        Where it was found.
    card
        Description of the model, or None if the file has a problem.
    problem
        One sentence that says why the file cannot be used, or None.
    """

    name: str
    path: Path
    source: Source
    card: ModelCard | None = None
    problem: str | None = None


def list_models() -> list[ModelInfo]:
    """List the built-in models and those in the user's folder, sorted by name.

    A model in the user's folder hides a built-in one of the same name: who puts a file there
    under that name wants it. A damaged file does not break the list: it has a `problem`, and
    hides nothing.

    Examples
    --------
    >>> from napari_swintormer import list_models
    >>> names = [model.name for model in list_models()]
    """
    models: dict[str, ModelInfo] = {}
    for folder, source in _folders().items():
        for info in _read_folder(folder, source):
            if info.name not in models or info.problem is None:
                models[info.name] = info
    return [models[name] for name in sorted(models)]


def find_model(name_or_path: str | Path | None = None) -> Path:
    """Find the weights file of a model.

    Parameters
    ----------
    name_or_path
        A name in the catalogue or the path of a weights file; None for the default model. A name
        in the catalogue wins over a file of that name in the current folder.

    Raises
    ------
    ModelNotFoundError
        No model has this name and no file lies at this path; says the nearest names.
    """
    wanted = DEFAULT_MODEL if name_or_path is None else name_or_path
    names = {info.name: info.path for info in list_models()}
    if str(wanted) in names:
        return names[str(wanted)]
    path = Path(wanted).expanduser()
    if path.is_file():
        return path
    near = difflib.get_close_matches(str(wanted), names, n=3, cutoff=0.5) or sorted(names)[:3]
    hint = f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    raise ModelNotFoundError(
        f"There is no model {str(wanted)!r}, and no file of that name. {hint}"
        f"Use a name that `swintormer models` lists, the path of a weights file, or copy one into "
        f"{models_folder()}."
    )


def describe_model(name_or_path: str | Path | None = None) -> ModelInfo:
    """Find a model and read its card; imports torch only for a file of the released code.

    Raises
    ------
    ModelNotFoundError
        As `find_model`.
    FileError, WeightsError
        The file cannot be read, or is not a model.
    """
    path = find_model(name_or_path)
    released = path.suffix.lower() in RELEASED_SUFFIXES
    card = load_weights(path)[0] if released else read_card(path)
    return ModelInfo(path.stem, path, _folders().get(path.parent, "path"), card)


def load_model(name_or_path: str | Path | None = None) -> Restorer:
    """Load a model, on the CPU.

    Parameters
    ----------
    name_or_path
        A name in the catalogue or the path of a weights file, also of a ``.pth`` file of the
        authors' released code; None for the default model.

    Raises
    ------
    ModelNotFoundError
        As `find_model`.
    FileError, WeightsError
        The file cannot be read, or is not a model.
    SettingsError
        The model cannot deblur a single image.
    """
    from napari_swintormer.models.restorer import Restorer

    path = find_model(name_or_path)
    card, state_dict = load_weights(path)
    return Restorer(card, state_dict, file_sha256(path))


def import_model(file: str | Path, *, overwrite: bool = False) -> Path:
    """Check a weights file and copy it into the user's folder, under its own name.

    A file of the released code is converted to ``.safetensors`` on the way.

    Returns
    -------
    Path
        The file in the user's folder.

    Raises
    ------
    FileError, WeightsError
        The file cannot be read, or is not a model.
    OutputError
        The folder has a model of this name and `overwrite` is false.
    """
    file = Path(file).expanduser()
    card, state_dict = load_weights(file)
    target = models_folder() / f"{file.stem}.safetensors"
    if target.exists() and not overwrite:
        raise OutputError(
            f"There is a model {file.stem!r} already, at {target}. Rename the file or use "
            "--overwrite."
        )
    save_weights(target, state_dict, card)
    return target


def _folders() -> dict[Path, Source]:
    return {BUILT_IN_FOLDER: "built-in", models_folder(): "user"}


def _read_folder(folder: Path, source: Source) -> list[ModelInfo]:
    try:
        files = sorted(folder.iterdir())
    except OSError:  # a folder that does not exist yet is an empty one
        return []
    return [
        _read_file(file, source)
        for file in files
        if file.suffix.lower() in (".safetensors", *RELEASED_SUFFIXES)
        and not file.name.startswith(".")
    ]


def _read_file(file: Path, source: Source) -> ModelInfo:
    if file.suffix.lower() in RELEASED_SUFFIXES:
        problem = f"Weights of the released code; run `swintormer models import {file}` once."
        return ModelInfo(file.stem, file, source, problem=problem)
    try:
        return ModelInfo(file.stem, file, source, read_card(file))
    except (FileError, WeightsError) as error:
        return ModelInfo(file.stem, file, source, problem=str(error))
