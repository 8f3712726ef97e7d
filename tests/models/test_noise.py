"""The noise of tiles depends on its position only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_swintormer.models.prior.noise import TileNoise, TileOrigin, gaussian_noise, philox


@pytest.mark.parametrize(
    ("counter", "key", "bits"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_bits_equal_the_published_ones(counter, key, bits):
    assert tuple(philox(np.array(counter, np.uint64), key)) == bits


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 6),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    origin=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    key=st.tuples(st.integers(0, 2**70), st.integers(0, 2**20), st.integers(0, 999)),
)
def test_a_region_is_cut_out_of_one_endless_image(channels, size, origin, key):
    y, x = origin
    whole = gaussian_noise(*key, (6, 50, 50))
    part = gaussian_noise(*key, (channels, *size), origin)
    assert np.array_equal(part, whole[:channels, y : y + size[0], x : x + size[1]])


def test_noise_is_normal_and_white():
    noise = gaussian_noise(3, 1, 2, (5, 200, 200))
    assert abs(noise.mean()) < 0.01
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean() == pytest.approx(3, abs=0.1)  # of a normal distribution
    others = [noise[1], noise[4], np.roll(noise[0], 1, 0), np.roll(noise[0], 1, 1)]
    others += [gaussian_noise(*key, (1, 200, 200))[0] for key in [(4, 1, 2), (3, 2, 2), (3, 1, 3)]]
    for other in others:
        assert abs(np.corrcoef(noise[0].ravel(), other.ravel())[0, 1]) < 0.03


def test_tiles_share_their_noise_in_any_order():
    origins = [TileOrigin(0, 0, 0), TileOrigin(0, 8, 16), TileOrigin(1, 0, 0)]
    like = torch.empty(3, 4, 12, 12)
    together = TileNoise(7, origins, factor=4)(2, like)
    backwards = TileNoise(7, origins[::-1], factor=4)(2, like)
    assert torch.equal(together, backwards.flip(0))
    assert torch.equal(together[0][:, 2:, 4:], together[1][:, :-2, :-4])
    assert not torch.equal(together[0], together[2])


def test_a_gpu_draws_the_same_noise():
    """Its operations, run here, give the published bits, and so the noise of the CPU."""
    origins = [TileOrigin(0, 0, 0), TileOrigin(3, 8, 16, sample=2)]
    noise = TileNoise(7, origins, factor=4)
    found = noise._on_device(5, (6, 40, 50), torch.device("cpu"))
    wanted = noise(5, torch.empty(2, 6, 40, 50))
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-4)
    assert float((found - wanted).abs().mean()) < 1e-6
