"""Commands that deblur: ``deblur``, ``demo`` and ``benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_swintormer.cli.common import (
    DEFAULT,
    BatchSize,
    Blend,
    Device,
    Model,
    Overlap,
    Overwrite,
    Precision,
    Seed,
    Strength,
    TileSize,
    resumable,
)
from napari_swintormer.errors import SettingsError
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import with_preferences


def deblur(
    src: Annotated[
        Path,
        typer.Argument(help="Image: TIFF, OME-TIFF, Zarr, NPY, PNG or JPEG; or a folder of them."),
    ],
    dst: Annotated[
        Path, typer.Argument(help="Result; .ome.zarr for images of any size. Of a folder a folder.")
    ],
    model: Model = DEFAULT.model,
    second_view: Annotated[
        Path | None,
        typer.Option(help="Other view of the scene, for models of two; of a folder a folder."),
    ] = None,
    axes: Annotated[
        str | None, typer.Option(help="One letter of TCZYXS per dimension; guessed if left out.")
    ] = DEFAULT.axes,
    planes: Annotated[
        str | None, typer.Option(help="Planes to deblur, such as Z=2:5; all if left out.")
    ] = DEFAULT.planes,
    preset: Annotated[
        str | None,
        typer.Option(help="fast, balanced or best: overlap, steps and samples left out."),
    ] = DEFAULT.preset,
    tile_size: TileSize = DEFAULT.tile_size,
    overlap: Overlap = DEFAULT.overlap,
    blend: Blend = DEFAULT.blend,
    batch_size: BatchSize = DEFAULT.batch_size,
    device: Device = DEFAULT.device,
    precision: Precision = DEFAULT.precision,
    seed: Seed = DEFAULT.seed,
    num_inference_steps: Annotated[
        int | None,
        typer.Option(help="Steps to sample the model's prior in; the model's if left out."),
    ] = DEFAULT.num_inference_steps,
    samples: Annotated[
        int | None, typer.Option(help="Priors to draw; the result is the mean of what they give.")
    ] = DEFAULT.samples,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty", help="Write what the samples differ by, too, into NAME-deviation."
        ),
    ] = DEFAULT.uncertainty,
    prior: Annotated[
        str | None,
        typer.Option(help="off, or where the paper's prior is: hub id, folder, .ckpt file."),
    ] = DEFAULT.prior,
    strength: Strength = DEFAULT.strength,
    scale: Annotated[
        int, typer.Option(help="1, 2 or 4: restore at 1/2 or 1/4 of the size, for wide blur.")
    ] = DEFAULT.scale,
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
    """Deblur an image of any size from file to file, or every image of a folder."""
    from napari_swintormer.runs.file import FileRun
    from napari_swintormer.runs.folder import FolderRun, is_folder_of_images
    from napari_swintormer.terminal import finish

    settings = DeblurSettings(
        model=model,
        axes=axes,
        planes=planes,
        preset=preset,  # type: ignore[arg-type]
        tile_size=tile_size,
        overlap=overlap,
        blend=blend,  # type: ignore[arg-type] # the run refuses other words, as in the API
        batch_size=batch_size,
        device=device,
        precision=precision,  # type: ignore[arg-type]
        seed=seed,
        num_inference_steps=num_inference_steps,
        samples=samples,
        uncertainty=uncertainty,
        prior=prior,
        strength=strength,
        scale=scale,
    )
    settings = with_preferences(settings)
    run: FileRun | FolderRun
    if is_folder_of_images(src):
        if compression is not None or scheduler is not None:
            raise SettingsError("A folder takes neither --compression nor --scheduler.")
        run = FolderRun(src, dst, settings, overwrite, second_view)  # goes on in any case
    else:
        run = FileRun(
            src,
            dst,
            settings,
            second_view=second_view,
            compression=compression,  # type: ignore[arg-type]
            overwrite=overwrite,
            resume=resume,
            scheduler=scheduler,
        )
    if dry_run:
        typer.echo(run.describe())
        return
    with resumable():
        finish(run.events(), "Deblurring", show=True)
    typer.echo(str(dst))


def residual(
    src: Annotated[Path, typer.Argument(help="Image that was deblurred.")],
    result: Annotated[Path, typer.Argument(help="What was made of it.")],
    dst: Annotated[Path, typer.Argument(help="Map to write: .ome.zarr, .tif, .ome.tif or .npy.")],
    axes: Annotated[
        str | None,
        typer.Option(help="One letter of TCZYXS per dimension; the file's if left out."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Map where a result, blurred again as it best fits, does not explain its image."""
    from napari_swintormer.evaluation.residual_file import residual_file
    from napari_swintormer.terminal import finish

    events = residual_file(src, result, dst, axes, overwrite=overwrite)
    finish(events, "Blurring again", show=True)
    typer.echo(str(dst))


def demo(
    out: Annotated[Path, typer.Option(help="Folder for results and pictures.")] = Path("demo"),
    model: Model = DEFAULT.model,
    device: Device = DEFAULT.device,
) -> None:
    """Deblur the bundled images, and draw before and after."""
    from napari_swintormer.cli.demo import make_demo

    settings = with_preferences(DeblurSettings(model, device=device))
    for path in make_demo(out, settings, progress=True):
        typer.echo(str(path))


def benchmark(
    model: Model = DEFAULT.model,
    device: Device = DEFAULT.device,
    precision: Precision = DEFAULT.precision,
    quick: Annotated[bool, typer.Option("--quick", help="In under a minute.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file.")
    ] = None,
) -> None:
    """Measure speed and memory of network and engine on this computer."""
    import json

    from rich.console import Console
    from rich.table import Table

    from napari_swintormer.evaluation.benchmark.report import run_benchmark, table

    settings = DeblurSettings(model, device=device, precision=precision)  # type: ignore[arg-type]
    report = run_benchmark(settings, quick=quick, say=lambda line: typer.echo(line, err=True))
    lines = Table(show_header=False, box=None, pad_edge=False)
    for what, figure in table(report):
        lines.add_row(what, figure)
    Console().print(lines)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
