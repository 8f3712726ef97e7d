"""The network against recorded tensors, and inference against training."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from helpers.golden import read_golden, released_output
from napari_swintormer.models.files.released import released_name
from napari_swintormer.models.network.block import Block
from napari_swintormer.models.network.network_settings import (
    DeconvolutionSettings,
    SwintormerSettings,
)
from napari_swintormer.models.network.swintormer import Swintormer

TINY = SwintormerSettings(
    dim=8, num_blocks=(2, 2, 1, 2), num_heads=(1, 2, 2, 4), num_refinement_blocks=1, window_size=4
)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_network(settings: SwintormerSettings = TINY) -> Swintormer:
    """Return a network in which every parameter matters to the output."""
    torch.manual_seed(0)
    network = Swintormer(settings).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 1 or "position_bias" in name:
                weight.add_(torch.randn_like(weight), alpha=0.3)
        network.output.weight.mul_(50)
        if network.deconvolution is not None:
            nn.init.normal_(network.embed_added.weight, std=0.05)
            nn.init.normal_(network.deconvolution.shares.weight, std=0.05)
    return network


def make_input(settings: SwintormerSettings = TINY, rows: int = 1, columns: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    multiple = settings.multiple
    shape = (2, settings.in_channels, rows * multiple, columns * multiple)
    return torch.rand(shape, generator=generator)


def relative_error(result: Tensor, expected: Tensor) -> float:
    return ((result - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("shift", [0, 4])
@pytest.mark.parametrize("training", [False, True])
def test_block_agrees_with_released_code(shift, training):
    tensors, weights = read_golden(f"transformer_block_shift{shift}")
    sizes = SwintormerSettings(dim=32, window_size=8, softmax="released")
    block = Block(sizes, 32, 2, shifted=shift > 0).train(training)
    block.load_state_dict(
        {
            # the names of a single block have no level
            name: weights[released_name(f"refinement.0.{name}").removeprefix("refinement.0.")]
            .reshape(like.shape)
            .clone()
            for name, like in block.state_dict().items()
        }
    )
    with torch.set_grad_enabled(training):
        output = block(tensors["input"].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert relative_error(output, tensors["output"]) < 1e-5
    # the plain softmax gives another result
    block.attention.softmax = "plain"
    with torch.no_grad():
        plain = block(tensors["input"].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert relative_error(plain, tensors["output"]) > 1e-3


def test_network_agrees_with_released_code():
    tensors, weights = read_golden("swintormer_small")
    output = released_output(weights, tensors["input"])
    change = tensors["output"] - tensors["input"][:, :3]
    assert relative_error(output - tensors["input"][:, :3], change) < 1e-5


@pytest.mark.parametrize(
    ("num_blocks", "millions"), [((2, 4, 6, 8), 25.177), ((4, 6, 6, 8), 25.933)]
)
def test_parameter_count_is_the_paper_s(num_blocks, millions):
    with torch.device("meta"):
        network = Swintormer(SwintormerSettings(views=2, num_blocks=num_blocks))
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6, 3) == millions


@pytest.mark.parametrize("attention", ["channel", "window"])
def test_other_attention_takes_as_many_parameters(attention):
    def count(settings):
        with torch.device("meta"):
            return sum(weight.numel() for weight in Swintormer(settings).parameters())

    paper = SwintormerSettings(views=2)
    ratio = count(paper.model_copy(update={"attention": attention})) / count(paper)
    assert 0.995 < ratio <= 1  # attention over channels has no position bias


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"softmax": "released"},
        {"attention": "channel"},
        {"attention": "window"},
        {"deconvolution": DeconvolutionSettings()},
    ],
)
def test_inference_computes_what_training_computes(change, monkeypatch):
    # small parts, so that every block has several of them inside and at the border
    monkeypatch.setattr("napari_swintormer.models.network.block._STRIP_BYTES", 80 * 2 * 21 * 16)
    settings = TINY.model_copy(update=change)
    network, x = make_network(settings), make_input(settings)
    expected = network.train()(x).detach()
    network.eval()
    with torch.inference_mode():
        assert torch.allclose(network(x), expected, atol=1e-5)
    with torch.no_grad():
        single = torch.cat([network(image[None]) for image in x])
    assert torch.allclose(single, expected, atol=1e-5)
    assert expected.shape == (2, 3, *x.shape[2:])
    assert (expected - x).abs().max() > 0.1  # else the agreement would mean nothing


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"attention": "channel"},
        {"attention": "window"},
        {"deconvolution": DeconvolutionSettings()},
    ],
)
def test_every_parameter_learns(change):
    settings = TINY.model_copy(update={"prior_channels": 2} | change)
    network = make_network(settings).train()
    x = make_input(network.settings)
    (network(x) - 0.5).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.abs().max() > 0, name


@torch.no_grad()
def test_prepared_weights_follow_every_change():
    network, other, x = make_network(), Swintormer(TINY).eval(), make_input()
    before = network(x)
    expected = other(x)
    assert not torch.allclose(before, expected, atol=1e-3)

    network.load_state_dict(other.state_dict())
    assert torch.equal(network(x), expected)
    network.load_state_dict(make_network().state_dict(), assign=True)
    assert torch.equal(network(x), before)
    for weight, source in zip(network.parameters(), other.parameters(), strict=True):
        weight.lerp_(source, 1.0)  # as an exponential moving average does
    assert torch.allclose(network(x), expected, atol=1e-6)
    torch._foreach_copy_(list(network.parameters()), list(make_network().parameters()))
    assert torch.equal(network(x), before)
    with torch.inference_mode():
        for weight, source in zip(network.parameters(), other.parameters(), strict=True):
            weight.copy_(source)
        assert torch.equal(network(x), expected)
    for weight, source in zip(network.parameters(), make_network().parameters(), strict=True):
        weight.data.copy_(source)
    assert torch.equal(network.eval()(x), before)
    twin = copy.deepcopy(network)
    for weight in twin.parameters():
        weight.zero_()
    assert torch.equal(twin(x), x)
    assert torch.equal(network(x), before)
    assert torch.allclose(network.double()(x.double()), before, atol=1e-5)


def test_optimizer_step_reaches_inference():
    network, x = make_network(), make_input()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    with torch.no_grad():
        before = network(x)
    network(x).mean().backward()  # never left eval mode
    optimizer.step()
    with torch.no_grad():
        after = network(x)
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.allclose(after, network(x).detach(), atol=1e-5)


@torch.no_grad()
def test_caches_of_sizes_and_precisions_are_separate():
    network = make_network()
    small, wide, tall = make_input(), make_input(columns=3), make_input(rows=2, columns=1)
    expected = [make_network()(x) for x in (small, wide, tall)]
    with torch.autocast("cpu", torch.bfloat16):
        half = network(small)
    for x, result in zip((small, wide, tall), expected, strict=True):
        assert torch.equal(network(x), result)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(small), half)
    assert half.dtype == torch.float32
    assert not torch.equal(half, expected[0])


def test_autocast_is_close_to_fp32():
    torch.manual_seed(0)
    network, x = Swintormer(TINY), make_input()
    sharp = x.roll(1, -1)
    results = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            restored = network.train()(x)
        (restored - sharp).square().mean().backward()
        gradient = torch.cat([weight.grad.flatten() for weight in network.parameters()])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            in_inference = network.eval()(x)
        results.append((restored.detach() - x, in_inference - x, gradient))
    for expected, half in zip(*results, strict=True):
        # a random network magnifies rounding errors; a trained one stays within 0.02
        assert 0 < relative_error(half, expected) < 0.2


@torch.no_grad()
def test_shifted_windows_do_not_attend_across_the_border():
    """Attention over pixels at the right border ignores pixels at the left border."""
    block = Block(TINY, 8, 1, shifted=True).eval()
    block.attention.depthwise.weight.zero_()
    block.attention.depthwise.weight[:, :, 1, 1] = 1  # the convolution and
    block.attention.merge.weight[:, 4:] = 0  # the channels do mix opposite borders
    x = torch.randn(1, 16, 16, 8)
    changed = x.clone()
    changed[:, :, 0] = torch.randn(1, 16, 8)
    difference = (block(changed) - block(x)).abs().amax(dim=(0, 1, 3))
    assert difference[1] > 1e-6
    assert difference[14:].max() == 0


@pytest.mark.parametrize(
    "shape", [(1, 3, 64, 96), (1, 4, 64, 64), (3, 64, 64), (0, 3, 64, 64), (1, 3, 0, 64)]
)
def test_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"multiples of 64 \(got \("):
        Swintormer(TINY)(torch.zeros(shape))


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 10**9},
        {"dim": 7},
        {"dim": 0},
        {"num_blocks": (1, 1, 1, 10**6)},
        {"num_blocks": (1, 1, 1)},
        {"num_heads": (5, 1, 1, 1)},
        {"num_heads": (0, 1, 1, 1)},
        {"window_size": 5},
        {"window_size": 4096},
        {"ffn_expansion": float("inf")},
        {"ffn_expansion": float("nan")},
        {"channels": 0},
        {"views": 10**6},
        {"prior_channels": -1},
        {"num_refinement_blocks": -1},
        {"softmax": "none"},
        {"attention": "none"},
        {"deconvolution": {"disks": (), "gaussians": ()}},
        {"deconvolution": {"disks": (1e6,)}},
        {"deconvolution": {"noise": 0}},
        {"deconvolution": {"gamma": 1}},
        {"deconvolution": {"reach": 10**6}},
        {"deconvolution": {"reach": 40}, "window_size": 2},
        {"surprise": 1},
    ],
)
def test_settings_are_bounded(change):
    with pytest.raises(ValidationError):
        SwintormerSettings(**change)


def test_settings_round_trip():
    settings = SwintormerSettings(
        views=2,
        prior_channels=3,
        dim=16,
        window_size=8,
        deconvolution=DeconvolutionSettings(disks=(2.5,)),
    )
    assert SwintormerSettings.model_validate_json(settings.model_dump_json()) == settings
    assert (settings.in_channels, settings.multiple) == (9, 128)


def test_gradients_pass_through_frozen_weights():
    network, x = make_network(), torch.rand(1, 3, 64, 64)
    found = []
    for trained in (False, True):
        network.requires_grad_(trained)
        given = x.clone().requires_grad_()
        network(given).square().mean().backward()
        found.append(given.grad)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
