"""A blur field: what its places say between them, and how it is stored."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.plane_blur import FoundBlur

BLURS = (Blur.none(), Blur.disk(2), Blur.disk(4), Blur.disk(8))


def field() -> BlurField:
    shares = np.random.default_rng(0).dirichlet(np.ones(3), (3, 4)).transpose(2, 0, 1)
    shares = np.concatenate([shares, np.zeros((1, 3, 4))])  # nothing has the largest blur
    return BlurField.of(
        BLURS, (31.5, 31.5), (32.0, 40.0), shares, np.linspace(0.2, 7, 12).reshape(3, 4)
    )


def test_a_region_says_what_the_plane_says() -> None:
    made = field()
    plane = made.shares_at(0, 0, 150, 200)
    assert plane.shape == (3, 150, 200)
    np.testing.assert_allclose(plane.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(made.shares_at(37, 91, 60, 50), plane[:, 37:97, 91:141], atol=1e-6)
    np.testing.assert_allclose(plane[:, :20, :20], plane[:, :1, :1] * np.ones((20, 20)), atol=1e-6)
    mean = made.shares_at(37, 91, 60, 50).mean(axis=(1, 2))
    np.testing.assert_allclose(made.mean_shares(37, 91, 60, 50), mean, atol=1e-6)
    between = plane[:, [63, 64], 31:33].mean(axis=(1, 2))  # the second place of the first column
    np.testing.assert_allclose(between, made.shares[:, 1, 0], atol=0.02)


def test_a_stored_field_is_the_same_and_a_broken_one_is_refused() -> None:
    found = FoundBlur.of_field(field())
    stored = json.loads(json.dumps(found.to_json()))
    again = FoundBlur.from_json(stored)
    assert again == found
    assert hash(again) == hash(found)
    assert again.varies
    assert again.reason == "The blur changes from place to place, from sharp to about 6.7 pixels."
    np.testing.assert_allclose(field().radii[0], np.linspace(0.2, 7, 12)[:4], atol=0.04)
    assert len(again.blur.candidates) == 3
    unclear = FoundBlur(Blur.none(), 0.0, unclear=True, share=0.5)
    assert FoundBlur.from_json(json.loads(json.dumps(unclear.to_json()))) == unclear
    stored["field"]["grid"] = [5, 5]
    with pytest.raises(SettingsError, match="blur field cannot be read"):
        FoundBlur.from_json(stored)
