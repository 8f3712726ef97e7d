"""What each stage of a training with prior learns: its parts, its loss, its measure."""

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
_FROM_START = 0.5  # share of the patches that the denoiser learns to begin with
_DENOISER_WEIGHT = 0.1  # of the denoiser's own loss beside that of the restored image


def _sampled(batch: Batch, features: BlurredFeatures | None = None) -> Tensor:
    """Sample the prior in as many steps as the model is made for."""
    prior = batch.network.prior
    if features is None:
        features = prior.forward_features(batch.blurred)
    steps = prior.settings.num_inference_steps
    sampled: Tensor = run_to_end(prior.sampling(features, batch.noise, steps))
    return sampled


def _restored(batch: Batch, prior: Tensor) -> Tensor:
    restored: Tensor = batch.network(torch.cat([batch.blurred, prior], dim=1))
    return restored.float()


def _autoencoder_loss(batch: Batch) -> Tensor:
    """Compare what the blurred patches miss with what its latent tells."""
    return (batch.blurred + _decoded(batch) - batch.sharp).abs().mean()


def _denoiser_loss(batch: Batch) -> Tensor:
    return _denoising_loss(batch, batch.network.prior.forward_features(batch.blurred))


def _denoising_loss(batch: Batch, features: BlurredFeatures) -> Tensor:
    """Predict the clean latent from one noised for a random number of steps (eq. 17).

    What is missing is compared in the image. Half of the patches are noised to where sampling
    starts: most is to be learned there, of a latent that tells nothing any more.
    """
    missing, prior = batch.sharp - batch.blurred, batch.network.prior
    with torch.no_grad():
        clean = prior.encode(missing)
    share = batch.uniform(1) / (1 - _FROM_START)
    t = (share * prior.settings.start).long().clamp_max(prior.settings.start - 1)
    z = prior.diffuse(clean, t, batch.noise(0, clean))
    predicted: Tensor = prior.decode(prior.denoise(z, t, features))
    return decibel(predicted, missing)


def _network_loss(batch: Batch) -> Tensor:
    """Restore with what the prior samples, some patches without."""
    with torch.no_grad():
        prior = _sampled(batch)
    return decibel(_restored(batch, prior * _kept(batch)), batch.sharp)


def _joint_loss(batch: Batch) -> Tensor:
    """Restore through the steps of the prior; the denoiser stays one for all steps."""
    features = batch.network.prior.forward_features(batch.blurred)
    prior = _sampled(batch, features)
    restored = decibel(_restored(batch, prior * _kept(batch)), batch.sharp)
    return restored + _DENOISER_WEIGHT * _denoising_loss(batch, features)


def _kept(batch: Batch) -> Tensor:
    return (batch.uniform(2) >= _WITHOUT_PRIOR).float()[:, None, None, None]


def _measure_latent(network: PriorSwintormer, blurred: Tensor, sharp: Tensor) -> None:
    """Bring the latent of what some patches miss to a root mean square of 1."""
    prior = network.prior
    with torch.no_grad():
        latents = prior.encode((sharp - blurred).to(prior.scale.device))
        prior.scale *= latents.square().mean(dim=(0, 2, 3)).sqrt().clamp_min(1e-6)


def _trains(*parts: str, network: bool = False) -> Callable[[str], bool]:
    """Train these parts of the prior, and the network beside it or not."""
    begins = tuple(f"prior.{part}." for part in parts)
    return lambda name: name.startswith(begins) or (network and not name.startswith("prior."))


def _decoded(batch: Batch) -> Tensor:
    """Tell what the blurred patches miss, as far as the latent does."""
    prior = batch.network.prior
    decoded: Tensor = prior.decode(prior.encode(batch.sharp - batch.blurred))
    return decoded


def _restored_with_prior(batch: Batch) -> Tensor:
    return _restored(batch, _sampled(batch))


STAGES = {
    "autoencoder": Stage(
        _trains("encoder", "decoder"),
        _autoencoder_loss,
        lambda batch: batch.blurred + _decoded(batch),
        _measure_latent,
    ),
    "denoiser": Stage(
        _trains("blurred_encoder", "denoiser"),
        _denoiser_loss,
        lambda batch: batch.blurred + _sampled(batch),
    ),
    "network": Stage(_trains(network=True), _network_loss, _restored_with_prior),
    "joint": Stage(
        _trains("blurred_encoder", "denoiser", network=True), _joint_loss, _restored_with_prior
    ),
}
