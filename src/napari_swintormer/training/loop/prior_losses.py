"""The stages of a training with prior: their parameters, losses and validation images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_swintormer.models.stepwise import run_to_end
from napari_swintormer.training.loop.losses import decibel
from napari_swintormer.training.loop.stage import Batch, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_swintormer.models.prior.compact import BlurredFeatures, PriorSwintormer

_WITHOUT_PRIOR = 0.05  # share of the patches that the network restores without prior
_AT_START = 0.5  # share of the patches that are noised to where sampling starts
_DENOISER_WEIGHT = 0.1  # weight of the denoiser's loss in the stage "joint"


def _sample(batch: Batch, features: BlurredFeatures | None = None) -> Tensor:
    """Sample the prior in the number of steps that the model is made for."""
    prior = batch.network.prior
    if features is None:
        features = prior.forward_features(batch.blurred)
    steps = prior.settings.num_inference_steps
    sampled: Tensor = run_to_end(prior.sampling(features, batch.noise, steps))
    return sampled


def _restore(batch: Batch, prior: Tensor) -> Tensor:
    restored: Tensor = batch.network(torch.cat([batch.blurred, prior], dim=1))
    return restored.float()


def _autoencode(batch: Batch) -> Tensor:
    """Add to the blurred patches their residual after encoding and decoding."""
    prior = batch.network.prior
    decoded: Tensor = prior.decode(prior.encode(batch.sharp - batch.blurred))
    return batch.blurred + decoded


def _autoencoder_loss(batch: Batch) -> Tensor:
    return (_autoencode(batch) - batch.sharp).abs().mean()


def _denoiser_loss(batch: Batch) -> Tensor:
    return _denoising_loss(batch, batch.network.prior.forward_features(batch.blurred))


def _denoising_loss(batch: Batch, features: BlurredFeatures) -> Tensor:
    """Predict the clean latent after a random number of noising steps (eq. 17).

    The loss compares the decoded residual. Half of the patches are noised to where sampling
    starts, because there is most to learn.
    """
    residual, prior = batch.sharp - batch.blurred, batch.network.prior
    with torch.no_grad():
        clean = prior.encode(residual)
    share = batch.uniform(1) / (1 - _AT_START)
    t = (share * prior.settings.start).long().clamp_max(prior.settings.start - 1)
    z = prior.diffuse(clean, t, batch.noise(0, clean))
    predicted: Tensor = prior.decode(prior.denoise(z, t, features))
    return decibel(predicted, residual)


def _network_loss(batch: Batch) -> Tensor:
    """Restore with a sampled prior that is not trained."""
    with torch.no_grad():
        prior = _sample(batch)
    return decibel(_restore(batch, _drop_some(batch, prior)), batch.sharp)


def _joint_loss(batch: Batch) -> Tensor:
    """Restore through all steps of the prior; the denoiser keeps a part of its own loss."""
    features = batch.network.prior.forward_features(batch.blurred)
    prior = _drop_some(batch, _sample(batch, features))
    restored = decibel(_restore(batch, prior), batch.sharp)
    return restored + _DENOISER_WEIGHT * _denoising_loss(batch, features)


def _drop_some(batch: Batch, prior: Tensor) -> Tensor:
    """Set the prior of some patches to zero, so that the network works without prior, too."""
    return prior * (batch.uniform(2) >= _WITHOUT_PRIOR).float()[:, None, None, None]


def _normalize_latent(network: PriorSwintormer, blurred: Tensor, sharp: Tensor) -> None:
    """Scale the latent of the residuals of some patches to a root mean square of 1."""
    prior = network.prior
    with torch.no_grad():
        latents = prior.encode((sharp - blurred).to(prior.scale.device))
        prior.scale *= latents.square().mean(dim=(0, 2, 3)).sqrt().clamp_min(1e-6)


def _trains(*parts: str, network: bool = False) -> Callable[[str], bool]:
    """Make a function that tells whether a parameter of this name is trained."""
    prefixes = tuple(f"prior.{part}." for part in parts)
    return lambda name: name.startswith(prefixes) or (network and not name.startswith("prior."))


def _restore_with_prior(batch: Batch) -> Tensor:
    return _restore(batch, _sample(batch))


STAGES = {
    "autoencoder": Stage(
        _trains("encoder", "decoder"), _autoencoder_loss, _autoencode, _normalize_latent
    ),
    "denoiser": Stage(
        _trains("blurred_encoder", "denoiser"),
        _denoiser_loss,
        lambda batch: batch.blurred + _sample(batch),
    ),
    "network": Stage(_trains(network=True), _network_loss, _restore_with_prior),
    "joint": Stage(
        _trains("blurred_encoder", "denoiser", network=True), _joint_loss, _restore_with_prior
    ),
}
