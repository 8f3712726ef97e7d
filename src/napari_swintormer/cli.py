"""The command line: ``swintormer deblur | train | pairs | models | info | demo | benchmark``.

Nothing here imports torch; the commands do, when they run. Every mistake of the user ends in one
line on standard error and exit code 2; Ctrl-C ends in 130 with a sentence on how to go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from napari_swintormer import __version__
from napari_swintormer.config import DeblurSettings, models_folder
from napari_swintormer.errors import SwintormerError
from napari_swintormer.training.settings import TrainSettings

_BAD_INPUT, _STOPPED = 2, 130


class _Group(TyperGroup):
    """Commands whose errors are sentences."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; turn what the user can put right into an exit code."""
        try:
            return super().invoke(ctx)
        except SwintormerError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(_BAD_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("Stopped.", err=True)
            raise typer.Exit(_STOPPED) from error


app = typer.Typer(
    cls=_Group,
    help="Remove defocus and motion blur from images of any size.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(cls=_Group, help="List, show, import, export, rename and delete models.")
app.add_typer(models_app, name="models")

_DEFAULT = DeblurSettings()

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Name of a model, or path of a weights file."),
]
TileSize = Annotated[
    int | None, typer.Option(help="Side of the tiles in pixels; the model's if left out.")
]
Overlap = Annotated[
    int | None, typer.Option(help="Overlap of neighbouring tiles; the model's if left out.")
]
Blend = Annotated[
    str | None, typer.Option(help="smooth or uniform weights; the model's if left out.")
]
BatchSize = Annotated[int | None, typer.Option(help="Tiles at once; chosen by device if left out.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Strength = Annotated[float, typer.Option(help="Share of the change to apply, 0 to 1.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"swintormer {__version__}")
        raise typer.Exit


@app.command()
def deblur(
    src: Annotated[Path, typer.Argument(help="Image: TIFF, OME-TIFF, Zarr, NPY, PNG or JPEG.")],
    dst: Annotated[Path, typer.Argument(help="Result; .ome.zarr for images of any size.")],
    model: Model = _DEFAULT.model,
    axes: Annotated[
        str | None, typer.Option(help="One letter of TCZYXS per dimension; guessed if left out.")
    ] = _DEFAULT.axes,
    tile_size: TileSize = _DEFAULT.tile_size,
    overlap: Overlap = _DEFAULT.overlap,
    blend: Blend = _DEFAULT.blend,
    batch_size: BatchSize = _DEFAULT.batch_size,
    device: Device = _DEFAULT.device,
    precision: Precision = _DEFAULT.precision,
    seed: Seed = _DEFAULT.seed,
    num_inference_steps: Annotated[
        int | None,
        typer.Option(help="Steps to sample the model's prior in; the model's if left out."),
    ] = _DEFAULT.num_inference_steps,
    prior: Annotated[
        str | None,
        typer.Option(help="off, or where the paper's prior is: hub id, folder, .ckpt file."),
    ] = _DEFAULT.prior,
    strength: Strength = _DEFAULT.strength,
    compression: Annotated[
        str | None, typer.Option(help="Of a TIFF: deflate or zstd; none if left out.")
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask cluster that does the work.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan: tiles, time, memory, disk.")
    ] = False,
) -> None:
    """Deblur an image of any size from file to file."""
    from napari_swintormer.console import finish
    from napari_swintormer.file_run import FileRun

    settings = DeblurSettings(
        model=model,
        axes=axes,
        tile_size=tile_size,
        overlap=overlap,
        blend=blend,  # type: ignore[arg-type] # the run refuses other words, as in the API
        batch_size=batch_size,
        device=device,
        precision=precision,  # type: ignore[arg-type]
        seed=seed,
        num_inference_steps=num_inference_steps,
        prior=prior,
        strength=strength,
    )
    run = FileRun(
        src,
        dst,
        settings,
        compression=compression,  # type: ignore[arg-type]
        overwrite=overwrite,
        resume=resume,
        scheduler=scheduler,
    )
    if dry_run:
        typer.echo(run.describe())
        return
    with _resumable():
        finish(run.events(), "Deblurring", show=True)
    typer.echo(str(dst))


Blurred = Annotated[
    Path | None, typer.Option(help="Folder with the blurred partner of each, of equal name.")
]
Annotations = Annotated[
    Path | None,
    typer.Option(help="Folder of masks of equal names: 1 where patches are taken, 2 left out."),
]
Register = Annotated[
    bool, typer.Option("--register", help="Move sharp images back by the shift that is found.")
]
MatchIntensity = Annotated[
    bool,
    typer.Option("--match-intensity", help="Bring sharp images to the blurred ones' intensities."),
]


@app.command()
def pairs(
    blurred: Annotated[Path, typer.Option(help="Folder of blurred images.")],
    sharp: Annotated[Path, typer.Option(help="Folder of their sharp partners, of equal names.")],
    annotations: Annotations = TrainSettings.annotations,
    register: Register = TrainSettings.register,
    match_intensity: MatchIntensity = TrainSettings.match_intensity,
) -> None:
    """Check pairs before training: shift, intensities, which is sharper, sizes, partners."""
    from rich.console import Console
    from rich.table import Table

    from napari_swintormer.training.check import check_pairs

    reports = check_pairs(
        blurred,
        sharp,
        annotations=annotations,
        register=register,
        match_intensity=match_intensity,
    )
    table = Table("pair", "shift y, x", "gain", "details", "findings", box=None, pad_edge=False)
    for report in reports:
        found = "\n".join(escape(finding.message) for finding in report.findings)
        colour = "red" if report.bad else "yellow" if found else "green"
        table.add_row(escape(report.name), *report.figures, f"[{colour}]{found or 'good'}[/]")
    Console().print(table)
    bad = sum(report.bad for report in reports)
    typer.echo(f"\n{len(reports) - bad} of {len(reports)} pairs can be trained on.")
    if bad:
        raise typer.Exit(_BAD_INPUT)


@app.command()
def train(
    sharp: Annotated[list[Path], typer.Option(help="Folder of sharp images; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Weights file to write, .safetensors.")],
    blurred: Blurred = TrainSettings.blurred,
    annotations: Annotations = TrainSettings.annotations,
    synthesize: Annotated[
        str | None, typer.Option(help="defocus: make the blurred images instead.")
    ] = TrainSettings.synthesize,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="auto, photo or microscopy; one for all or one per folder --sharp."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps.")] = TrainSettings.steps,
    from_model: Annotated[
        str | None, typer.Option("--from", help="Model to start from, by name or path.")
    ] = TrainSettings.from_model,
    stage: Annotated[
        str,
        typer.Option(help="network; or of a prior: autoencoder, denoiser, network, joint."),
    ] = TrainSettings.stage,
    network: Annotated[
        str | None, typer.Option(help="small or paper: network to train from nothing.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Patches in a step.")] = TrainSettings.batch_size,
    patch_size: Annotated[
        int, typer.Option(help="Side of the patches in pixels.")
    ] = TrainSettings.patch_size,
    learning_rate: Annotated[
        float, typer.Option("--lr", help="Learning rate at its peak.")
    ] = TrainSettings.learning_rate,
    warmup: Annotated[
        int, typer.Option(help="Steps until the peak of the learning rate.")
    ] = TrainSettings.warmup,
    loss: Annotated[
        str, typer.Option(help="l1, charbonnier, frequency or a sum: 'l1 + 0.1 * frequency'.")
    ] = TrainSettings.loss,
    parameters: Annotated[
        str, typer.Option(help="all, decoder or output: what is trained.")
    ] = TrainSettings.parameters,
    register: Register = TrainSettings.register,
    match_intensity: MatchIntensity = TrainSettings.match_intensity,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad pairs out instead of refusing.")
    ] = TrainSettings.skip_bad,
    validate_every: Annotated[
        int, typer.Option(help="Steps between two validations.")
    ] = TrainSettings.validate_every,
    patience: Annotated[
        int | None, typer.Option(help="Validations without a better one that end the training.")
    ] = TrainSettings.patience,
    keep: Annotated[
        str, typer.Option(help="last or best: weights that are written in the end.")
    ] = TrainSettings.keep,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training.")
    ] = TrainSettings.resume,
    seed: Seed = TrainSettings.seed,
    device: Device = TrainSettings.device,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = TrainSettings.precision,
    title: Annotated[str, typer.Option(help="For the model card.")] = TrainSettings.title,
    summary: Annotated[
        str, typer.Option(help="For the model card: what the model is good for.")
    ] = TrainSettings.summary,
    licence: Annotated[
        str, typer.Option(help="For the model card: of the weights.")
    ] = TrainSettings.licence,
) -> None:
    """Train a model on pairs of blurred and sharp images, or on sharp images alone."""
    from napari_swintormer.training.train import BEST
    from napari_swintormer.training.train import train as run_training

    with _resumable(out.with_suffix(".run") / BEST):
        made = run_training(
            blurred,
            sharp,
            out,
            annotations=annotations,
            synthesize=synthesize,  # type: ignore[arg-type] # refused there
            kind=kind or "auto",
            steps=steps,
            from_model=from_model,
            stage=stage,
            network=network,
            resume=resume,
            seed=seed,
            device=device,
            precision=precision,
            progress=True,
            batch_size=batch_size,
            patch_size=patch_size,
            learning_rate=learning_rate,
            warmup=warmup,
            loss=loss,
            parameters=parameters,
            register=register,
            match_intensity=match_intensity,
            skip_bad=skip_bad,
            validate_every=validate_every,
            patience=patience,
            keep=keep,
            title=title,
            summary=summary,
            licence=licence,
        )
    typer.echo(str(made))


