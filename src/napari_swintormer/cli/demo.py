"""Deblurs the bundled images and draws before and after side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.runs.file import FileRun
from napari_swintormer.sample import sample_images
from napari_swintormer.settings.deblur_settings import AUTOMATIC_MODEL
from napari_swintormer.terminal import finish

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from napari_swintormer.settings.deblur_settings import DeblurSettings

_PANEL = 512  # pixels, the longer side of an image in the picture
_ZOOM = 300  # pixels, the smallest side of the enlarged detail
_MARGIN, _STRIP = 12, 34
_DETAIL = 128  # pixels of the image, side of the detail
_INK, _PAPER, _FRAME = (238, 240, 243), (27, 31, 38), (255, 196, 61)
_SHOWN = {"circuit-board": "photo-defocus", "actin": "microscopy"}  # image: the model for it


def make_demo(folder: Path, settings: DeblurSettings, *, progress: bool) -> list[Path]:
    """Deblur the bundled images into a folder; give the paths of results and pictures.

    Files of an earlier demo are replaced. If the settings name no model, each image gets the model
    that suits it best. `progress` shows a progress bar.
    """
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for sample in (image for image in sample_images() if image.name in _SHOWN):
        result = folder / f"{sample.path.stem}_deblurred{sample.path.suffix}"
        named = settings.model not in (None, AUTOMATIC_MODEL)
        chosen = settings if named else replace(settings, model=_SHOWN[sample.name])
        run = FileRun(sample.path, result, chosen, overwrite=True)
        finish(run.events(), sample.name, show=progress)
        picture = folder / f"{sample.path.stem}_before_after.png"
        with open_image(sample.path) as before, open_image(result) as after:
            before_after(np.asarray(before.data[...]), np.asarray(after.data[...])).save(picture)
        made += [result, picture]
    return made


def before_after(before: NDArray[Any], after: NDArray[Any]) -> Image.Image:
    """Draw two images side by side, and below them the detail that changed most, enlarged.

    Images are ``(Y, X)`` or ``(Y, X, 3)`` of equal shape. 8-bit images are shown as they are, other
    images in the range between the percentiles 0.5 and 99.8 of `before`.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = [Image.fromarray(image) for image in _to_8_bit(before, after)]
    scale = _PANEL / max(shown[0].size)
    width, height = (round(length * scale) for length in shown[0].size)
    zoom = max(width, _ZOOM)
    size = (2 * zoom + 3 * _MARGIN, height + zoom + _STRIP + 2 * _MARGIN)
    picture = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=20)
    y, x, side = _most_changed(before, after)
    for column, (title, image) in enumerate(zip(("Before", "After"), shown, strict=True)):
        left = _MARGIN + column * (zoom + _MARGIN)
        draw.text((left, _STRIP / 2 + 4), title, _INK, font, anchor="lm")
        inset = left + (zoom - width) // 2
        picture.paste(image.resize((width, height), Image.Resampling.LANCZOS), (inset, _STRIP))
        corner = (inset + round(x * scale), _STRIP + round(y * scale))
        opposite = tuple(start + round(side * scale) for start in corner)
        draw.rectangle((*corner, *opposite), outline=_FRAME, width=2)
        detail = image.crop((x, y, x + side, y + side))
        enlarged = detail.resize((zoom, zoom), Image.Resampling.BICUBIC)
        picture.paste(enlarged, (left, _STRIP + height + _MARGIN))
    return picture


def _to_8_bit(before: NDArray[Any], after: NDArray[Any]) -> list[NDArray[np.uint8]]:
    if before.dtype == np.uint8:
        return [before, after]
    low, high = np.percentile(before, (0.5, 99.8))
    return [
        (np.clip((image - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
        for image in (before.astype(float), after.astype(float))
    ]


def _most_changed(before: NDArray[Any], after: NDArray[Any]) -> tuple[int, int, int]:
    """Find the square with the largest change, on a grid of half its side: top, left, side."""
    change = np.abs(after.astype(float) - before.astype(float))
    height, width = before.shape[:2]
    side = min(_DETAIL, height, width)
    corners = (
        (y, x)
        for y in range(0, height - side + 1, side // 2)
        for x in range(0, width - side + 1, side // 2)
    )
    y, x = max(corners, key=lambda at: change[at[0] : at[0] + side, at[1] : at[1] + side].sum())
    return y, x, side
