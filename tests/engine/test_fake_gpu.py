"""Device code on a GPU that computes nothing: devices and types fit, and launches are few.

Every case also holds its operators against those that Apple GPUs have.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from helpers.fake_backward import fake_backward
from helpers.fake_gpu import GPU, FakeProcessor, Recorder, fake_gpu, load_guard
from helpers.mps_operators import mps_operators
from helpers.tiny import random_network, tiny_card, tiny_prior_card
from napari_swintormer.engine import runners
from napari_swintormer.engine.protocol import Tile
from napari_swintormer.engine.richardson_lucy import estimates
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.models.blur_filter import KnownBlurRestorer
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.files.published import Published
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.restorer import PriorUse, Restorer
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane
from napari_swintormer.training.degradations.known_blur import draw_known
from napari_swintormer.training.degradations.on_device import (
    RawPatch,
    develop,
    draw_raw,
    raw_margin,
)
from napari_swintormer.training.loop.stage import PRIOR_STAGES, Batch
from napari_swintormer.training.loop.state import TrainingState
from napari_swintormer.training.train_settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_swintormer.models.tile_restorer import TileRestorer

    GpuOf = Callable[[], AbstractContextManager[Recorder]]

ONCE, SAMPLED = PriorUse(), PriorUse(samples=2, uncertainty=True, num_inference_steps=2)
WAYS = [("fp32", 1), ("bf16", 1), ("fp16", 2)]


@pytest.fixture(scope="module", autouse=True)
def _guard(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.cache is not None
    load_guard(pytestconfig.cache.mkdir("guard"))


@pytest.fixture
def gpu_of(monkeypatch: pytest.MonkeyPatch) -> GpuOf:
    monkeypatch.setattr(runners, "processor_for", lambda *_, **__: FakeProcessor())
    monkeypatch.setattr(runners.devices, "resolve_device", lambda _: GPU)
    # a GPU without values cannot be compared with the CPU
    monkeypatch.setattr(runners, "fault_of", _move)

    @contextmanager
    def gpu() -> Iterator[Recorder]:
        with fake_gpu(monkeypatch) as recorder:
            yield recorder
        assert recorder.operators
        assert not recorder.float64
        assert recorder.operators <= mps_operators()

    return gpu


def _move(processor: FakeProcessor, restorer: TileRestorer, *_: object, **__: object) -> str:
    restorer.to(processor.device)
    return ""


def test_the_list_of_mps_operators_knows_what_is_missing() -> None:
    known = mps_operators()
    assert {"add.Tensor", "_fft_r2c", "linspace", "convolution"} <= known
    assert not {"logspace", "_adaptive_avg_pool3d"} & known


@pytest.mark.parametrize(("precision", "scale"), WAYS)
def test_the_shipped_model_stays_on_the_gpu_and_launches_little(
    precision: str, scale: int, gpu_of: GpuOf
) -> None:
    recipe = RunnerRecipe(load_model(), "shipped", "cuda", precision, 8, scale=scale)
    tile = Tile(np.zeros((3, 512, 512), np.float32), TileOrigin(0, 13, 8))
    with gpu_of() as gpu:
        (changes,) = filter(None, recipe.make().changes([[tile] * 8]))
    assert [change.shape for change in changes] == [(3, 512, 512)] * 8
    assert gpu.fetched == 0
    assert gpu.launches <= 1500  # with what only the first batch needs


@pytest.mark.parametrize("prior", [ONCE, SAMPLED])
def test_a_prior_stays_on_the_gpu(prior: PriorUse, gpu_of: GpuOf) -> None:
    card = tiny_prior_card()
    restorer = Restorer(card, random_network(card).state_dict())
    tile = Tile(np.zeros((3, 64, 64), np.float32), TileOrigin(0, 13, 8))
    with gpu_of() as gpu:
        recipe = RunnerRecipe(restorer, "prior", "cuda", "bf16", 2, prior=prior)
        (changes,) = filter(None, recipe.make().changes([[tile] * 2]))
    assert [change.shape for change in changes] == [(3 * prior.depth, 64, 64)] * 2
    assert gpu.fetched == 0


@pytest.mark.parametrize("network", [False, True])
def test_the_filter_for_a_known_blur_stays_on_the_gpu(network: bool, gpu_of: GpuOf) -> None:
    power = PowerOfPlane.measured([np.eye(64, dtype=np.float32)[None]], photo=True)
    plane = PlaneBlur(FoundBlur(Blur.disk(2.0)), power, clipped=0.9)
    inner = tiny_card().network.model_copy(update={"known_blur": True})
    card = tiny_card().model_copy(update={"network": inner})
    behind = Restorer(card, Swintormer(inner).state_dict()) if network else None
    restorer = KnownBlurRestorer({0: plane}, (96, 96), 3, behind)
    side = 64 + 2 * restorer.margin
    pixels = np.zeros((3, side, side), np.float32)
    tile = Tile(pixels, TileOrigin(0, 0, 0), restorer.margin)
    with gpu_of() as gpu:
        (changes,) = filter(
            None, RunnerRecipe(restorer, "k", "cuda", "bf16", 2).make().changes([[tile] * 2])
        )
    assert [change.shape for change in changes] == [(3, 64, 64)] * 2
    assert gpu.fetched <= 1  # whether there are clipped pixels


def test_stacks_are_deconvolved_on_the_gpu(gpu_of: GpuOf) -> None:
    psf, counts = np.ones((3, 5, 5), np.float32) / 75, np.ones((4, 16, 18), np.float32)
    with gpu_of() as gpu:
        shapes = {estimate.shape for estimate in islice(estimates(psf, counts, GPU), 2)}
    assert shapes == {(4, 16, 18)}
    assert gpu.launches < 600


def test_a_batch_is_degraded_on_the_gpu(gpu_of: GpuOf) -> None:
    margin = raw_margin(known=True)
    sharp = np.random.default_rng(0).random((3, 32 + 2 * margin, 32 + 2 * margin), np.float32)
    draws = [np.random.default_rng(n) for n in range(2)]
    raws = [draw_raw(draw_known("photo", rng, on_device=True), sharp, (0, 1), rng) for rng in draws]
    arrays = [torch.from_numpy(np.stack(parts)) for parts in zip(*raws, strict=True)]
    with gpu_of() as gpu:
        raw = RawPatch(*(array.to(GPU) for array in arrays))
        blurred, target = develop(raw, torch.zeros_like(raw.sharp))
    assert blurred.device == target.device == GPU
    assert (blurred.shape, target.shape) == ((2, 9, 32, 32), (2, 3, 32, 32))
    # the filters of a known blur are made on the CPU: of the images and of what is known
    assert gpu.fetched == 4


@pytest.mark.parametrize("stage", ["alone", *PRIOR_STAGES])
def test_the_losses_of_a_training_and_their_gradients_stay_on_the_gpu(
    stage: str, gpu_of: GpuOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Published, "fill_convolutions", lambda _, convs, __: _without_values(convs))
    loss = "l1 + charbonnier + frequency + decibel + perceptual"
    settings = TrainSettings(
        sharp=(tmp_path,),
        out=tmp_path / "a.safetensors",
        synthesize="defocus",
        loss=loss,
        vgg19=tmp_path,
        precision="bf16",
        batch_size=2,
    )
    card = tiny_card() if stage == "alone" else tiny_prior_card()
    blurred, sharp = torch.rand(2, 2, 3, 32, 32)
    cpu = torch.device("cpu")
    state = TrainingState(card, None, settings, cpu, torch.bfloat16, PRIOR_STAGES.get(stage))
    value = state.stage.loss(Batch(state.network, blurred, sharp, 0, 0))
    value.backward()
    expected = {n: p.shape for n, p in state.network.named_parameters() if p.grad is not None}
    with gpu_of() as gpu:
        network = state.network.to(GPU)
        batch = Batch(network, blurred.to(GPU), sharp.to(GPU), 0, 0)
        with torch.autocast("cuda", torch.bfloat16):
            value = state.stage.loss(batch)
        gradients = fake_backward(value)
    assert value.device == GPU
    assert "convolution_backward" in gpu.operators
    parameters = [(n, gradients.get(id(p))) for n, p in network.named_parameters()]
    found = {n: grad for n, grad in parameters if grad is not None}
    assert {n: grad.shape for n, grad in found.items()} == expected
    assert {(grad.device, grad.dtype) for grad in found.values()} == {(GPU, torch.float32)}


def _without_values(convolutions: nn.ModuleList) -> None:
    for weight in convolutions.to_empty(device=torch.device("cpu")).parameters():
        nn.init.zeros_(weight)