@models_app.callback(invoke_without_command=True)
def models(ctx: typer.Context) -> None:
    """List the models."""
    if ctx.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Table

    from napari_swintormer.models.catalogue import list_models

    table = Table("name", "source", "title", "tiles", box=None, pad_edge=False)
    for info in list_models():
        if info.card is None:
            table.add_row(info.name, info.source, f"[red]cannot be used:[/] {info.problem}")
        else:
            tiles = f"{info.card.tile_size}, overlap {info.card.overlap}"
            table.add_row(info.name, info.source, info.card.title, tiles)
    Console().print(table)
    typer.echo(f"\nOwn models: {models_folder()}")


@models_app.command("show")
def show_model(name: Annotated[str, typer.Argument(help="Name or path of a model.")]) -> None:
    """Show the card of a model."""
    from napari_swintormer.models.catalogue import describe_model

    info = describe_model(name)
    assert info.card is not None
    _echo({"file": info.path} | info.card.model_dump(exclude={"format_version"}))


@models_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="Weights file, also .pth of the released code.")],
    overwrite: Overwrite = False,
) -> None:
    """Check a weights file and copy it into the folder of your models."""
    from napari_swintormer.models.catalogue import import_model

    typer.echo(str(import_model(file, overwrite=overwrite)))


@models_app.command("export")
def export_file(
    name: Annotated[str, typer.Argument(help="Name of a model.")],
    target: Annotated[Path, typer.Argument(help="Weights file to write, .safetensors, or folder.")],
    overwrite: Overwrite = False,
) -> None:
    """Copy a model to a file, to give it to others."""
    from napari_swintormer.models.catalogue import export_model

    typer.echo(str(export_model(name, target, overwrite=overwrite)))


