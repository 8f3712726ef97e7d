"""The catalogue: which models there are, and how a name or a path becomes a restorer.

Built-in models come with the package. A file in the user's folder is a model too, under the name of
the file. Listing reads the headers of the files and imports no torch. `own_models` changes
that folder.
"""

from __future__ import annotations

import difflib
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_swintormer.errors import (
    FileError,
    ModelNotFoundError,
    SettingsError,
    WeightsError,
)
from napari_swintormer.models.files.card import ForeignCard
from napari_swintormer.models.files.kinds import Kind, detect, has_model_suffix
from napari_swintormer.models.files.weights import (
    file_sha256,
    load_weights,
    read_card,
    read_tensors,
)
from napari_swintormer.models.foreign import programs, spandrel_networks
from napari_swintormer.openmp import import_torch
from napari_swintormer.settings.deblur_settings import (
    AUTOMATIC_MODEL,
    DEFAULT_MODEL,
    FILTER_MODEL,
    ImageKind,
)
from napari_swintormer.settings.preferences import models_folder

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.restorer import Restorer

BUILT_IN_FOLDER = Path(__file__).parents[1] / "weights"

ALIASES = dict.fromkeys(
    (
        "known-blur",
        "microscopy",
        "photo-defocus",
        "photo-motion",
        "swintormer-prior",
        "swintormer-small",
    ),
    DEFAULT_MODEL,
)
"""Names of earlier built-in models, and the model that each one loads for one release."""

WORDS = (AUTOMATIC_MODEL, FILTER_MODEL)
"""Words that choose a model, or none, and so are no names of files."""

_LOGGER = logging.getLogger(__name__)

Source = Literal["built-in", "user", "path"]


@dataclass(frozen=True)
class ModelInfo:
    """A model of the catalogue, or a file in the user's folder that cannot be used.

    Attributes
    ----------
    name
        Name to choose the model by: the file's name without its suffix. A file of the user with
        the name of a built-in model has a number behind it.
    card, problem
        The description of the model; or None, and one sentence that says what is wrong.
    """

    name: str
    path: Path
    source: Source
    card: ModelCard | None = None
    problem: str | None = None


def list_models() -> list[ModelInfo]:
    """List the built-in models and those in the user's folder, sorted by name.

    A file of the user never hides a built-in model: with the name of one, it is listed under the
    next free name. A damaged file has a `problem`.

    Examples
    --------
    >>> from napari_swintormer import list_models
    >>> names = [model.name for model in list_models()]
    """
    models = {info.name: info for info in _read_folder(BUILT_IN_FOLDER, "built-in")}
    for info in own_models():
        if info.name not in models or info.problem is None:
            models[info.name] = info
    return [models[name] for name in sorted(models)]


def free_name(name: str) -> str:
    """Return a name that no model has: `name` itself, or with a number behind it.

    Names are compared without regard to upper and lower case, as some disks do.
    """
    return _next_free(name, {info.name for info in list_models()} | {*WORDS})


def _next_free(name: str, taken: Collection[str]) -> str:
    taken = {other.casefold() for other in taken}
    tries = chain([name], (f"{name[:60]}-{number}" for number in count(2)))
    return next(candidate for candidate in tries if candidate.casefold() not in taken)


def own_models() -> list[ModelInfo]:
    """Read the user's folder; a file with the name of a built-in model gets a free one."""
    built_in = {info.name for info in _read_folder(BUILT_IN_FOLDER, "built-in")} | {*WORDS}
    own = _read_folder(models_folder(), "user")
    taken = built_in | {info.name for info in own}
    hidden = {name.casefold() for name in built_in}
    return [
        replace(info, name=_next_free(info.name, taken)) if info.name.casefold() in hidden else info
        for info in own
    ]


def image_kinds(dtype: np.dtype[Any], *, rgb: bool) -> tuple[ImageKind, ...]:
    """List what an image may be: 8-bit RGB both kinds, everything else microscopy."""
    return ("photo", "microscopy") if rgb and dtype == "uint8" else ("microscopy",)


def find_model(name_or_path: str | Path | None = None) -> Path:
    """Find the file of a model by its name or path; None or ``"auto"`` is the default model.

    A name in the catalogue wins over a file of that name in the current folder, and a file over a
    name of `ALIASES`. An unknown name raises `ModelNotFoundError`, which tells the nearest names.
    """
    wanted = DEFAULT_MODEL if name_or_path in (None, AUTOMATIC_MODEL) else name_or_path
    if str(wanted) == FILTER_MODEL:
        raise SettingsError(
            f"The filter has no weights (got {FILTER_MODEL!r}). Name a model that `swintormer "
            "models` lists."
        )
    names = {info.name: info.path for info in list_models()}
    if str(wanted) in names:
        return names[str(wanted)]
    path = Path(wanted).expanduser()
    if path.is_file():
        return path
    if (heir := ALIASES.get(str(wanted))) in names:
        return names[heir]
    near = difflib.get_close_matches(str(wanted), names, n=3, cutoff=0.5) or sorted(names)[:3]
    hint = f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    raise ModelNotFoundError(
        f"There is no model {str(wanted)!r}, and no file of that name. {hint}"
        f"Use a name that `swintormer models` lists, the path of a weights file, or copy one into "
        f"{models_folder()}."
    )


