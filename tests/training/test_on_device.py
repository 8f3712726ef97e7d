"""Degradations for a whole batch on the device are those of the CPU."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from helpers.tiny import TINY_NETWORK
from helpers.train_runs import elsewhere, same, stop_after, train, weights_of
from napari_swintormer.errors import TrainingError
from napari_swintormer.training.degradations.camera import NOISELESS, SensorNoise
from napari_swintormer.training.degradations.jpeg_on_device import through_jpeg
from napari_swintormer.training.degradations.known_blur import KnownBlur, draw_known
from napari_swintormer.training.degradations.on_device import (
    RawPatch,
    develop,
    draw_noise,
    draw_raw,
    raw_margin,
)
from napari_swintormer.training.degradations.primitives import crop
from napari_swintormer.training.degradations.primitives import through_jpeg as saved_as_jpeg
from napari_swintormer.training.degradations.simple import Degradation, draw_defocus

SIDE, ENDS = 32, (0.02, 0.9)


def scene(rng, margin, channels=3):
    """Smooth structure in [0, 1], larger than a patch by a margin."""
    side = SIDE + 2 * margin
    noise = ndimage.gaussian_filter(rng.standard_normal((channels, side, side)), (0, 1.2, 1.2))
    return (0.5 + 0.4 * noise / np.abs(noise).max()).astype(np.float32)


def exact(degradation):
    """The degradation without noise and without the rounding of a file."""
    if isinstance(degradation, KnownBlur):
        return dataclasses.replace(degradation, recording=exact(degradation.recording))
    if isinstance(degradation, Degradation):
        return dataclasses.replace(degradation, noise=NOISELESS, levels=None, jpeg_quality=None)
    camera = dataclasses.replace(
        degradation.camera, noise=NOISELESS, levels=None, jpeg_quality=None
    )
    return dataclasses.replace(degradation, camera=camera)


def on_cpu(degradation, sharp, rng):
    """Degrade as a training on the CPU does."""
    blurred, target = degradation.degrade(sharp, rng)
    low, high = ENDS
    blurred, target = ((x - low) / (high - low) for x in (blurred, target))
    clipped = np.clip(blurred, 0, 1)
    target = target - (blurred - clipped)
    if not isinstance(degradation, KnownBlur):
        return clipped, target
    filtered = degradation.describe(clipped.astype(np.float32))
    return np.concatenate([crop(clipped, 64), filtered]), crop(target, 64)


def batch(patches):
    return RawPatch(*(torch.from_numpy(np.stack(a)) for a in zip(*patches, strict=True)))


def draw_simple(modality, rng):
    return draw_defocus("photo" if modality == "photo" else "microscopy", rng)


def draw_known_there(modality, rng):
    return draw_known(modality, rng, on_device=True)


@pytest.mark.parametrize("draw", [draw_simple, draw_known_there])
def test_without_noise_a_batch_is_that_of_the_cpu(draw):
    raws, wanted = [], []
    margin = raw_margin(known=draw is draw_known_there)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        degradation = exact(draw(("photo", "fluorescence", "brightfield")[seed % 3], rng))
        sharp = scene(rng, margin)
        raws.append(draw_raw(degradation, sharp, ENDS, np.random.default_rng(1)))
        part = crop(sharp, margin - degradation.margin)
        wanted.append(on_cpu(degradation, part, np.random.default_rng(1)))
    found = develop(batch(raws), torch.zeros(12, 3, *raws[0].sharp.shape[1:]))
    for mine, theirs in zip(found, zip(*wanted, strict=True), strict=True):
        off = np.abs(mine.numpy() - np.stack(theirs)).max(axis=(1, 2, 3))
        # a filter for a known blur amplifies what is left of rounding
        assert off.max() < (3e-4 if draw is draw_known_there else 1e-5), off


@pytest.mark.parametrize(
    "noise", [SensorNoise(0.02, 0.0009, 0.6), SensorNoise(0.01, 0, 0.8, False)]
)
def test_noise_has_the_strength_and_the_width_of_the_cpu(noise):
    sharp = np.full((3, SIDE + 80, SIDE + 80), 0.4, np.float32)
    degradation = Degradation(noise=noise)
    raw = batch([draw_raw(degradation, sharp, (0.0, 1.0), np.random.default_rng(0))] * 8)
    found, target = develop(raw, draw_noise(raw, seed=1, step=2, first=0))
    wanted = degradation.degrade(np.full((24, SIDE, SIDE), 0.4), np.random.default_rng(0))[0]
    assert torch.equal(found, target)  # an unblurred patch must stay, noise included
    mine, theirs = found.numpy() - 0.4, wanted - 0.4
    assert mine.std() == pytest.approx(theirs.std(), rel=0.03)
    steps = [np.diff(x, axis=-1).std() / x.std() for x in (mine, theirs)]
    assert steps[0] == pytest.approx(steps[1], rel=0.03)
    assert torch.equal(found, develop(raw, draw_noise(raw, 1, 2, 0))[0])
    assert not torch.equal(found, develop(raw, draw_noise(raw, 1, 3, 0))[0])


def test_grey_patches_stay_grey():
    sharp = scene(np.random.default_rng(0), 40, channels=1)
    degradation = Degradation(noise=SensorNoise(0.05, 0.001), levels=256)
    raw = batch([draw_raw(degradation, sharp, ENDS, np.random.default_rng(0))])
    blurred, _ = develop(raw, draw_noise(raw, 0, 0, 0))
    assert torch.equal(blurred[:, 0], blurred[:, 2])


@pytest.mark.parametrize("quality", [40, 75, 96])
def test_jpeg_is_that_of_a_file_to_a_grey_level(quality):
    light = scene(np.random.default_rng(0), 16)
    image = 0.8 * light[:1] + 0.2 * ndimage.gaussian_filter(light, (0, 4, 4))  # colours are soft
    found = through_jpeg(torch.from_numpy(image)[None], torch.tensor([float(quality)]))[0].numpy()
    saved = saved_as_jpeg(image, quality)
    assert np.abs(found - saved).mean() * 255 < 0.8
    changes = [np.abs(image - read).mean() for read in (found, saved)]
    assert changes[0] == pytest.approx(changes[1], rel=0.08)


def test_a_training_that_blurs_on_the_device_resumes_to_the_same_weights(settings):
    settings = dataclasses.replace(
        settings,
        degrade_on="device",
        synthesize="known",
        network=TINY_NETWORK.model_copy(update={"known_blur": True}),
        held_out=0.0,
        steps=2,
    )
    train(settings)
    stopped = elsewhere(settings, "stopped.safetensors")
    stop_after(stopped, 1)
    assert same(train(dataclasses.replace(stopped, resume=True))[1], weights_of(settings))


def test_other_blur_is_refused_on_the_device(settings):
    with pytest.raises(TrainingError, match="goes with synthesize='defocus' or 'known'"):
        dataclasses.replace(settings, degrade_on="device", synthesize="optics")
