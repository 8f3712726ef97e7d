"""The demo: deblurs the bundled images and draws before and after side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.registry import RESULT_SUFFIXES
from napari_swintormer.runs.file import FileRun
from napari_swintormer.sample import sample_images
from napari_swintormer.terminal import finish

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from napari_swintormer.settings.deblur_settings import DeblurSettings

_PANEL = 512  # pixels, side of an image in the picture
_MARGIN, _STRIP = 12, 34
_DETAIL = 128  # pixels of the image, side of the detail
_INK, _PAPER, _FRAME = (238, 240, 243), (27, 31, 38), (255, 196, 61)
_NAMES = ("circuit-board", "shaken-board", "actin")  # of the images of the demo


def make_demo(folder: Path, settings: DeblurSettings) -> list[Path]:
    """Deblur the bundled images into a folder, and draw each before and after.

    Files of an earlier demo are replaced. Returns the files that were written.
    """
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for sample in (image for image in sample_images() if image.name in _NAMES):
        suffix = RESULT_SUFFIXES[sample.path.suffix]
        result = folder / f"{sample.path.stem}_deblurred{suffix}"
        finish(FileRun(sample.path, result, settings, overwrite=True).events(), sample.name)
        picture = folder / f"{sample.path.stem}_before_after.png"
        with open_image(sample.path) as before, open_image(result) as after:
            before_after(np.asarray(before.data[...]), np.asarray(after.data[...])).save(picture)
        made += [result, picture]
    return made


def before_after(before: NDArray[Any], after: NDArray[Any]) -> Image.Image:
    """Draw two images side by side, and below each the detail that changed most, enlarged.

    Parameters
    ----------
    before, after
        ``(Y, X)`` or ``(Y, X, 3)`` of equal shape. 8-bit images are shown as they are, others from
        the percentile 0.5 of `before` to its percentile 99.8.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    y, x, side = _most_changed(before, after)
    low, high = (0, 255) if before.dtype == np.uint8 else np.percentile(before, (0.5, 99.8))
    width, height = 2 * (_PANEL + _MARGIN) + _MARGIN, _STRIP + 2 * (_PANEL + _MARGIN)
    picture = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=20)
    for number, (title, pixels) in enumerate((("Before", before), ("After", after))):
        unit = np.clip((pixels.astype(float) - low) / max(high - low, 1e-9), 0, 1)
        shown = Image.fromarray((255 * unit).astype(np.uint8)).convert("RGB")
        detail = shown.crop((x, y, x + side, y + side))
        detail = detail.resize((_PANEL, _PANEL), Image.Resampling.BICUBIC)
        ImageDraw.Draw(shown).rectangle((x, y, x + side, y + side), outline=_FRAME, width=2)
        left = _MARGIN + number * (_PANEL + _MARGIN)
        draw.text((left, _STRIP / 2 + 4), title, _INK, font, anchor="lm")
        shown = ImageOps.pad(shown, (_PANEL, _PANEL), Image.Resampling.LANCZOS, _PAPER)
        picture.paste(shown, (left, _STRIP))
        picture.paste(detail, (left, _STRIP + _PANEL + _MARGIN))
    return picture


def _most_changed(before: NDArray[Any], after: NDArray[Any]) -> tuple[int, int, int]:
    """Find the square with the largest change: its corner ``y, x`` and its side."""
    change = np.abs(after.astype(float) - before.astype(float)).reshape(*before.shape[:2], -1)
    side = min(_DETAIL, *change.shape[:2])
    corners = [
        (y, x)
        for y in range(0, change.shape[0] - side + 1, side // 2)
        for x in range(0, change.shape[1] - side + 1, side // 2)
    ]
    y, x = max(corners, key=lambda at: change[at[0] : at[0] + side, at[1] : at[1] + side].sum())
    return y, x, side
