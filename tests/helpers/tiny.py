"""The smallest network that is still a Swintormer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.models.network.network_settings import (
    DeconvolutionSettings,
    SwintormerSettings,
)
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings

if TYPE_CHECKING:
    from torch import Tensor

    from napari_swintormer.models.network.swintormer import Swintormer
    from napari_swintormer.models.prior.noise import TileOrigin
    from napari_swintormer.models.prior.sampling import NoiseSource, Prior
    from napari_swintormer.models.restorer import Restorer


def tiny_card(channels: int = 3, **changes: object) -> ModelCard:
    """Describe the smallest network: multiple 32, 70 000 parameters."""
    network = SwintormerSettings(
        channels=channels,
        dim=4,
        num_blocks=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
        num_refinement_blocks=1,
        window_size=2,
    )
    card = ModelCard(name="tiny", title="Tiny", network=network, tile_size=64, overlap=16)
    return card.model_copy(update=changes)


FINDING_NETWORK = tiny_card().network.model_copy(
    update={"known_blur": True, "deconvolution": DeconvolutionSettings()}
)
"""A network that is told the blur, or finds it."""


def tiny_prior_card(**changes: object) -> ModelCard:
    """Describe the smallest network with the smallest compact prior."""
    card = tiny_card()
    network = card.network.model_copy(update={"prior_channels": 3})
    sizes = {"latent_channels": 3, "denoiser_blocks": 1, "num_inference_steps": 4}
    prior = CompactPriorSettings(**{"encoder": card.network} | sizes | changes)
    return card.model_copy(update={"network": network, "prior": prior})


TINY_NETWORK = SwintormerSettings(
    dim=4,
    num_blocks=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
    num_refinement_blocks=0,
    window_size=2,
)


def random_network(card: ModelCard) -> Swintormer:
    """A network whose prior is far from where training starts: its noise is seen in the result."""
    import torch

    from napari_swintormer.models.prior.compact import build_network

    torch.manual_seed(1)
    network = build_network(card.network, card.prior)
    for layer in (network.prior.denoiser.embed, network.prior.denoiser.out):
        torch.nn.init.normal_(layer.weight, std=0.3)
    torch.nn.init.normal_(network.output.weight, std=0.02)
    return network


def sample_prior(prior: Prior, images: Tensor, noise: NoiseSource, steps: int) -> Tensor:
    """Run a whole sampling of a prior."""
    from napari_swintormer.models.stepwise import run_to_end

    return run_to_end(prior.sampling(prior.forward_features(images), noise, steps))


def sample_tiles(restorer: Restorer, tiles: Tensor, origins: list[TileOrigin]) -> Tensor:
    """Sample the prior of tiles as a restorer does."""
    from napari_swintormer.models.stepwise import run_to_end

    features = restorer._prior_features(tiles, origins)
    return run_to_end(restorer._sample(features, origins))
