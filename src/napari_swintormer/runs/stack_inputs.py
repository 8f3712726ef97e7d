"""What a volume needs beside its stack: the microscope that a file names, or a measured PSF."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.formats.imagej import IMAGEJ
from napari_swintormer.imaging.formats.ome_xml import OME
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics.file_optics import (
    FileOptics,
    optics_of_ome,
    optics_of_text,
    voxel_size,
)
from napari_swintormer.settings.deblur_settings import AUTOMATIC_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.imaging.carried import Carried
    from napari_swintormer.imaging.image import Image
    from napari_swintormer.settings.deblur_settings import DeblurSettings

    Volume = NDArray[np.float32]


def file_optics(image: Image) -> FileOptics:
    """Give what an opened file says of the microscope; its own voxel size goes before others."""
    return known_optics(image.carried, image.pixel_size, image.unit)


def known_optics(
    carried: Carried, pixel_size: Mapping[str, float], unit: Mapping[str, str]
) -> FileOptics:
    """Give what is carried of a file about its microscope, with a voxel size by axis."""
    if OME in carried.native:
        source = carried.native[OME]
        known = optics_of_ome(source.xml, source.number, source.spans.get("C"))
    elif IMAGEJ in carried.native:
        known = optics_of_text(str(carried.native[IMAGEJ].metadata.get("Info", "")))
    else:
        known = FileOptics()
    emissions = tuple(channel.emission for channel in carried.channels)
    if not known.emissions and any(emissions):
        known = replace(known, emissions=tuple(e and e / 1000 for e in emissions))
    sizes = voxel_size(pixel_size, unit)
    return replace(known, pixel_size=sizes.get("pixel_size"), z_step=sizes.get("z_step"))


def unused_choices(chosen: DeblurSettings) -> list[str]:
    """Say in a sentence each which choices a volume does not follow."""
    told = []
    if chosen.model not in (None, AUTOMATIC_MODEL):
        told.append(
            f"A volume is restored without a network: model={chosen.model!r} is not used. Use "
            "depth='planes' for it."
        )
    if chosen.precision not in ("auto", "fp32"):
        told.append(f"A volume is restored in fp32: precision={chosen.precision!r} is not used.")
    if "," in chosen.device:
        used = chosen.device.split(",")[0]
        told.append(f"A volume is restored on one device, {used} (got device={chosen.device!r}).")
    return told


def read_psf(path: Path, planes: int) -> Volume:
    """Read a measured PSF ``(Z, Y, X)`` from a file, and bring it to the form of the others.

    Planes that are farther from the middle than the stack is high are left out. The sum is 1.

    Raises
    ------
    SettingsError
        It has another number of dimensions, an even side, or nothing but zeros.
    """
    with open_image(path) as image:
        psf = np.asarray(image.data[...]).astype(np.float32)
    if psf.ndim != 3:
        raise SettingsError(
            f"The PSF of a volume has the dimensions Z, Y and X (got {psf.ndim} dimensions in "
            f"{path.name}). Give a stack of a bead."
        )
    if any(side % 2 == 0 for side in psf.shape):
        raise SettingsError(
            f"The sides of a PSF are odd, with the bead in the middle voxel (got {psf.shape} in "
            f"{path.name}). Cut off one plane, row or column."
        )
    psf = np.nan_to_num(psf).clip(min=0)
    beyond = max(0, psf.shape[0] // 2 - (planes - 1))
    psf = psf[beyond : psf.shape[0] - beyond]
    total = float(psf.sum(dtype=np.float64))
    if not total > 0:
        raise SettingsError(f"The PSF in {path.name} holds nothing but zeros. Give another file.")
    return np.ascontiguousarray(psf / np.float32(total))
