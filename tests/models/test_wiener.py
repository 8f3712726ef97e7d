"""The bank of Wiener filters against independent code, and in a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.settings import WienerSettings
from napari_swintormer.models.swintormer import Swintormer
from napari_swintormer.models.wiener import WienerBank, wiener_kernels
from napari_swintormer.training import psf
from napari_swintormer.training.begin import with_filters
from tiny import tiny_card

SETTINGS = WienerSettings()


def texture(height: int, width: int) -> np.ndarray:
    """An image whose power falls with the frequency, as that of photos does."""
    noise = np.random.default_rng(3).standard_normal((height, width))
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    image = np.fft.ifft2(np.fft.fft2(noise) / (0.02 + np.hypot(y, x))).real
    return (0.5 + 0.12 * image / image.std()).astype(np.float32)


def batch(*planes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(planes))[None]


@pytest.mark.parametrize("shape", [(17, 64), (50, 33)])
def test_filters_are_convolutions_with_their_kernels(shape):
    image, kernels = texture(*shape), wiener_kernels(SETTINGS)
    filtered = WienerBank(SETTINGS).luminance(batch(image, image))[0]
    for result, kernel in zip(filtered, kernels, strict=True):
        expected = ndimage.convolve(image, kernel.numpy(), mode="mirror")
        assert np.abs(result.numpy() - expected).max() < 1e-5


def test_each_filter_undoes_its_own_blur_best():
    """Blurred by the sums over pixels that training blurs with, not by a formula."""
    sharp, inner = texture(160, 160), slice(20, -20)
    # the wide ones leave too little for a difference to their neighbours
    blurs = [psf.disk(r) for r in SETTINGS.disks] + [
        psf.gaussian(2 * sigma) for sigma in SETTINGS.gaussians[:3]
    ]
    own = [*range(len(SETTINGS.disks)), *range(len(SETTINGS.disks), SETTINGS.n_filters - 1)]
    for number, blur in zip(own, blurs, strict=True):
        blurred = ndimage.convolve(sharp, blur, mode="mirror")
        restored = blurred + WienerBank(SETTINGS).luminance(batch(blurred))[0].numpy()
        errors = np.square(restored - sharp)[:, inner, inner].mean(axis=(1, 2))
        before = np.square(blurred - sharp)[inner, inner].mean()
        assert errors.argmin() == number
        assert errors[number] < 0.8 * before


def test_mixing_takes_of_every_filter_its_share():
    image, dark = texture(40, 48), 0.2 * texture(40, 48)
    bank, n = WienerBank(SETTINGS), SETTINGS.n_filters
    shares = torch.zeros(1, SETTINGS.n_results, 40, 48)
    assert not bank.mix(batch(image, dark), shares).any()
    shares[:, 2], shares[:, 5, :, :20] = 0.5, 0.25
    mixed = bank.mix(batch(image, dark), shares)[0]
    for plane, result in zip((image, dark), mixed, strict=True):
        added = bank.luminance(batch(plane))[0]
        expected = 0.5 * added[2]
        expected[:, :20] += 0.25 * added[5, :, :20]
        assert torch.allclose(result, expected, atol=1e-6)
    # in light, the square of the image
    only_light = torch.zeros(1, SETTINGS.n_results, 40, 48)
    only_light[:, n + 2] = 1
    in_light = bank.luminance(batch(image**2))[0, 2]
    expected = (batch(image**2)[0, 0] + in_light).clamp_min(0).sqrt()
    result = batch(image)[0, 0] + bank.mix(batch(image), only_light)[0, 0]
    assert torch.allclose(result, expected, atol=1e-5)


def test_what_is_even_stays_as_it_is():
    flat = torch.full((1, 3, 64, 64), 0.7)
    shares = torch.ones(1, SETTINGS.n_results, 64, 64)
    assert WienerBank(SETTINGS).mix(flat, shares).abs().max() < 1e-4


def test_a_pixel_depends_on_its_surroundings_alone():
    image, reach = texture(96, 96), SETTINGS.reach
    bank = WienerBank(SETTINGS)
    whole = bank.luminance(batch(image))[..., reach:-reach, reach : 64 - reach]
    part = bank.luminance(batch(image[:, :64]))[..., reach:-reach, reach : 64 - reach]
    assert torch.allclose(whole, part, atol=1e-5)


def test_a_result_depends_on_no_batch():
    bank, n = WienerBank(SETTINGS), SETTINGS.n_results
    images, shares = torch.rand(3, 3, 64, 64), torch.rand(3, n, 64, 64)
    bank.luminance(torch.rand(1, 3, 32, 96))  # of another size
    assert torch.equal(bank.luminance(images)[1:2], bank.luminance(images[1:2]))
    assert torch.equal(bank.mix(images, shares)[1:2], bank.mix(images[1:2], shares[1:2]))


@torch.no_grad()
def test_a_trained_network_that_is_given_filters_begins_with_what_it_can():
    card = tiny_card()
    trained, x = Swintormer(card.network), torch.rand(1, 3, 64, 64)
    torch.nn.init.normal_(trained.output.weight)
    given, weights = with_filters(card, trained.state_dict(), SETTINGS)
    network = Swintormer(given.network)
    network.load_state_dict(weights)
    assert torch.equal(network(x), trained(x))
    assert with_filters(given, weights, SETTINGS) == (given, weights)
    with pytest.raises(TrainingError, match="neither filters nor a prior"):
        with_filters(given, weights, WienerSettings(disks=(2.0,)))


def test_training_goes_on_after_a_look_in_inference():
    network, x = filtering_network(), torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        network(x)
    network(x.requires_grad_()).mean().backward()
    assert x.grad is not None
    assert network.shares.weight.grad.abs().max() > 0


def filtering_network() -> Swintormer:
    """A tiny network that uses its filters."""
    network = Swintormer(tiny_card().network.model_copy(update={"wiener": SETTINGS}))
    torch.nn.init.normal_(network.embed_filtered.weight, std=0.1)
    torch.nn.init.normal_(network.shares.weight, std=0.1)
    return network
