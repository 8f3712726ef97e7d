"""One training step: in any precision, and with as little memory as there is."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from PIL import Image

from helpers.tiny import tiny_card
from helpers.train_runs import elsewhere, same, stop_after, weights_of
from napari_swintormer.errors import SettingsError, TrainingError
from napari_swintormer.events import Notice
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.training.loop.checkpoint import load_checkpoint
from napari_swintormer.training.loop.state import TrainingState
from napari_swintormer.training.loop.train import iter_train
from napari_swintormer.training.train_presets import NETWORKS


def test_out_of_memory_halves_the_patches_and_changes_nothing_else(settings, monkeypatch):
    four = dataclasses.replace(settings, batch_size=4)
    blurred, sharp = torch.rand(2, 4, 3, 32, 32)
    whole, halved = (
        TrainingState(tiny_card(), None, four, torch.device("cpu"), torch.float32) for _ in range(2)
    )
    loss, notice = whole.update(blurred, sharp, 1e-3, 0)
    assert notice is None
    forward, sizes = Swintormer.forward, []

    def small(self, x):
        sizes.append(len(x))
        if len(x) > 1 and self.training:
            raise torch.OutOfMemoryError("too many")
        return forward(self, x)

    monkeypatch.setattr(Swintormer, "forward", small)
    same_loss, notice = halved.update(blurred, sharp, 1e-3, 0)
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert "4 patches: their gradients are computed 1 at a time" in notice
    torch.testing.assert_close(same_loss, loss)
    for one, other in zip(whole.network.parameters(), halved.network.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-7)

    events = iter_train(four)
    assert "1 at a time" in next(e.message for e in events if isinstance(e, Notice))
    events.close()
    assert load_checkpoint(four.run_folder).at_once == 1
    resumed = list(iter_train(dataclasses.replace(four, resume=True)))
    assert not [e for e in resumed if isinstance(e, Notice)]

    def never(self, x):
        raise torch.OutOfMemoryError("too many")

    monkeypatch.setattr(Swintormer, "forward", never)
    with pytest.raises(torch.OutOfMemoryError):
        list(iter_train(elsewhere(settings, "never.safetensors")))


@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory (MPS allocated: 5.40 GB)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_every_library_that_has_no_memory_left_is_heard(settings, monkeypatch, message):
    state = TrainingState(tiny_card(), None, settings, torch.device("cpu"), torch.float32)
    forward = Swintormer.forward

    def small(self, x):
        if len(x) > 1:
            raise RuntimeError(message)
        return forward(self, x)

    monkeypatch.setattr(Swintormer, "forward", small)
    blurred, sharp = torch.rand(2, 2, 3, 32, 32)
    assert "1 at a time" in state.update(blurred, sharp, 1e-3, 0)[1]


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9")
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_step_holds_the_switch_of_its_precision(settings, monkeypatch, precision):
    chosen = dataclasses.replace(settings, precision=precision)
    state = TrainingState(tiny_card(), None, chosen, torch.device("cpu"), torch.float32)
    forward, seen = Swintormer.forward, set()

    def watched(self, x):
        seen.add(torch.backends.cudnn.conv.fp32_precision)
        return forward(self, x)

    monkeypatch.setattr(Swintormer, "forward", watched)
    state.update(*torch.rand(2, 2, 3, 32, 32), 1e-3, 0)
    assert seen == {"tf32" if precision == "tf32" else "ieee"}


def test_activations_are_computed_again_if_one_patch_is_too_large(settings, monkeypatch):
    """Memory that holds half of what one patch leaves for its gradients."""
    blurred, sharp = torch.rand(2, 2, 3, 32, 32)
    card = tiny_card()
    whole, short = (
        TrainingState(card, None, settings, torch.device("cpu"), torch.float32) for _ in range(2)
    )
    taken = []

    def kept(state):
        """Bytes that the forward pass leaves for the backward pass, of one patch."""
        total = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: total.append(t.nbytes) or t, lambda t: t
        ):
            state.network(blurred[:1])
        return sum(total)

    forward = Swintormer.forward
    limit = kept(short) / 2

    def limited(self, x):
        if self is short.network and self.training:
            sizes = []
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t: sizes.append(t.nbytes) or t, lambda t: t
            ):
                restored = forward(self, x)
            taken.append(sum(sizes))
            if taken[-1] > limit:
                raise torch.OutOfMemoryError("too much")
            return restored
        return forward(self, x)

    monkeypatch.setattr(Swintormer, "forward", limited)
    whole.update(blurred, sharp, 1e-3, 0)
    _, notice = short.update(blurred, sharp, 1e-3, 0)
    assert "computed twice" in notice
    assert len(taken) == 4  # two patches, one, and both of them one by one with less to keep
    for one, other in zip(whole.network.parameters(), short.network.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-7)
    settings.run_folder.mkdir()
    short.save(1, {})
    assert load_checkpoint(settings.run_folder).recompute


def test_fp16_scales_the_loss_and_skips_steps_that_overflow(settings):
    blurred, sharp = torch.rand(2, 2, 3, 32, 32)
    wide = dataclasses.replace(settings, clip=100.0)
    single, half = (
        TrainingState(tiny_card(), None, wide, torch.device("cpu"), precision)
        for precision in (torch.float32, torch.float16)
    )
    single.update(blurred, sharp, 1e-3, 0)
    half.update(blurred, sharp, 1e-3, 0)
    one, other = (
        torch.cat([parameter.grad.flatten() for parameter in state.network.parameters()])
        for state in (single, half)
    )
    assert (one - other).norm() < 0.1 * one.norm()
    settings.run_folder.mkdir()
    before = copy.deepcopy(half.network.state_dict())
    half._scaler.update(2.0**60)  # too much for gradients in half precision
    half.update(blurred, sharp, 1e-3, 1)
    assert same(half.network.state_dict(), before)
    half.save(2, {})
    assert load_checkpoint(settings.run_folder).scaler["scale"] == 2.0**59

    resumed = TrainingState(tiny_card(), None, wide, torch.device("cpu"), torch.float16)
    assert resumed.restore({}) == 2
    for state in (half, resumed):
        state.update(blurred, sharp, 1e-3, 2)
    assert same(half.network.state_dict(), resumed.network.state_dict())

    with pytest.raises(SettingsError, match="CPU does not compute well in fp16"):
        list(iter_train(dataclasses.replace(settings, precision="fp16")))


def test_later_patches_are_larger_and_fewer(settings, monkeypatch):
    growing = dataclasses.replace(settings, batch_size=4, larger_patches=(64,))
    assert [growing.size_of_step(step) for step in (0, 3, 4, 7)] == [(32, 4)] * 2 + [(64, 1)] * 2
    update, shapes = TrainingState.update, []

    def watched(self, blurred, *args):
        shapes.append(blurred.shape)
        return update(self, blurred, *args)

    monkeypatch.setattr(TrainingState, "update", watched)
    stop_after(growing, 5)
    list(iter_train(dataclasses.replace(growing, resume=True)))
    assert shapes == [(4, 3, 32, 32)] * 4 + [(1, 3, 64, 64)] * 4
    with Image.open(growing.run_folder / "validation" / "step_000008.png") as picture:
        assert picture.size == (192, 64)
    whole = elsewhere(growing, "whole.safetensors")
    list(iter_train(whole))
    assert same(weights_of(growing), weights_of(whole))
    with pytest.raises(TrainingError, match="was started with larger_patches="):
        list(iter_train(dataclasses.replace(growing, larger_patches=(), resume=True)))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_a_gpu_makes_the_step_of_a_cpu(settings, precision):
    blurred, sharp = torch.rand(2, 4, 3, 64, 64)
    alone, gpu = (
        TrainingState(tiny_card(), None, settings, torch.device(device), kind)
        for device, kind in (("cpu", torch.float32), ("cuda", precision))
    )
    losses = [float(state.update(blurred, sharp, 1e-3, 0)[0]) for state in (alone, gpu)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    one, other = (
        torch.cat([parameter.grad.flatten().cpu() for parameter in state.network.parameters()])
        for state in (alone, gpu)
    )
    assert (one - other).norm() < 0.2 * one.norm()


@pytest.mark.gpu
def test_computing_activations_again_saves_gpu_memory(settings):
    blurred, sharp = torch.rand(2, 2, 3, 256, 256)
    card = tiny_card().model_copy(update={"network": NETWORKS["small"]})
    peaks = []
    for recompute in (False, True):
        state = TrainingState(card, None, settings, torch.device("cuda"), torch.bfloat16)
        if recompute:
            state._recompute_blocks()
        torch.cuda.reset_peak_memory_stats()
        state.update(blurred, sharp, 1e-3, 0)
        peaks.append(torch.cuda.max_memory_allocated())
        del state
    assert peaks[1] < 0.6 * peaks[0]
