"""The blur at each place of a photo: found where it changes, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import convolve

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation.blur_places import field_of_blur
from napari_swintormer.optics.estimation.sample import PLACE, place_windows
from napari_swintormer.optics.light import GAMMA

if TYPE_CHECKING:
    from napari_swintormer.optics.blur_field import BlurField


def scene(radii: tuple[float, ...]) -> np.ndarray:
    """Draw things in front of each other; parts from left to right have their own blur."""
    rng = np.random.default_rng(0)
    picture = Image.new("L", (480, 240), 100)
    pen = ImageDraw.Draw(picture)
    for radius in np.sort(3 * rng.random(900) ** -0.6)[::-1]:
        y, x = rng.uniform(0, 240), rng.uniform(0, 480)
        grey, corners = int(rng.integers(20, 240)), rng.uniform(0, 2 * np.pi, 3)
        pen.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in corners], grey)
    light = (np.asarray(picture, np.float32) / 255) ** GAMMA
    parts = np.array_split(np.arange(480), len(radii))
    made = light.copy()
    for part, radius in zip(parts, radii, strict=True):
        made[:, part] = convolve(light, Blur.disk(radius).psf(), mode="reflect")[:, part]
    noisy = made ** (1 / GAMMA) + 0.002 * rng.standard_normal(made.shape)
    return np.round(255 * noisy.clip(0, 1)).astype(np.float32) / 255


def found(image: np.ndarray, kind: str = "photo") -> BlurField | None:
    places = place_windows(image.shape)  # type: ignore[arg-type]
    rows = [] if places is None else places[0].starts
    bands = (image[y : y + PLACE] for y in rows)
    changing = field_of_blur(bands, image.shape, [image], kind)  # type: ignore[arg-type]
    return None if changing is None else changing.field


def test_each_place_gets_its_size() -> None:
    image = scene((0.3, 3.0))
    field = found(image)
    assert field is not None
    sharp, blurred = field.radii[:, :6].mean(), field.radii[:, -6:].mean()
    assert sharp < 1 < 1.5 < blurred < 5
    holes = np.where(np.random.default_rng(0).random(image.shape) < 0.001, np.nan, image)
    assert found(holes.astype(np.float32)) is not None


@pytest.mark.parametrize("radius", [0.3, 2.0, 5.0])
def test_one_blur_is_no_field(radius: float) -> None:
    assert found(scene((radius,))) is None


def test_only_photos_that_are_large_enough_have_a_field() -> None:
    image = scene((0.3, 3.0))
    assert found(image, "micrograph") is None
    assert found(image[:60]) is None


def test_places_depend_on_the_shape_and_are_bounded() -> None:
    for shape in ((64, 64), (65, 500), (3000, 4000), (20_000, 20_000)):
        places = place_windows(shape)
        assert places is not None
        for axis, size in zip(places, shape, strict=True):
            assert axis.starts[0] == 0
            assert axis.starts[-1] == size - PLACE
            assert all(start == int(k * axis.step) for k, start in enumerate(axis.starts[:-1]))
        assert len(places[0].starts) * len(places[1].starts) < 1200
