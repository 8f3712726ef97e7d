"""The commands ``deblur``, ``residual``, ``demo`` and ``benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_swintormer.cli.common import Overwrite, resumable
from napari_swintormer.cli.flags import with_options
from napari_swintormer.errors import SettingsError
from napari_swintormer.openmp import import_torch
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import with_preferences


@with_options(DeblurSettings)
def deblur(
    src: Annotated[
        list[Path],
        typer.Argument(
            help="Image: TIFF, OME-TIFF, Zarr, NPY, PNG or JPEG; a folder of them; or several."
        ),
    ],
    dst: Annotated[
        Path,
        typer.Argument(
            help="Result: .ome.zarr for images of any size; or a folder, for results of all."
        ),
    ],
    *,
    second_view: Annotated[
        Path | None,
        typer.Option(help="Other view of the scene, or a folder of them, for models of two views."),
    ] = None,
    compression: Annotated[
        str | None,
        typer.Option(help="Compression of a TIFF: deflate or zstd; the default is none."),
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask cluster that does the work.")
    ] = None,
    image: Annotated[
        int | None,
        typer.Option(help="Number of the image, from 1, in a file of several; see info."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan: tiles, time, memory, disk.")
    ] = False,
    **options: Any,
) -> None:
    """Deblur an image of any size from file to file, every image of a folder, or several."""
    from napari_swintormer.runs.file import FileRun
    from napari_swintormer.runs.folder import FolderRun, is_folder_of_images
    from napari_swintormer.runs.result_names import result_file
    from napari_swintormer.terminal import finish

    settings = with_preferences(DeblurSettings(**options))
    run: FileRun | FolderRun
    if len(src) > 1 or is_folder_of_images(src[0]):
        if compression is not None or scheduler is not None or image is not None:
            raise SettingsError(
                "A folder or several images take none of --compression, --scheduler and --image. "
                "Deblur one image after the other with them."
            )
        images = src[0] if len(src) == 1 else tuple(src)
        run = FolderRun(images, dst, settings, overwrite, second_view)  # always resumes
    else:
        dst = result_file(src[0], dst)
        run = FileRun(
            src[0],
            dst,
            settings,
            second_view=second_view,
            compression=compression,  # type: ignore[arg-type] # the run refuses other words
            overwrite=overwrite,
            resume=resume,
            scheduler=scheduler,
            image=image,
        )
    if dry_run:
        typer.echo(run.describe())
        return
    with resumable():
        finish(run.events(), "Deblurring")
    typer.echo(str(dst))


def residual(
    src: Annotated[Path, typer.Argument(help="Image that was deblurred.")],
    result: Annotated[Path, typer.Argument(help="Result of the deblurring.")],
    dst: Annotated[Path, typer.Argument(help="Map to write: .ome.zarr, .tif, .ome.tif or .npy.")],
    axes: Annotated[
        str | None,
        typer.Option(help="One letter of TCZYXS per dimension; by default that of the file."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Map where a result, when it is blurred again, differs from its image."""
    from napari_swintormer.evaluation.residual import residual_file
    from napari_swintormer.terminal import finish

    events = residual_file(src, result, dst, axes, overwrite=overwrite)
    finish(events, "Blurring again")
    typer.echo(str(dst))


@with_options(DeblurSettings, "model", "device")
def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for results and pictures.")] = Path("demo"),
    **options: Any,
) -> None:
    """Deblur the bundled images, and draw before and after."""
    from napari_swintormer.cli.demo import make_demo

    for path in make_demo(out, with_preferences(DeblurSettings(**options))):
        typer.echo(str(path))


@with_options(DeblurSettings, "model", "device", "precision")
def benchmark(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="In under a minute.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Only tell where the time of a whole run goes.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file.")
    ] = None,
    **options: Any,
) -> None:
    """Measure speed and memory of network and engine on this computer."""
    import json

    from rich.console import Console
    from rich.table import Table

    import_torch()
    from napari_swintormer.evaluation.benchmark import report as reports

    settings = DeblurSettings(**options)
    measure = reports.run_profile if profile else reports.run_benchmark
    report = measure(settings, quick=quick, say=lambda line: typer.echo(line, err=True))
    lines = Table(show_header=False, box=None, pad_edge=False)
    for what, figure in reports.table(report):
        lines.add_row(what, figure)
    Console().print(lines)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def psf(
    src: Annotated[Path, typer.Argument(help="Stack of beads: TIFF, OME-Zarr or NPY.")],
    dst: Annotated[Path, typer.Argument(help="Point-spread function to write: .tif or .npy.")],
    planes: Annotated[int, typer.Option(help="Planes of the result, odd.")] = 31,
    side: Annotated[int, typer.Option(help="Height and width of the result in pixels, odd.")] = 41,
    overwrite: Overwrite = False,
) -> None:
    """Measure a 3-D point-spread function: the mean of the beads in a stack."""
    import numpy as np

    from napari_swintormer.imaging.formats.reading import open_image
    from napari_swintormer.imaging.formats.writing import check_output, write_image
    from napari_swintormer.optics.beads import measure_psf

    check_output(dst, src, overwrite)
    with open_image(src) as image:
        found = measure_psf(np.asarray(image.data[...]), (planes, side, side))
        sizes = image.pixel_size, image.unit
        write_image(dst, found.psf, "ZYX", *sizes, overwrite=overwrite)
    z, y = found.widths()
    typer.echo(f"{found.beads} beads; width at half maximum {y:.2f} pixels, {z:.2f} planes")
    typer.echo(str(dst))
