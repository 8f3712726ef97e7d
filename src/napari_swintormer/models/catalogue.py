"""The catalogue: which models there are, and how a name or a path becomes a restorer.

Built-in models come with the package. A file in the user's folder is a model too, under the name of
the file. Listing reads the headers of the files and imports no torch.
"""

from __future__ import annotations

import difflib
import re
import shutil
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal

from napari_swintormer.errors import (
    FileError,
    ModelNotFoundError,
    OutputError,
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
    save_weights,
    written_beside,
)
from napari_swintormer.models.foreign import programs, spandrel_networks
from napari_swintormer.openmp import import_torch
from napari_swintormer.settings.deblur_settings import AUTOMATIC_MODEL, DEFAULT_MODEL
from napari_swintormer.settings.preferences import models_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.restorer import Restorer

BUILT_IN_FOLDER = Path(__file__).parents[1] / "weights"

Source = Literal["built-in", "user", "path"]
ImageKind = Literal["photo", "microscopy"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
    for info in _own_models():
        if info.name not in models or info.problem is None:
            models[info.name] = info
    return [models[name] for name in sorted(models)]


def free_name(name: str) -> str:
    """Return a name that no model has: `name` itself, or with a number behind it.

    Names are compared without regard to upper and lower case, as some disks do.
    """
    return _next_free(name, {info.name for info in list_models()})


def _next_free(name: str, taken: Collection[str]) -> str:
    taken = {other.casefold() for other in taken}
    tries = chain([name], (f"{name[:60]}-{number}" for number in count(2)))
    return next(candidate for candidate in tries if candidate.casefold() not in taken)


def _own_models() -> list[ModelInfo]:
    """Read the user's folder; a file with the name of a built-in model gets a free one."""
    built_in = {info.name for info in _read_folder(BUILT_IN_FOLDER, "built-in")}
    own = _read_folder(models_folder(), "user")
    taken = built_in | {info.name for info in own}
    hidden = {name.casefold() for name in built_in}
    return [
        replace(info, name=_next_free(info.name, taken)) if info.name.casefold() in hidden else info
        for info in own
    ]


def recommended_model(
    models: Sequence[ModelInfo], kinds: Sequence[ImageKind], *, known_blur: bool = False
) -> tuple[str, float] | None:
    """Choose the model of a single image whose card states the largest gain on these kinds.

    With `known_blur` it is a model that continues from a filter for a known blur, else another one.
    Returns its name and its gain over the blurred images in dB of PSNR, the mean over the kinds;
    None if no card states a gain.
    """
    figures = [f"PSNR gain on {kind}, dB" for kind in kinds]
    gains = {
        info.name: mean(info.card.metrics[figure] for figure in figures)
        for info in models
        if info.card is not None
        and info.card.network.views == 1
        and info.card.network.known_blur == known_blur
        and info.card.metrics.keys() >= set(figures)
    }
    if not gains:
        return None
    best = max(gains, key=lambda name: gains[name])
    return best, gains[best]


def image_kinds(dtype: np.dtype[Any], *, rgb: bool) -> tuple[ImageKind, ...]:
    """List what an image may be: 8-bit RGB both kinds, everything else microscopy."""
    return ("photo", "microscopy") if rgb and dtype == "uint8" else ("microscopy",)


def choose_model(name_or_path: str | Path | None, kinds: Sequence[ImageKind]) -> str | Path:
    """Return the user's choice; for None or ``"auto"`` the best built-in model for these kinds.

    Only built-in models are chosen: the cards of others may claim anything.
    """
    if name_or_path is not None and name_or_path != AUTOMATIC_MODEL:
        return name_or_path
    built_in = [info for info in list_models() if info.source == "built-in"]
    best = recommended_model(built_in, kinds)
    return DEFAULT_MODEL if best is None else best[0]


def known_blur_model(kinds: Sequence[ImageKind]) -> str | None:
    """Return the best built-in model that continues from a filter for a known blur, if any."""
    built_in = [info for info in list_models() if info.source == "built-in"]
    best = recommended_model(built_in, kinds, known_blur=True)
    return None if best is None else best[0]


def find_model(name_or_path: str | Path | None = None) -> Path:
    """Find the file of a model by its name or path; None or ``"auto"`` is the default model.

    A name in the catalogue wins over a file of that name in the current folder. An unknown name
    raises `ModelNotFoundError`, which tells the nearest names.
    """
    wanted = DEFAULT_MODEL if name_or_path in (None, AUTOMATIC_MODEL) else name_or_path
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


def import_model(
    file: str | Path, *, name: str | None = None, overwrite: bool = False, run_code: bool = False
) -> Path:
    """Check a model file, copy it into the user's folder, and return the copy.

    Weights of the released code and of networks that spandrel recognises become ``.safetensors``.

    Parameters
    ----------
    file
        Weights, or a program: TorchScript or exported by torch.
    name
        Name of the model; None for the name of the file.
    overwrite
        Replace a model of the user with this name.
    run_code
        Whether the user trusts the author of a program. Its code runs now, and whenever the model
        is used.
    """
    file = Path(file).expanduser()
    kind, name = detect(file), name or file.stem
    if kind.is_program and not run_code:
        programs.trusted_card(file, file_sha256(file))
    target = models_folder() / f"{name}{file.suffix if kind.is_program else '.safetensors'}"
    check_free(name, own=False)
    if target.exists() and not overwrite:
        raise OutputError(
            f"There is a model {name!r} already, at {target}. Another name is free: "
            f"{free_name(name)!r}; --overwrite replaces the model."
        )
    if kind.is_program:
        sha256, card = file_sha256(file), programs.probe_program(file)
        with written_beside(target) as partial:
            shutil.copyfile(file, partial)
        programs.trust(card, sha256)
    elif kind.is_recognised:
        tensors = read_tensors(file)
        save_weights(target, tensors, spandrel_networks.recognise(file, tensors)[0])
    else:
        weights_card, state_dict = load_weights(file)
        save_weights(target, state_dict, weights_card)
    return target


def check_free(name: str, *, own: bool = True) -> None:
    """Raise `OutputError` if a built-in model, or with `own` one of the user, has this name."""
    for info in list_models():
        if info.name.casefold() == name.casefold() and (own or info.source == "built-in"):
            which = "built-in model" if info.source == "built-in" else "model"
            raise OutputError(
                f"There is a {which} {info.name!r} already. Another name is free: "
                f"{free_name(name)!r}."
            )


def rename_model(name: str, new_name: str) -> Path:
    """Rename a model in the user's folder, and return the file under its new name."""
    path = _own_file(name)
    if not _NAME.fullmatch(new_name):
        raise OutputError(
            f"A model cannot be called {new_name!r}. Use up to 64 letters, digits, dots, dashes "
            "and underscores, a letter or digit first."
        )
    target = path.with_name(new_name + path.suffix)
    if new_name.casefold() != name.casefold():
        check_free(new_name)
    try:
        path.rename(target)
    except OSError as error:
        raise OutputError(f"{path} cannot be renamed ({error.strerror}).") from error
    return target


def delete_model(name: str) -> Path:
    """Delete a model in the user's folder for good, and return the file that was deleted."""
    path = _own_file(name)
    try:
        path.unlink()
    except OSError as error:
        raise OutputError(f"{path} cannot be deleted ({error.strerror}).") from error
    return path


def export_model(name: str, target: str | Path, *, overwrite: bool = False) -> Path:
    """Copy the checked weights of a model, with its card, to a file for others.

    Parameters
    ----------
    name
        Name or path of a model.
    target
        File to write, ending in ``.safetensors``, or in ``.zip`` for the format of the BioImage
        Model Zoo; or a folder, where the file gets the name of the model. Returned.
    overwrite
        Replace an existing file.
    """
    source, target = find_model(name), Path(target).expanduser()
    if target.is_dir():
        target /= f"{source.stem}.safetensors"
    if target.exists() and (not overwrite or target.samefile(source)):
        advice = "another name" if overwrite else "another name, or use --overwrite"
        raise OutputError(f"{target} exists already. Write to {advice}.")
    card, state_dict = load_weights(source)
    if target.suffix != ".zip":
        save_weights(target, state_dict, card)
        return target
    if isinstance(card, ForeignCard):
        raise OutputError(
            f"{source.stem!r} is a network of others and cannot be written to {target.name}. Use "
            "the suffix .safetensors."
        )
    from napari_swintormer.models.foreign.bioimage import export_bioimage

    export_bioimage(card, state_dict, target)
    return target


def _own_file(name: str) -> Path:
    """Find the file of this name in the user's folder, whether it can be used or not."""
    own = [info for info in _own_models() if info.name == name]
    if own:  # the one that `list_models` lists
        return ([info for info in own if info.problem is None] or own[:1])[-1].path
    path = find_model(name)
    raise OutputError(
        f"Only models in {models_folder()} can be renamed or deleted (got {name!r}, which is "
        f"{'built in' if path.parent == BUILT_IN_FOLDER else 'elsewhere'})."
    )


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
    kind = detect(file)
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
