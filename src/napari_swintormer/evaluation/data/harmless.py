"""Images that no model should change: noise, flat fields, text and stars.

All come from a fixed seed, so the figures of different models can be compared. Sharp images of
folders (`synthetic.blurred_pairs`) complete them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from napari_swintormer.evaluation.data.pair_images import to_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Pixels = NDArray[Any]

SIDE = 256
SEED = 20240107
_TEXT = (
    "File  Edit  View  Layers  Plugins  Window  Help",
    "for step in range(first, last):  # 0.25 <= rate < 1",
    "The quick brown fox jumps over the lazy dog; 0123456789.",
    "| tile_size | overlap | PSNR (dB) |  512  64  31.42",
)


@dataclass(frozen=True)
class Harmless:
    """An image that should stay as it is, 8 or 16 bit; `group` is the kind of image."""

    group: str
    name: str
    axes: str  # YX or YXS
    image: Pixels


def harmless_images(side: int = SIDE, seed: int = SEED) -> Iterator[Harmless]:
    """Make square images of noise, flat fields, drawn text and figures, and stars."""
    rng = np.random.default_rng(seed)
    for group, images in (
        ("noise", _noise(side, rng)),
        ("flat field", _fields(side, rng)),
        ("text and figures", _drawings(side)),
        ("stars", _stars(side, rng)),
    ):
        for name, image in images:
            yield Harmless(group, name, "YXS" if image.ndim == 3 else "YX", image)


def _noise(side: int, rng: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    white = rng.standard_normal((side, side))
    yield "white, 8 bit", to_dtype(128 + 30 * white, np.uint8)
    yield "white, 16 bit", to_dtype(1000 + 50 * white, np.uint16)
    yield "photons, 3 per pixel", rng.poisson(3, (side, side)).astype(np.uint16)
    smooth = ndimage.gaussian_filter(white, 1.0)
    yield "grain of 1 px", to_dtype(128 + 30 * smooth / smooth.std(), np.uint8)


def _fields(side: int, rng: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    noise = rng.standard_normal((side, side))
    yield "constant", np.full((side, side), 1000, np.uint16)
    yield "ramp, 8 bit", to_dtype(40 + 80 * (x + 1), np.uint8)
    vignette = 30_000 * (1 - 0.3 * (x**2 + y**2))
    yield "vignette, noise 0.3 %", to_dtype(vignette + 100 * noise, np.uint16)
    yield "dark frame", to_dtype(100 + 4 * noise, np.uint16)


def _drawings(side: int) -> Iterator[tuple[str, Pixels]]:
    """Draw text of three sizes on a light and a dark page, lines, and a checkerboard."""
    for name, page, ink in (("light", "white", "black"), ("dark", "#1e2430", "#9cdcfe")):
        picture = Image.new("RGB", (side, side), page)
        draw, top = ImageDraw.Draw(picture), 4
        for row in range(4 * side // 64):
            size = (9, 12, 17)[row % 3]
            draw.text((4, top), _TEXT[row % 4], fill=ink, font=ImageFont.load_default(size=size))
            top += size + 6
        draw.rectangle((side // 2, 3 * side // 4, side - 8, side - 8), outline=ink)
        yield f"text on a {name} page", np.asarray(picture)
    lines = np.full((side, side), 255, np.uint8)
    lines[::8] = lines[:, ::16] = 0
    yield "lines of 1 px", lines
    board = 255 * (np.indices((side, side)) // 2).sum(axis=0) % 510
    yield "checkerboard of 2 px", board.astype(np.uint8)


def _stars(side: int, rng: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    """Draw stars of a sharp and of a soft telescope; the brightest saturate the sensor by far."""
    light = np.zeros((side, side))
    at = rng.integers(0, side, (2, side // 2))
    np.add.at(light, tuple(at), 10 ** rng.uniform(2, 6, side // 2))
    for name, width in (("sharp", 0.7), ("soft", 1.5)):
        sky = 200 + ndimage.gaussian_filter(light, width, mode="wrap")
        noisy = sky + np.sqrt(sky) * rng.standard_normal(sky.shape)
        yield f"{name}, saturated, 12 bit", np.minimum(to_dtype(noisy, np.uint16), 4095)
