"""The demo: deblurs the bundled images and draws before and after side by side."""

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
_MARGIN, _STRIP = 12, 34
_DETAIL = 128  # pixels of the image, side of the detail
_INK, _PAPER, _FRAME = (238, 240, 243), (27, 31, 38), (255, 196, 61)
_SHOWN = {"circuit-board": "photo-defocus", "actin": "microscopy"}  # with the model for it


def make_demo(folder: Path, settings: DeblurSettings, *, progress: bool) -> list[Path]:
    """Deblur the bundled images into a folder; replaces what an earlier demo left there.

    Parameters
    ----------
    folder
        Where the results go; created if it is not there.
    settings
        How to deblur; without a model each image gets the one that is best for it.
    progress
        Show a progress bar.

    Returns
    -------
    list[Path]
        For each image the result and the picture of before and after.
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

    Parameters
    ----------
    before, after
        ``(Y, X)`` or ``(Y, X, 3)`` of equal shape. Both are shown in the same range: that of
        8-bit images, else the percentiles 0.5 and 99.8 of `before`.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = [Image.fromarray(image) for image in _to_8_bit(before, after)]
    detail = _most_changed(before, after)
    scale = _PANEL / max(shown[0].size)
    size = (round(shown[0].width * scale), round(shown[0].height * scale))
    zoom = max(size[0], 300)
    width = 2 * zoom + 3 * _MARGIN
    picture = Image.new("RGB", (width, size[1] + zoom + _STRIP + 2 * _MARGIN), _PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=20)
    y, x = (region.start for region in detail)
    side = detail[0].stop - y
    for column, (title, image) in enumerate(zip(("Before", "After"), shown, strict=True)):
        left = _MARGIN + column * (zoom + _MARGIN)
        draw.text((left, _STRIP / 2 + 4), title, _INK, font, anchor="lm")
        inset = left + (zoom - size[0]) // 2
        picture.paste(image.resize(size, Image.Resampling.LANCZOS), (inset, _STRIP))
        corner = (inset + round(x * scale), _STRIP + round(y * scale))
        draw.rectangle(
            (*corner, corner[0] + round(side * scale), corner[1] + round(side * scale)),
            outline=_FRAME,
            width=2,
        )
        enlarged = image.crop((x, y, x + side, y + side))
        enlarged = enlarged.resize((zoom, zoom), Image.Resampling.BICUBIC)
        picture.paste(enlarged, (left, _STRIP + size[1] + _MARGIN))
    return picture


def _to_8_bit(before: NDArray[Any], after: NDArray[Any]) -> list[NDArray[np.uint8]]:
    if before.dtype == np.uint8:
        return [before, after]
    low, high = np.percentile(before, (0.5, 99.8))
    return [
        (np.clip((image - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
        for image in (before.astype(float), after.astype(float))
    ]


def _most_changed(before: NDArray[Any], after: NDArray[Any]) -> tuple[slice, slice]:
    """Find the square, on a grid of half its side, with the largest mean change."""
    change = np.abs(after.astype(float) - before.astype(float)).reshape(*before.shape[:2], -1)
    height, width = before.shape[:2]
    side = min(_DETAIL, height, width)
    squares = [
        (slice(y, y + side), slice(x, x + side))
        for y in range(0, height - side + 1, side // 2)
        for x in range(0, width - side + 1, side // 2)
    ]
    return max(squares, key=lambda square: change[square].sum())
