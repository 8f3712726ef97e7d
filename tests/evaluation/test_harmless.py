"""The images that no model should change are what their names say, in every call."""

from __future__ import annotations

import numpy as np

from napari_swintormer.evaluation.data.harmless import harmless_images
from napari_swintormer.evaluation.metrics.similarity import intensity_span


def test_they_are_the_same_in_every_call_and_all_different():
    one, other = list(harmless_images(96)), list(harmless_images(96))
    for a, b in zip(one, other, strict=True):
        assert (a.group, a.name, a.axes) == (b.group, b.name, b.axes)
        np.testing.assert_array_equal(a.image, b.image)
        assert len(a.axes) == a.image.ndim
        assert a.image.shape[:2] == (96, 96)
        assert a.image.dtype in (np.uint8, np.uint16)
    assert len({h.image.tobytes() for h in one}) == len(one)
    assert {h.group for h in one} == {"noise", "flat field", "text and figures", "stars"}
    assert all(intensity_span(h.image) > 1 for h in one if h.name != "constant")


def test_stars_are_saturated_and_text_has_ink():
    images = {h.name: h.image for h in harmless_images(128)}
    for name in ("sharp, saturated, 12 bit", "soft, saturated, 12 bit"):
        full = np.mean(images[name] == 4095)
        assert 0.001 < full < 0.1
    page = images["text on a light page"]
    assert 0.02 < np.mean(page < 128) < 0.4
    board = images["checkerboard of 2 px"]
    assert board[0, 0] == board[1, 1] == board[2, 2] != board[0, 2]
    assert board.mean() == 127.5
