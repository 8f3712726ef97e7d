"""The contract of a restorer: any size in, the same size out."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_swintormer.errors import SettingsError
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.models.padding import pad_to_multiple
from napari_swintormer.models.restorer import IdentityRestorer, Restorer
from napari_swintormer.models.stepwise import run_to_end
from napari_swintormer.models.tile_restorer import as_tile_restorer


@pytest.fixture(scope="module")
def restorer(tiny_weights):
    return load_model(tiny_weights)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(height=st.integers(1, 70), width=st.integers(1, 70), channels=st.sampled_from([1, 3]))
def test_tiles_of_any_size_keep_their_shape(restorer, height, width, channels):
    tiles = torch.rand(2, channels, height, width)
    restored = restorer(tiles)
    assert restored.shape == tiles.shape
    assert restored.dtype == torch.float32
    assert restored.isfinite().all()
    assert not torch.equal(restored, tiles)


def test_a_batch_equals_its_tiles_one_by_one(restorer):
    tiles = torch.rand(3, 3, 40, 50)
    single = torch.cat([restorer(tile[None]) for tile in tiles])
    torch.testing.assert_close(restorer(tiles), single, rtol=0, atol=1e-6)


def test_grey_is_the_mean_over_equal_colours(restorer):
    grey = torch.rand(1, 1, 33, 20)
    colour = restorer(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(restorer(grey), colour.mean(dim=1, keepdim=True))


def test_the_part_outside_the_unit_range_is_added_to_the_result(restorer):
    tiles = torch.rand(1, 3, 32, 32)
    over = torch.zeros_like(tiles)
    over[..., 3, 4], over[..., 8, 9] = 5.0, -2.0
    inside = tiles.clone()
    inside[..., 3, 4], inside[..., 8, 9] = 1.0, 0.0
    torch.testing.assert_close(restorer(inside + over), restorer(inside) + over)


def test_released_models_clip_what_they_restore(make_weights):
    loud = load_model(make_weights())
    loud.network.output.weight.mul_(100)
    tiles = torch.rand(1, 3, 32, 32)
    assert loud(tiles).max() > 1.5
    loud.card = loud.card.model_copy(update={"clip_output": True})
    assert loud(tiles).max() == 1
    assert loud(tiles + 1).max() > 1.5  # highlights come back after the clip


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_tiles_of_another_shape_are_refused(restorer, shape):
    with pytest.raises(ValueError, match="C = 3 or 1"):
        restorer(torch.zeros(shape))


@pytest.mark.parametrize(("size", "multiple"), [(1, 8), (3, 8), (5, 8), (8, 8), (9, 4)])
def test_padding_mirrors_then_repeats(size, multiple):
    row = torch.arange(size, dtype=torch.float32)
    padded = pad_to_multiple(row.expand(1, 1, size, size), multiple)[0, 0, 0]
    total = -(-size // multiple) * multiple
    mirrored = [size - 2 - i for i in range(min(total - size, size - 1))]
    last = mirrored[-1] if mirrored else size - 1
    expected = [*range(size), *mirrored]
    assert padded.tolist() == expected + [last] * (total - len(expected))


def test_a_model_with_an_undescribed_prior_is_refused(tiny_weights):
    card, state = load_weights(tiny_weights)
    network = card.network.model_copy(update={"prior_channels": 2})
    with pytest.raises(SettingsError, match="a prior"):
        Restorer(card.model_copy(update={"network": network}), state)


def test_identity_restorer_returns_its_input():
    tiles = torch.rand(2, 3, 5, 7)
    assert torch.equal(IdentityRestorer()(tiles), tiles)


def test_a_module_of_the_user_is_adapted_once_and_keeps_its_name():
    class Mirror(torch.nn.Module):
        channels, multiple = 1, 4

        def forward(self, tiles):
            return tiles.flip(-1)

    adapted = as_tile_restorer(Mirror())
    assert as_tile_restorer(adapted) is adapted
    assert (adapted.channels, adapted.multiple, adapted.views) == (1, 4, 1)
    assert (adapted.name, adapted.sha256, adapted.card) == ("Mirror", "", None)
    tiles = torch.rand(1, 1, 8, 8)
    assert torch.equal(run_to_end(adapted.in_steps(tiles)), tiles.flip(-1))
    with pytest.raises(SettingsError, match=r"channels and multiple \(got a Linear without"):
        as_tile_restorer(torch.nn.Linear(1, 1))


def test_a_pickled_restorer_is_as_small_after_a_run_as_before():
    restorer = load_model("swintormer")  # with deconvolution
    before = len(pickle.dumps(restorer))
    tiles = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = restorer(tiles)
    assert len(pickle.dumps(restorer)) == before
    for copied in (pickle.loads(pickle.dumps(restorer)), copy.deepcopy(restorer)):
        with torch.inference_mode():
            assert torch.equal(copied(tiles), expected)
