"""Draws the bundled stack: two nuclei and fibres, as a wide-field microscope shows them.

    python recipes/make_sample_stack.py src/napari_swintormer/sample/nuclei_stack.ome.tif

The object is drawn from chance with a fixed seed, blurred with the point-spread function of an
objective of NA 1.2 in water, and recorded with photon noise. The file says which microscope it is,
so the stack is restored as a volume without any further number.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from napari_swintormer.optics.stack_optics import StackOptics
from napari_swintormer.optics.stack_psf import psf_shape, stack_psf

SHAPE = (22, 100, 100)
BEYOND = (16, 20, 20)  # voxels that are drawn around the stack: haze comes from there, too
OPTICS = StackOptics(1.2, emission=0.52, pixel_size=0.12, z_step=0.4, immersion_index=1.333)
PHOTONS, OFFSET, BACKGROUND, READ_NOISE = 700, 100, 8, 1.5
OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="Instrument:0">
<Objective ID="Objective:0" LensNA="{na}" Immersion="Water"/></Instrument><Image ID="Image:0"
Name="nuclei"><InstrumentRef ID="Instrument:0"/><ObjectiveSettings ID="Objective:0"/>
<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{x}" SizeY="{y}" SizeZ="{z}"
SizeC="1" SizeT="1" PhysicalSizeX="{pixel}" PhysicalSizeY="{pixel}" PhysicalSizeZ="{step}">
<Channel ID="Channel:0:0" SamplesPerPixel="1" EmissionWavelength="{nm:.0f}"
AcquisitionMode="WideField"/><TiffData/></Pixels></Image></OME>"""


def draw(rng: np.random.Generator) -> np.ndarray:
    """Draw two nuclei with texture and bright rims, and fibres around them."""
    shape = tuple(n + 2 * more for n, more in zip(SHAPE, BEYOND, strict=True))
    z, y, x = (
        np.arange(n)[tuple(slice(None) if a == i else None for a in range(3))]
        for i, n in enumerate(shape)
    )
    thing = np.zeros(shape)
    ratio = OPTICS.z_step / OPTICS.pixel_size
    texture = gaussian_filter(rng.normal(size=shape), (1, 2.5, 2.5))
    texture /= texture.std()
    for centre, radii in (((24, 52, 55), (20, 27, 22)), ((31, 88, 92), (18, 22, 25))):
        place = (z - centre[0]) * ratio, y - centre[1], x - centre[2]
        distance = np.sqrt(sum((a / r) ** 2 for a, r in zip(place, radii, strict=True)))
        thing += (distance < 1) * (0.25 + 0.25 * texture.clip(0)) + 0.8 * (
            np.abs(distance - 1) < 0.05
        )
    for _ in range(36):
        point, step = rng.uniform(0, 1, 3) * shape, rng.normal(size=3)
        for _ in range(260):
            step = step + 0.12 * rng.normal(size=3)
            step /= np.linalg.norm(step)
            point = point + 0.5 * step * (1 / ratio, 1, 1)
            voxel = tuple(np.floor(point).astype(int))
            if all(0 <= a < n for a, n in zip(voxel, shape, strict=True)):
                thing[voxel] += 1.2
    return thing


def record(thing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur the object, cut the stack out, and record it as counts of a camera."""
    blurred = fftconvolve(thing, stack_psf(OPTICS, psf_shape(OPTICS, len(thing))), mode="same")
    cut = tuple(slice(more, more + n) for n, more in zip(SHAPE, BEYOND, strict=True))
    light = blurred[cut].clip(0)
    light *= PHOTONS / np.percentile(light, 99.9)
    counts = rng.poisson(light + BACKGROUND) + rng.normal(OFFSET, READ_NOISE, SHAPE)
    return np.rint(counts).astype(np.uint16)


def main() -> None:
    """Draw the stack and write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    chosen = parser.parse_args()
    rng = np.random.default_rng(7)
    stack = record(draw(rng), rng)
    sizes = dict(zip("zyx", SHAPE, strict=True))
    optics = {"na": OPTICS.na, "pixel": OPTICS.pixel_size, "step": OPTICS.z_step}
    description = OME.format(**sizes, **optics, nm=1000 * OPTICS.emission)
    options = {"compression": "zlib", "predictor": True, "photometric": "minisblack"}
    tifffile.imwrite(chosen.file, stack, description=description, metadata=None, **options)
    print(f"{chosen.file}: {chosen.file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