@models_app.command("rename")
def rename(
    name: Annotated[str, typer.Argument(help="Name of one of your models.")],
    new_name: Annotated[str, typer.Argument(help="Its new name.")],
) -> None:
    """Rename one of your models."""
    from napari_swintormer.models.catalogue import rename_model

    typer.echo(str(rename_model(name, new_name)))


@models_app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(help="Name of one of your models.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete one of your models, after a question."""
    from napari_swintormer.models.catalogue import delete_model

    if not yes:
        typer.confirm(f"Delete the model {name!r} for good?", abort=True, err=True)
    typer.echo(str(delete_model(name)))


@app.command()
def info(file: Annotated[Path, typer.Argument(help="Image or weights file.")]) -> None:
    """Tell what an image or a weights file holds."""
    from napari_swintormer.imaging.files import open_image
    from napari_swintormer.models.weights import RELEASED_SUFFIXES

    if file.suffix.lower() in (".safetensors", *RELEASED_SUFFIXES):
        show_model(str(file))
        return
    with open_image(file) as image:
        sizes = zip(image.axes, image.data.shape, strict=True)
        facts = {
            "axes": " × ".join(f"{axis} {size}" for axis, size in sizes),
            "data type": image.data.dtype,
        }
        for axis, size in image.pixel_size.items():
            facts[f"pixel size {axis}"] = f"{size:g} {image.unit.get(axis, '(unit unknown)')}"
        _echo(facts)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for results and pictures.")] = Path("demo"),
    model: Model = _DEFAULT.model,
    device: Device = _DEFAULT.device,
) -> None:
    """Deblur the bundled images, and draw before and after."""
    from napari_swintormer.demo import make_demo

    settings = DeblurSettings(model, device=device)
    for path in make_demo(out, settings, progress=True):
        typer.echo(str(path))


@app.command()
def benchmark(
    model: Model = _DEFAULT.model,
    device: Device = _DEFAULT.device,
    precision: Precision = _DEFAULT.precision,
    quick: Annotated[bool, typer.Option("--quick", help="In under a minute.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file.")
    ] = None,
) -> None:
    """Measure speed and memory of network and engine on this computer."""
    import json

    from rich.console import Console
    from rich.table import Table

    from napari_swintormer.benchmark.report import run_benchmark, table

    settings = DeblurSettings(model, device=device, precision=precision)  # type: ignore[arg-type]
    report = run_benchmark(settings, quick=quick, say=lambda line: typer.echo(line, err=True))
    lines = Table(show_header=False, box=None, pad_edge=False)
    for what, figure in table(report):
        lines.add_row(what, figure)
    Console().print(lines)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _echo(facts: Mapping[str, Any], indent: str = "") -> None:
    """Print facts one a line; those of facts indented below them."""
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


@contextmanager
def _resumable(best: Path | None = None) -> Iterator[None]:
    """Say how to go on after Ctrl-C, and where the best weights so far are."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("Stopped; the same command with --resume goes on where it was.", err=True)
        if best is not None and best.is_file():
            typer.echo(f"The best weights so far are in {best}.", err=True)
        raise typer.Exit(_STOPPED) from error


def main() -> None:
    """Entry point of the command ``swintormer``."""
    app()
