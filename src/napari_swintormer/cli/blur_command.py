"""The command ``blur``: measure the blur of an image, say it, draw it, and save it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_swintormer.cli.common import Overwrite
from napari_swintormer.cli.flags import with_options
from napari_swintormer.errors import OutputError
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.optics.plane_blur import FoundBlur
    from napari_swintormer.optics.psf import PSF
    from napari_swintormer.runs.blur_job import BlurJob

_SHADES = " .:-=+*#%@"  # from dark to light; every terminal has them
_DRAWN = 33  # pixels of a drawn PSF, at most


@with_options(DeblurSettings, "axes", "planes", "kind")
def blur(
    src: Annotated[Path, typer.Argument(help="Image: TIFF, OME-TIFF, Zarr, NPY, PNG or JPEG.")],
    *,
    image: Annotated[
        int | None, typer.Option(help="Number of the image, from 1, in a file of several.")
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Measure one blur for all planes of a channel.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Also write the PSF of the first plane: .tif or .npy.")
    ] = None,
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Measure the blur of an image: kind, size, direction and how sure it is."""
    from napari_swintormer.imaging.formats.reading import open_image
    from napari_swintormer.imaging.formats.writing import check_output, write_image
    from napari_swintormer.runs.planning import prepare

    if save is not None:
        check_output(save, src, overwrite)
    with open_image(src, options["axes"], image) as opened:
        settings = DeblurSettings(
            **{**options, "axes": opened.axes},
            blur="auto-shared" if shared else "auto",
            depth="planes",
        )
        job: Any = prepare(opened.data, settings, meaning=opened.carried.meaning)
        found = _found(job)
    if as_json:
        planes = [
            {**position, "family": each.blur.family, "rms_radius": each.blur.radius}
            | each.to_json()
            | ({} if each.field is None else {"radii": each.field.radii.tolist()})
            for position, each in found
        ]
        typer.echo(json.dumps(planes, indent=1))
    else:
        _show(found)
    if save is not None:
        _, first = found[0]
        if first.blur.kind == "none":
            raise OutputError(
                f"There is no PSF to write to {save}: {first.reason} Tell the blur instead, such "
                "as --blur 3px."
            )
        write_image(save, first.blur.psf(), "YX", overwrite=overwrite)
        typer.echo(str(save), err=as_json)


def _found(job: BlurJob) -> list[tuple[dict[str, int], FoundBlur]]:
    """List the measured planes by their position along T, C and Z, with what was found."""
    whole, chosen = job.planes.whole, set(job.planes.numbers)
    measured = [
        (whole.position(number), found)
        for number, found in job.found_blurs.items()
        if number in chosen
    ]
    return measured or [(whole.position(n), f) for n, f in job.found_blurs.items()]


def _show(found: list[tuple[dict[str, int], FoundBlur]]) -> None:
    """Print a line for each plane, and draw every other PSF or field once."""
    drawn = None
    for position, each in found:
        place = " ".join(f"{axis}={index}" for axis, index in position.items())
        begin = f"{place}: " if len(found) > 1 else ""
        typer.echo(f"{begin}{each.reason}")
        if each.blur.kind != "none" and each.blur != drawn:
            drawn = each.blur
            field = each.field
            lines = drawing(each.blur.psf()) if field is None else map_of(field.radii)
            for line in lines:
                typer.echo(line)


def map_of(radii: NDArray[Any]) -> list[str]:
    """Draw how large the blur is over a plane, from dark, sharp, to light."""
    step = -(-max(radii.shape) // _DRAWN)
    shown = radii[::step, ::step]
    shades = (shown / max(float(shown.max()), 1e-6) * (len(_SHADES) - 1)).round().astype(int)
    return ["".join(2 * _SHADES[shade] for shade in row) for row in shades.tolist()]


def drawing(psf: PSF) -> list[str]:
    """Draw a PSF with characters, two for each pixel; a wide one is drawn smaller."""
    import numpy as np

    step = -(-len(psf) // _DRAWN)
    pad = -len(psf) % step
    wide = np.pad(psf, (pad // 2, pad - pad // 2))
    side = len(wide) // step
    small = wide.reshape(side, step, side, step).mean(axis=(1, 3))
    shades = np.rint(np.sqrt(small / small.max()) * (len(_SHADES) - 1)).astype(int)
    rows, columns = (np.flatnonzero(shades.any(axis=axis)) for axis in (1, 0))
    lit = shades[rows[0] : rows[-1] + 1, columns[0] :]
    return ["".join(2 * _SHADES[shade] for shade in row).rstrip() for row in lit]
