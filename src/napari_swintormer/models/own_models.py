"""Changes the models of the user: adds, exports, renames and deletes them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from napari_swintormer.errors import OutputError
from napari_swintormer.models.catalogue import (
    WORDS,
    find_model,
    free_name,
    list_models,
    own_models,
)
from napari_swintormer.models.files.card import ForeignCard
from napari_swintormer.models.files.kinds import detect
from napari_swintormer.models.files.weights import (
    file_sha256,
    load_weights,
    read_tensors,
    save_weights,
    written_beside,
)
from napari_swintormer.models.foreign import programs, spandrel_networks
from napari_swintormer.settings.preferences import models_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
    if name.casefold() in WORDS:
        raise OutputError(
            f"A model cannot be called {name!r}, which is a word for another choice. Another name "
            f"is free: {free_name(name)!r}."
        )
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
    own = [info for info in own_models() if info.name == name]
    if own:  # the one that `list_models` lists
        return ([info for info in own if info.problem is None] or own[:1])[-1].path
    path = find_model(name)
    built_in = path in {info.path for info in list_models() if info.source == "built-in"}
    raise OutputError(
        f"Only models in {models_folder()} can be renamed or deleted (got {name!r}, which is "
        f"{'built in' if built_in else 'elsewhere'})."
    )
