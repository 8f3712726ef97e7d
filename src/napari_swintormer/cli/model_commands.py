"""The commands ``models``, its subcommands, and ``info``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_swintormer.cli.common import Group, Overwrite
from napari_swintormer.errors import SwintormerError
from napari_swintormer.openmp import import_torch
from napari_swintormer.settings.deblur_settings import FILTER_MODEL
from napari_swintormer.settings.preferences import models_folder

if TYPE_CHECKING:
    from napari_swintormer.imaging.image import Image

models_app = typer.Typer(cls=Group, help="List, show, import, export, rename and delete models.")


@models_app.callback(invoke_without_command=True)
def models(ctx: typer.Context) -> None:
    """List the models."""
    if ctx.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from napari_swintormer.models.catalogue import list_models

    table = Table("name", "source", "title", "tiles", box=None, pad_edge=False)
    for info in list_models():
        if info.card is None:
            problem = f"[red]cannot be used:[/] {escape(info.problem or '')}"
            table.add_row(info.name, info.source, problem)
        else:
            tiles = f"{info.card.tile_size}, overlap {info.card.overlap}"
            table.add_row(info.name, info.source, escape(info.card.title), tiles)
    table.add_row(FILTER_MODEL, "", "Filter that undoes the blur, without a network")
    Console().print(table)
    typer.echo(f"\nOwn models: {models_folder()}")


@models_app.command("show")
def show_model(name: Annotated[str, typer.Argument(help="Name or path of a model.")]) -> None:
    """Show the card of a model."""
    from napari_swintormer.models.catalogue import describe_model, replacement

    if sentence := replacement(name):
        typer.echo(sentence, err=True)
    info = describe_model(name)
    assert info.card is not None
    _echo({"file": info.path} | info.card.model_dump(exclude={"format_version"}))


@models_app.command("import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(help="Weights file, also .pth of the released code, or a program of torch."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model; the default is the file's.")
    ] = None,
    overwrite: Overwrite = False,
    run_code: Annotated[
        bool,
        typer.Option("--run-code", help="I trust the author of this program: run its code."),
    ] = False,
) -> None:
    """Check a model file and copy it into the folder of your models."""
    from napari_swintormer.models.own_models import import_model

    typer.echo(str(import_model(file, name=name, overwrite=overwrite, run_code=run_code)))


@models_app.command("export")
def export_file(
    name: Annotated[str, typer.Argument(help="Name of a model.")],
    target: Annotated[
        Path,
        typer.Argument(
            help="File to write, .safetensors; .zip for the BioImage Model Zoo; or folder."
        ),
    ],
    overwrite: Overwrite = False,
) -> None:
    """Copy a model to a file, to give it to others."""
    from napari_swintormer.models.own_models import export_model

    typer.echo(str(export_model(name, target, overwrite=overwrite)))


@models_app.command("rename")
def rename(
    name: Annotated[str, typer.Argument(help="Name of one of your models.")],
    new_name: Annotated[str, typer.Argument(help="Its new name.")],
) -> None:
    """Rename one of your models."""
    from napari_swintormer.models.own_models import rename_model

    typer.echo(str(rename_model(name, new_name)))


@models_app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(help="Name of one of your models.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete one of your models; asks first."""
    from napari_swintormer.models.own_models import delete_model

    if not yes:
        typer.confirm(f"Delete the model {name!r} for good?", abort=True, err=True)
    typer.echo(str(delete_model(name)))


def info(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Image or model file, or a folder of images. Without one, the devices are listed.",
        ),
    ] = None,
) -> None:
    """Show what an image or a model file holds, list the images of a folder, or the devices."""
    from napari_swintormer.models.files.kinds import has_model_suffix
    from napari_swintormer.runs.folder import images_in, is_folder_of_images

    if not files:
        import_torch()
        from napari_swintormer.engine.devices import devices_here

        _echo(devices_here())
        return
    for number, file in enumerate(files):
        if len(files) > 1:
            typer.echo(f"{chr(10) * (number > 0)}{file}")
        if is_folder_of_images(file):
            for line in _columns([_summary(path) for path in images_in(file)]):
                typer.echo(line)
        elif has_model_suffix(file):
            show_model(str(file))
        else:
            _echo(_image_facts(file))


def _image_facts(file: Path) -> dict[str, Any]:
    """Tell what was understood of an image file."""
    from napari_swintormer.imaging.formats.reading import open_image
    from napari_swintormer.imaging.formats.registry import detect_format

    with open_image(file) as image:
        facts: dict[str, Any] = {
            "format": detect_format(file).name,
            "axes": _sizes(image),
            "data type": image.data.dtype,
        }
        for axis, size in image.pixel_size.items():
            facts[f"pixel size {axis}"] = f"{size:g} {image.unit.get(axis, '(unit unknown)')}"
        if image.levels:
            facts["coarser levels"] = len(image.levels)
        if image.images:
            facts["image"] = f"{image.number} of {len(image.images)} images; --image chooses one"
            facts |= {f"image {n}": name for n, name in enumerate(image.images, start=1)}
        facts |= image.carried.describe()
        return facts | {"left out" + " " * n: told for n, told in enumerate(image.left_out)}


def _summary(path: Path) -> tuple[str, ...]:
    """Tell an image in a few words, or why it cannot be opened."""
    from napari_swintormer.imaging.formats.reading import open_image

    try:
        with open_image(path) as image:
            return path.name, _sizes(image), str(image.data.dtype)
    except SwintormerError as error:
        return path.name, f"cannot be opened: {error}"


def _sizes(image: Image) -> str:
    return " × ".join(f"{a} {n}" for a, n in zip(image.axes, image.data.shape, strict=True))


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align the columns of rows; the last cell of a row may be of any length."""
    widths = [
        max((len(row[i]) for row in rows if len(row) > i + 1), default=0)
        for i in range(max(map(len, rows)))
    ]
    return [
        "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)]).rstrip()
        for row in rows
    ]


def _echo(facts: Mapping[str, Any], indent: str = "") -> None:
    """Print one fact a line, nested facts indented."""
    for name, fact in facts.items():
        title = f"{indent}{name.replace('_', ' ')}"
        if isinstance(fact, Mapping) and fact:
            typer.echo(title)
            _echo(fact, indent + "  ")
        elif isinstance(fact, tuple) and fact and isinstance(fact[0], Mapping):
            typer.echo(title)
            for one in fact:
                typer.echo(f"{indent}  " + ", ".join(str(value) for value in one.values()))
        elif fact not in ("", (), {}, None):
            typer.echo(f"{title:<22} {fact}")
