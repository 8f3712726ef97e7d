"""Weights of the released code: names, sizes, and messages about wrong files."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_swintormer.errors import WeightsError
from napari_swintormer.models.files.released import convert_released, released_name
from napari_swintormer.models.network.network_settings import SwintormerSettings
from napari_swintormer.models.network.swintormer import Swintormer

SETTINGS = SwintormerSettings(
    views=2,
    dim=8,
    num_blocks=(2, 1, 1, 3),
    num_heads=(1, 1, 2, 4),
    num_refinement_blocks=1,
    ffn_expansion=2.66,
    window_size=4,
    softmax="released",
)


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """Weights with the names and shapes of the released code."""
    torch.manual_seed(0)
    weights = {}
    for name, weight in Swintormer(SETTINGS).state_dict().items():
        if name.endswith("logit_scale"):
            weight = weight[:, None, None]
        elif weight.ndim == 2 and "position_bias" not in name:
            weight = weight[:, :, None, None]
        weights[released_name(name)] = weight
    return weights


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"params": weights},
        lambda weights: {"params_ema": weights, "params": {}},
    ],
    ids=["bare", "params", "params_ema"],
)
def test_round_trip(released, wrap):
    settings, state = convert_released(wrap(released), window_size=4)
    assert settings == SETTINGS
    network = Swintormer(settings)
    network.load_state_dict(state)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight.flatten(), released[released_name(name)].flatten()), name


def test_paper_sizes_are_inferred():
    paper = SwintormerSettings(views=2, softmax="released")
    with torch.device("meta"):
        state = Swintormer(paper).state_dict()
    settings, _ = convert_released({released_name(name): w for name, w in state.items()})
    assert settings == paper


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"latent.1.attn.qkv.weight": None}, "no key 'latent.1.attn.qkv.weight'"),
        ({"output.0.weight": None}, "no key 'output.0.weight'"),
        ({"output.0.bias": torch.zeros(12)}, "unexpected key 'output.0.bias'"),
        ({"latent.99.ffn": torch.zeros(1)}, "num_blocks"),
        ({"latent.0.attn.logit_scale": torch.zeros(5, 1, 1)}, "num_heads=5"),
        ({"skip_conv.weight": torch.zeros(7, 8, 1, 1)}, r"\(7, 8, 1, 1\) at key 'skip_conv"),
        ({"latent.0.ffn.project_out.weight": torch.zeros(64, 9, 1, 1)}, "feed-forward widths"),
        ({"output.0.weight": torch.zeros(())}, r"shape \(\) at key 'output.0.weight'"),
        ({"iter": 5}, "no tensor at key 'iter'"),
    ],
)
def test_wrong_weights_are_named(released, change, said):
    weights = {k: w for k, w in (released | change).items() if w is not None}
    with pytest.raises(WeightsError, match=said) as caught:
        convert_released(weights, "net_g.pth", window_size=4)
    assert str(caught.value).startswith("net_g.pth ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, [], {}, {"params": 3}, torch.zeros(2)])
def test_no_state_dict(content):
    with pytest.raises(WeightsError, match="no state dict"):
        convert_released(content)
