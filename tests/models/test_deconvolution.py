"""The deconvolution before the network: its filters, and how it mixes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from helpers.images import texture
from helpers.tiny import tiny_card
from napari_swintormer.errors import TrainingError
from napari_swintormer.models.network.deconvolution import LocalDeconvolution, frequency_bins
from napari_swintormer.models.network.network_settings import (
    DeconvolutionSettings,
    SwintormerSettings,
)
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.network.wiener import WienerBank, wiener_kernels
from napari_swintormer.optics import psf
from napari_swintormer.optics.inverse_filter import UNKNOWN_SIZE
from napari_swintormer.training.loop.initial_model import with_deconvolution, with_known_blur

SETTINGS = DeconvolutionSettings()


def choosing() -> LocalDeconvolution:
    """An untrained deconvolution with random shares of the filters."""
    made = LocalDeconvolution(SETTINGS)
    torch.nn.init.normal_(made.shares.weight, std=0.1)
    return made


@pytest.mark.parametrize("shape", [(17, 64), (50, 33)])
def test_filters_are_convolutions_with_their_kernels(shape):
    image, kernels = texture(*shape), wiener_kernels(SETTINGS)
    for result, kernel in zip(
        WienerBank(SETTINGS).convolved(torch.from_numpy(image)), kernels, strict=True
    ):
        expected = ndimage.convolve(image, kernel.numpy(), mode="mirror")
        assert np.abs(result.numpy() - expected).max() < 1e-5


def test_each_filter_undoes_its_own_blur_best():
    """The blur is the one that training uses, a sum over pixels."""
    sharp, inner, bank = texture(160, 160), slice(20, -20), WienerBank(SETTINGS)
    n_disks = len(SETTINGS.disks)
    blurs = dict(enumerate(map(psf.disk, SETTINGS.disks)))
    # the widest Gaussian leaves too little signal to tell it from its neighbours
    blurs |= {n_disks + i: psf.gaussian(2 * s) for i, s in enumerate(SETTINGS.gaussians[:-1])}
    for number, blur in blurs.items():
        blurred = ndimage.convolve(sharp, blur, mode="mirror")
        restored = blurred + torch.stack([*bank.convolved(torch.from_numpy(blurred))]).numpy()
        errors = np.square(restored - sharp)[:, inner, inner].mean(axis=(1, 2))
        assert errors.argmin() == number
        assert errors[number] < 0.8 * np.square(blurred - sharp)[inner, inner].mean()


def test_mixing_weights_each_filter_by_its_share():
    image, bank, n = torch.from_numpy(texture(40, 48)), WienerBank(SETTINGS), SETTINGS.n_filters
    images = torch.stack([image, 0.2 * image])[None]
    shares = torch.zeros(1, SETTINGS.n_results, 40, 48)
    assert not bank.mix(images, shares).any()
    shares[:, 2], shares[:, 5, :, :20] = 0.5, 0.25
    for plane, result in zip(images[0], bank.mix(images, shares)[0], strict=True):
        filtered = [*bank.convolved(plane)]
        expected = 0.5 * filtered[2]
        expected[:, :20] += 0.25 * filtered[5][:, :20]
        assert torch.allclose(result, expected, atol=1e-6)
    # in light, the square of the image
    only_light = torch.zeros(1, SETTINGS.n_results, 40, 48)
    only_light[:, n + 2] = 1
    expected = (image**2 + [*bank.convolved(image**2)][2]).clamp_min(0).sqrt()
    assert torch.allclose(image + bank.mix(images, only_light)[0, 0], expected, atol=1e-5)


def test_an_even_image_stays_as_it_is():
    flat = torch.full((1, 3, 64, 64), 0.7)
    assert choosing()(flat).abs().max() < 1e-4


def test_every_frequency_lies_in_a_ring_and_a_sector():
    # each frequency lies in one ring, and in one sector of one coarse ring
    bins = frequency_bins().view(-1, 64, 33)
    assert torch.allclose(bins.sum(dim=(1, 2)), torch.ones(len(bins)))
    rings, sectors = bins[:24] > 0, (bins[24:] > 0).view(8, 4, 64, 33)
    assert (rings.sum(dim=0) == 1).all()
    assert (sectors.sum(dim=(0, 1)) == 1).all()
    for y, x, sector in [(0, 16, 2), (16, 16, 3), (16, 0, 0), (48, 16, 1)]:
        assert sectors[:, sector, y, x].any()


def test_a_pixel_depends_on_its_surroundings_only():
    deconvolution, shares = choosing(), []
    with torch.no_grad():  # the rounding errors of the transforms grow with the shares
        deconvolution.shares.weight.mul_(0.1)
    deconvolution.shares.register_forward_hook(lambda *call: shares.append(call[2]))
    image = torch.from_numpy(texture(64, 512))[None, None]
    change, part = deconvolution(image), deconvolution(image[..., :448])
    assert change.abs().max() > 1e-2
    # a window, the grid points that the blocks combine, and the next grid point
    near = 32 + 16 * (sum(SETTINGS.dilations) + 1)
    assert torch.allclose(change[..., : 448 - near], part[..., : 448 - near], atol=1e-5)
    whole, cut = (own[:, :, : (448 - near) // 16] for own in shares)
    assert torch.allclose(whole, cut, atol=1e-6)


def test_colours_are_treated_alike():
    grey = torch.from_numpy(texture(64, 64))[None, None]
    deconvolution = choosing()
    colours = deconvolution(grey.expand(1, 3, 64, 64))
    assert torch.allclose(colours, deconvolution(grey).expand(1, 3, 64, 64), atol=1e-5)


@torch.no_grad()
def test_adding_a_deconvolution_does_not_change_the_results_of_a_trained_network():
    card = tiny_card()
    trained, x = Swintormer(card.network), torch.rand(1, 3, 64, 64)
    torch.nn.init.normal_(trained.output.weight)
    given, weights = with_deconvolution(card, trained.state_dict(), SETTINGS, seed=1)
    network = Swintormer(given.network)
    network.load_state_dict(weights)
    assert torch.allclose(network(x), trained(x), atol=1e-5)
    again = with_deconvolution(given, weights, SETTINGS, seed=2)
    assert again == (given, weights)
    with pytest.raises(TrainingError, match="neither another one nor a prior"):
        with_deconvolution(given, weights, DeconvolutionSettings(disks=(2.0,)), seed=1)


def test_a_network_for_a_known_blur_continues_from_the_filtered_image():
    card, image, filtered = tiny_card(), torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    trained = Swintormer(card.network)
    torch.nn.init.normal_(trained.output.weight)
    given, weights = with_known_blur(card, trained.state_dict())
    network, maps = Swintormer(given.network), torch.rand(1, 3, 64, 64)
    network.load_state_dict(weights)
    result = network(torch.cat([image, filtered, maps], dim=1))
    assert torch.allclose(result, trained(filtered), atol=1e-5)
    network.embed_maps.weight.data.normal_()
    assert not torch.allclose(network(torch.cat([image, filtered, maps], dim=1)), result)
    assert with_known_blur(given, weights) == (given, weights)
    with pytest.raises(ValueError, match="no prior or one of as many channels"):
        SwintormerSettings(known_blur=True, prior_channels=2)


def test_where_the_blur_is_unknown_the_network_deconvolves_by_itself():
    knowing = SETTINGS.model_copy(update={"knows_kind": True})
    sizes = tiny_card().network.model_copy(update={"deconvolution": knowing, "known_blur": True})
    network, views = Swintormer(sizes), torch.rand(1, 3, 64, 64).repeat(3, 1, 1, 1)
    for part in network.deconvolution.shares.weight, network.deconvolution.embed_photo:
        torch.nn.init.normal_(part)
    maps = torch.zeros(3, 3, 64, 64)
    maps[1:, 0] = UNKNOWN_SIZE
    maps[2, 1] = 1  # a photo
    filled = network.filled(torch.cat([views, views, maps], dim=1))
    assert torch.equal(filled[:, :3], views)
    assert torch.equal(filled[:, 6:], maps)
    assert torch.equal(filled[0, 3:6], views[0])
    found = views[1:] + network.deconvolution(views[1:], torch.tensor([0, 1]))
    torch.testing.assert_close(filled[1:, 3:6], found)
    assert (found - views[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert not torch.allclose(found[0], found[1])


def test_training_works_after_inference():
    deconvolution, x = choosing(), torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        deconvolution(x)
    deconvolution(x.requires_grad_()).mean().backward()
    assert x.grad is not None
    for name, weight in deconvolution.named_parameters():
        assert weight.grad.abs().max() > 0, name


def test_a_bank_gives_the_same_for_all_planes_at_once() -> None:
    """On a GPU each filter works on all planes of a batch; a CPU takes plane by plane."""
    bank = WienerBank(SETTINGS)
    images, shares = torch.rand(2, 3, 48, 64), torch.randn(2, SETTINGS.n_results, 48, 64)
    at_once = bank._mixed(images, shares)
    torch.testing.assert_close(bank.mix(images, shares), at_once, rtol=1e-5, atol=1e-5)