def replacement(name_or_path: str | Path | None) -> str | None:
    """Say in one sentence which model an earlier name loads; None for any other name."""
    heir = ALIASES.get(str(name_or_path))
    if heir is None or find_model(name_or_path).stem != heir:
        return None
    return (
        f"The model {str(name_or_path)!r} has become a part of {heir!r}, which is used instead. "
        f"Leave the model out, or name {heir!r}."
    )


def describe_model(name_or_path: str | Path | None = None) -> ModelInfo:
    """Find a model and read its card; imports torch only for weights without a card.

    Raises the errors of `load_model`.
    """
    path = find_model(name_or_path)
    names = {info.path: info.name for info in list_models()}
    kind = detect(path)
    if kind.is_recognised:
        card: ModelCard = spandrel_networks.describe_tensors(path, file_sha256(path))
    else:
        card = load_weights(path)[0] if kind.is_pickle else _stored_card(path, kind)
    name, source = names.get(path, path.stem), _folders().get(path.parent, "path")
    return ModelInfo(name, path, source, card)


def load_model(name_or_path: str | Path | None = None) -> Restorer:
    """Load a model, on the CPU.

    Parameters
    ----------
    name_or_path
        A name in the catalogue or the path of a weights file, also of the authors' released code
        or of a network of others; None for the default model.

    Raises
    ------
    ModelNotFoundError
        No model has this name and no file lies at this path.
    FileError, WeightsError
        The file cannot be read, or is not a model.
    SettingsError
        The model needs a prior that its card does not describe, or it is a program that the user
        does not trust.
    """
    import_torch()
    from napari_swintormer.models.foreign.adapter import ForeignRestorer
    from napari_swintormer.models.restorer import Restorer

    path = find_model(name_or_path)
    if sentence := replacement(name_or_path):
        _LOGGER.warning(sentence)
    kind, sha256 = detect(path), file_sha256(path)
    if kind.is_program:
        trusted = programs.trusted_card(path, sha256)
        return ForeignRestorer(trusted, programs.open_program(path), sha256)
    if kind.is_recognised:
        return ForeignRestorer(*spandrel_networks.recognise(path, read_tensors(path)), sha256)
    card, state_dict = load_weights(path)
    if isinstance(card, ForeignCard):
        return ForeignRestorer(card, spandrel_networks.recognise(path, state_dict)[1], sha256)
    return Restorer(card, state_dict, sha256)


def _folders() -> dict[Path, Source]:
    return {BUILT_IN_FOLDER: "built-in", models_folder(): "user"}


def _read_folder(folder: Path, source: Source) -> list[ModelInfo]:
    try:
        files = sorted(folder.iterdir())
    except OSError:  # a folder that does not exist yet is an empty one
        return []
    files = [file for file in files if has_model_suffix(file) and not file.name.startswith(".")]
    return [_read_file(file, source) for file in files]


def _read_file(file: Path, source: Source) -> ModelInfo:
    info = None
    with suppress(OSError):  # removed meanwhile, or a link to nothing
        state = file.stat()
        info = _read_once(file, source, state.st_mtime_ns, state.st_size, state.st_ino)
    return info or _read_as(detect(file), file, source)


@lru_cache(maxsize=512)
def _read_once(file: Path, source: Source, *_state: int) -> ModelInfo | None:
    """Read a file once while it stays as it is; None for a program, which may get trusted."""
    kind = detect(file)
    return None if kind.is_program else _read_as(kind, file, source)


def _read_as(kind: Kind, file: Path, source: Source) -> ModelInfo:
    if kind.is_pickle:
        problem = f"Weights that are not imported; run `swintormer models import {file}` once."
        return ModelInfo(file.stem, file, source, problem=problem)
    try:
        return ModelInfo(file.stem, file, source, _stored_card(file, kind))
    except (FileError, SettingsError, WeightsError) as error:
        return ModelInfo(file.stem, file, source, problem=str(error))


def _stored_card(path: Path, kind: Kind) -> ModelCard:
    """Read the card of a file without torch: from its header, or from the record of its trust."""
    if kind.is_program:
        return programs.trusted_card(path, file_sha256(path))
    return read_card(path)
