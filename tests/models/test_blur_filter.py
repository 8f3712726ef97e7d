"""The filter for a known blur: what it gains, what it leaves alone, and how tiles agree."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import maximum_filter
from scipy.signal import fftconvolve

from helpers.images import texture
from helpers.tiny import FINDING_NETWORK, tiny_card, tiny_prior_card
from napari_swintormer import deblur
from napari_swintormer.models.blur_filter import KnownBlurRestorer, _largest_around
from napari_swintormer.models.files.weights import load_weights, save_weights
from napari_swintormer.models.network.network_settings import (
    DeconvolutionSettings,
    SwintormerSettings,
)
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.prior.compact import build_network
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.restorer import IdentityRestorer, PriorUse, Restorer
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ORIGIN = [TileOrigin(0, 0, 0)]


def blurred(image: np.ndarray, blur: Blur, gamma: float = 1.0, noise: float = 0.002) -> np.ndarray:
    light = fftconvolve(
        np.pad(image.clip(0, None) ** gamma, 40, mode="reflect"), blur.psf(), "same"
    )
    shown = light[40:-40, 40:-40].clip(0, 1) ** (1 / gamma)
    noisy = shown + noise * np.random.default_rng(0).standard_normal(image.shape)
    return (np.round(255 * noisy.clip(0, 1)) / 255).astype(np.float32)


def known(image: np.ndarray, blur: Blur, photo: bool = False, clipped: float | None = None):
    return PlaneBlur(FoundBlur(blur), PowerOfPlane.measured([image[None]], photo=photo), clipped)


def restore(image: np.ndarray, plane: PlaneBlur, **kwargs: object) -> np.ndarray:
    restorer = KnownBlurRestorer({0: plane}, image.shape, 1, **kwargs)  # type: ignore[arg-type]
    tile = torch.from_numpy(np.pad(image, REACH, mode="symmetric"))[None, None]
    with torch.inference_mode():
        return restorer(tile, ORIGIN)[0, 0].numpy()


def gain(before: np.ndarray, after: np.ndarray, sharp: np.ndarray) -> float:
    return float(10 * np.log10(np.mean((before - sharp) ** 2) / np.mean((after - sharp) ** 2)))


def test_a_network_finds_an_unclear_blur_by_itself() -> None:
    image = texture(64, 64)
    sizes = SwintormerSettings(
        channels=1,
        dim=8,
        num_blocks=(1, 1, 1, 1),
        window_size=2,
        deconvolution=DeconvolutionSettings(),
        known_blur=True,
    )
    network = Swintormer(sizes)
    assert network.deconvolution is not None
    torch.nn.init.constant_(network.deconvolution.shares.bias, 0.1)
    behind = Restorer(tiny_card(network=sizes), network.state_dict())
    power = PowerOfPlane.measured([image[None]], photo=False)
    planes = [PlaneBlur(FoundBlur(Blur.none(), 0.5, unclear=u), power) for u in (False, True)]
    sharp, unclear = (restore(image, plane, behind=behind) for plane in planes)
    np.testing.assert_array_equal(sharp, image)
    assert np.abs(unclear - image).max() > 0.01


@pytest.mark.parametrize("prior", [False, True])
def test_a_second_network_restores_what_is_unclear(prior: bool, tmp_path: Path) -> None:
    """Each image gets the bits of one network alone, whatever lies beside it, also from a file."""
    image = texture(64, 64)
    torch.manual_seed(3)
    base = tiny_prior_card() if prior else tiny_card()
    sizes = base.network.model_copy(update={"known_blur": True})
    found = FINDING_NETWORK.model_copy(update={"num_refinement_blocks": 1})
    first, second = build_network(sizes, base.prior), Swintormer(found)
    for network in (first, second):
        torch.nn.init.normal_(network.output.weight, std=0.05)
        torch.nn.init.normal_(network.embed_maps.weight, std=0.1)
    assert second.deconvolution is not None
    torch.nn.init.normal_(second.deconvolution.shares.weight, std=0.1)
    two = sizes.model_copy(update={"deconvolution": found.deconvolution, "unclear": True})
    card = base.model_copy(update={"network": two})
    state = first.state_dict() | {f"unclear.{n}": v for n, v in second.state_dict().items()}
    save_weights(tmp_path / "two.safetensors", state, card)
    behind = pickle.loads(pickle.dumps(Restorer(*load_weights(tmp_path / "two.safetensors"))))
    alone = {
        False: Restorer(base.model_copy(update={"network": sizes}), first.state_dict()),
        True: Restorer(tiny_card(network=found), second.state_dict()),
    }
    power = PowerOfPlane.measured([image[None]], photo=False)
    planes = {
        False: PlaneBlur(FoundBlur(Blur.disk(3)), power),
        True: PlaneBlur(FoundBlur(Blur.none(), 0.5, unclear=True), power),
    }
    results = {u: restore(image, plane, behind=behind) for u, plane in planes.items()}
    for unclear, plane in planes.items():
        expected = restore(image, plane, behind=alone[unclear])
        np.testing.assert_array_equal(results[unclear], expected)
        assert np.abs(expected - image).max() > 0.01
    half = replace(planes[True], found=replace(planes[True].found, share=0.5))
    kept = restore(image, half, behind=behind)
    np.testing.assert_allclose(kept, (image + results[True]) / 2, atol=1e-6)
    shares = np.array([[[0.2]], [[0.8]]])
    field = BlurField.of((Blur.none(), Blur.disk(2)), (0.0, 0.0), (1.0, 1.0), shares, shares[0])
    varied = restore(image, PlaneBlur(FoundBlur.of_field(field), power), behind=behind)
    expected = image + 0.8 * (results[True] - image)  # as far as the place is blurred
    np.testing.assert_allclose(varied, expected, atol=1e-4)
    tile = torch.from_numpy(image)[None, None]
    assert torch.equal(behind(tile), alone[True](tile))  # nothing is told
    assert len(list(behind.in_steps(tile))) == behind.count_steps(64, 64) == 1
    both = KnownBlurRestorer({0: planes[False], 1: planes[True]}, image.shape, 1, behind)
    assert len(both.trials()) == 2
    if prior:
        sampled = both.with_prior(PriorUse(samples=2, uncertainty=True))
        padded = torch.from_numpy(np.pad(image, REACH, mode="symmetric"))[None, None]
        result = sampled(padded, [TileOrigin(1, 0, 0)])[0].numpy()
        np.testing.assert_allclose(result[0], results[True], atol=1e-5)
        np.testing.assert_array_equal(result[1], 0)


def test_the_prior_is_sampled_where_the_blur_is_wide() -> None:
    image, card = texture(64, 64), tiny_prior_card(from_radius=2.5)
    sizes, prior = card.network.model_copy(update={"known_blur": True}), card.prior
    network = build_network(sizes, prior)
    for layer in (network.prior.denoiser.out, network.prior.denoiser.embed):
        torch.nn.init.normal_(layer.weight)  # an untrained denoiser ignores the noise
    behind = Restorer(tiny_card(network=sizes, prior=prior), network.state_dict())
    narrow, wide = known(image, Blur.disk(2)), known(image, Blur.disk(4))
    for plane, steps in ((narrow, 1), (wide, 5)):
        assert KnownBlurRestorer({0: plane}, (64, 64), 1, behind).count_steps(192, 192) == steps
    off = behind.with_prior(PriorUse(source="off"))
    for plane, same in ((narrow, True), (wide, False)):
        result, without = (restore(image, plane, behind=b) for b in (behind, off))
        assert np.array_equal(result, without) == same
    planes = {0: narrow, 1: PlaneBlur(FoundBlur(Blur.none()))}
    several = KnownBlurRestorer(planes, (64, 64), 1, behind).with_prior(
        PriorUse(samples=3, uncertainty=True)
    )
    tile = torch.from_numpy(np.pad(image, REACH, mode="symmetric"))[None, None]
    sampled, stays = (several(tile, [TileOrigin(n, 0, 0)])[0].numpy() for n in (0, 1))
    assert sampled.shape == stays.shape == (3, 64, 64)
    assert np.abs(sampled[1:]).max() > 0  # who asks for samples gets them for narrow blur too
    np.testing.assert_array_equal(stays[1:], 0)


@pytest.mark.parametrize("blur", [Blur.disk(2.5), Blur.gaussian(1.2), Blur.motion(9, 30)])
@pytest.mark.parametrize("photo", [False, True])
def test_a_told_blur_is_undone(blur: Blur, photo: bool) -> None:
    sharp = texture(160, 160)
    image = blurred(sharp, blur, 2.2 if photo else 1.0)
    right = gain(image, restore(image, known(image, blur, photo)), sharp)
    assert right > 0.7
    if photo and blur.kind != "motion":  # light and intensities are better than intensities alone
        assert right > gain(image, restore(image, known(image, blur)), sharp)
    for factor in (0.8, 1.2):
        assert gain(image, restore(image, known(image, blur.scaled(factor), photo)), sharp) > 0


def harmless() -> dict[str, np.ndarray]:
    rng, size = np.random.default_rng(0), (128, 128)
    page = Image.new("L", size, 240)
    for row in range(8):
        ImageDraw.Draw(page).text((5, 16 * row), "The quick brown fox", fill=15)
    sky = np.linspace(0.4, 0.7, 128)[:, None] + 0.004 * rng.standard_normal(size)
    return {
        "letters": np.asarray(page) / 255,
        "sky": sky,
        "noise": 0.4 + 0.1 * rng.standard_normal(size),
        "flat": np.full(size, 0.4),
        "photons": rng.poisson(0.5, size) / 255,
        "one pixel": np.full((1, 1), 0.4),
    }


@pytest.mark.parametrize("name", harmless())
@pytest.mark.parametrize("blur", [Blur.disk(3), Blur.motion(10, 20)])
def test_an_image_without_this_blur_stays(name: str, blur: Blur) -> None:
    image = harmless()[name].clip(0, 1).astype(np.float32)
    for photo in (False, True):
        change = restore(image, known(image, blur, photo, 1.0)) - image
        assert np.mean(change**2) < 1e-4  # 40 dB


def test_no_blur_changes_no_bit_unless_a_model_takes_over() -> None:
    image, none = texture(40, 50), PlaneBlur(FoundBlur(Blur.none()))
    np.testing.assert_array_equal(restore(image, none), image)
    brighter = IdentityRestorer(1)
    brighter.forward = lambda tiles: tiles + 1  # type: ignore[method-assign]
    np.testing.assert_array_equal(restore(image, none, otherwise=brighter), image + 1)


def test_clipped_lights_make_no_dark_rings() -> None:
    sharp = np.full((128, 128), 0.05)
    sharp[20::37, 30::41] = 60
    sharp[5::37, 11::41] = 20
    image = blurred(sharp, Blur.disk(3))
    assert image.max() == 1
    dark, kept = (restore(image, known(image, Blur.disk(3), clipped=c)) for c in (None, 1 - 1e-6))
    assert dark[image < 1].min() < 0
    assert kept.min() >= image.min() - 1e-3


def test_the_border_does_not_ring() -> None:
    """Light from beyond the border is unknown: the change fades there."""
    sharp = texture(220, 220)
    blur = Blur.motion(12, 0)
    image = blurred(sharp, blur)[30:-30, 30:-30]
    restored, sharp = restore(image, known(image, blur)), sharp[30:-30, 30:-30]
    strip = np.s_[:, :8]
    assert gain(image[strip], restored[strip], sharp[strip]) > -0.5


@pytest.mark.parametrize("told", ["motion:9@30", "2.5px"])
def test_tiles_agree_with_the_whole(told: str) -> None:
    image = blurred(texture(260, 230), Blur.parse(told))
    options = {"device": "cpu", "precision": "fp32", "blur": told, "model": "filter"}
    whole = deblur(image, tile_size=512, **options)
    tiles = deblur(image, tile_size=96, overlap=8, batch_size=3, **options)
    assert np.abs(whole - image).max() > 0.01
    np.testing.assert_allclose(tiles, whole, atol=1e-5)


def test_blurs_that_do_not_fit_the_image_do_no_harm() -> None:
    sharp, true = texture(160, 160), Blur.motion(20, 30)
    image = blurred(sharp, true, 2.2, noise=0.0005)
    for other in (Blur.disk(7), Blur.motion(20, 120)):
        found = FoundBlur(Blur.mixture([(0.75, true), (0.25, other)]), 0.5)
        power = PowerOfPlane.measured([image[None]], photo=True)
        assert gain(image, restore(image, PlaneBlur(found, power)), sharp) > 0.5
    y, x = np.mgrid[:512, :512] // 2
    checks = 0.8 + 0.15 * ((y + x) % 2).astype(np.float32)  # so much detail is not blurred at all
    for certainty in (1.0, 1 + 1e-7):  # probabilities may sum to a little more than 1
        found = FoundBlur(Blur.disk(6), certainty)
        plane = replace(known(checks, found.blur), found=found)
        assert np.abs(restore(checks, plane) - checks).max() < 0.1


class Listener(Restorer):
    """Keeps what its network sees, which returns the filtered image."""

    def __init__(self) -> None:
        sizes = tiny_card().network.model_copy(update={"known_blur": True})
        super().__init__(tiny_card(network=sizes), Swintormer(sizes).state_dict())
        self.network.forward = self.listen  # type: ignore[method-assign]

    def listen(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return x[:, 3:6]


def test_a_network_continues_from_the_filter() -> None:
    sharp, blur = texture(60, 70), Blur.disk(2)
    image, behind = blurred(sharp, blur), Listener()
    plane = PlaneBlur(FoundBlur(blur, 0.8), PowerOfPlane.measured([image[None]], photo=True), None)
    restorer = KnownBlurRestorer({0: plane}, image.shape, 3, behind)
    tile = torch.from_numpy(np.pad(image, REACH, mode="symmetric"))[None, None]
    with torch.inference_mode():
        restored = restorer(tile, ORIGIN)[0, 0].numpy()
    assert behind.seen.shape == (1, 9, 64, 96)
    np.testing.assert_allclose(behind.seen[0, 0, :60, :70], image, atol=1e-6)
    assert gain(image, behind.seen[0, 3, :60, :70].numpy(), sharp) > 0
    np.testing.assert_allclose(behind.seen[0, 6:8, 0, 0], [np.log2(2**0.5) / 4, 0.8], atol=0.03)
    np.testing.assert_allclose(restored, behind.seen[0, 3, :60, :70], atol=1e-6)


def test_several_planes_have_blurs_of_their_own() -> None:
    image = blurred(texture(80, 80), Blur.disk(2))
    stack: Sequence[PlaneBlur] = [known(image, Blur.disk(2)), PlaneBlur(FoundBlur(Blur.none()))]
    restorer = KnownBlurRestorer(dict(enumerate(stack)), image.shape, 1)
    tile = torch.from_numpy(np.pad(image, REACH, mode="symmetric"))[None, None]
    changed, same = (restorer(tile, [TileOrigin(n, 0, 0)])[0, 0].numpy() for n in (0, 1))
    np.testing.assert_array_equal(same, image)
    assert np.abs(changed - image).max() > 0.01


def test_a_field_undoes_what_each_place_has() -> None:
    sharp, size = texture(192, 256), (192, 256)
    wide = np.broadcast_to(np.arange(256) >= 128, size)
    image = np.where(wide, blurred(sharp, Blur.disk(3)), blurred(sharp, Blur.none()))
    shares = np.zeros((3, 6, 8))
    shares[0, :, :4], shares[2, :, 4:] = 1, 1  # no place has the smaller blur
    blurs = (Blur.none(), Blur.disk(1.5), Blur.disk(3))
    field = BlurField.of(blurs, (15.5, 15.5), (32.0, 32.0), shares, 3 * shares[2])
    assert field.blurs == (blurs[0], blurs[2])
    power = PowerOfPlane.measured([image[None]], photo=False)
    places = power.in_places([image[None]], [(0, 0)], field)
    plane = PlaneBlur(FoundBlur.of_field(field), power, None, places)
    restored = restore(image, plane)
    np.testing.assert_array_equal(restored[:, :110], image[:, :110])
    inner = np.s_[20:-20, 150:-20]
    assert gain(image[inner], restored[inner], sharp[inner]) > 1
    parts = [np.s_[:, :100], np.s_[:, 90:]]
    margin = np.pad(image, REACH, mode="symmetric")
    restorer = KnownBlurRestorer({0: plane}, size, 1)
    for part in parts:  # a tile is a part of the plane
        x = part[1].start or 0
        tile = margin[:, x : (part[1].stop or 256) + 2 * REACH]
        made = restorer(torch.from_numpy(tile)[None, None], [TileOrigin(0, 0, x)])[0, 0].numpy()
        np.testing.assert_allclose(made, restored[part], atol=1e-5)
    maps = plane.maps_at(50, 100, 8, 156)
    np.testing.assert_allclose(maps[0, :, -1], np.log2(3 / 2**0.5) / 4, atol=0.02)
    assert maps[0, 0, 0] == -0.5  # no blur
    assert maps[1].min() < 0.6 < 0.9 < maps[1].max()  # less sure between the places


@pytest.mark.parametrize("reach", [0, 1, 2, 5, 31, 64])
def test_the_largest_value_around_a_pixel_is_found(reach: int) -> None:
    image = np.random.default_rng(reach).normal(size=(2, 3, 40, 150)).astype(np.float32)
    found = _largest_around(torch.from_numpy(image), reach)
    wanted = maximum_filter(image, (1, 1, 2 * reach + 1, 2 * reach + 1), mode="nearest")
    np.testing.assert_array_equal(found, wanted)
