"""What each stage of a training with prior learns: its parts, its loss, its measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_swintormer.training.stage import Batch, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_swintormer.models.prior import PriorSwintormer

_WITHOUT_PRIOR = 0.1  # share of the patches that the network restores without prior
_LATENT_WEIGHT = 0.05  # of the latent's loss beside that of the restored image


def sampled(batch: Batch) -> Tensor:
    """Sample the latent in as many steps as the model is made for."""
    prior = batch.network.prior
    latent: Tensor = prior.sample_latent(
        batch.blurred, batch.noise, prior.settings.num_inference_steps
    )
    return latent


def _restored(batch: Batch, z: Tensor, kept: Tensor | float = 1.0) -> Tensor:
    """Restore with the latent `z`; `kept` is 0 where the network gets none."""
    prior = batch.network.prior.upsample(z) * kept
    restored: Tensor = batch.network(torch.cat([batch.blurred, prior], dim=1))
    return restored.float()


def _autoencoder_loss(batch: Batch) -> Tensor:
    """Compare images with what their latent tells: the sharp ones, and the blurred ones too."""
    images = torch.cat([batch.sharp, batch.blurred])
    prior = batch.network.prior
    decoded: Tensor = prior.decode(prior.encode(images))
    return (decoded - images).abs().mean()


def _denoiser_loss(batch: Batch) -> Tensor:
    """Predict the clean latent from one noised for a random number of steps (eq. 17)."""
    prior = batch.network.prior
    with torch.no_grad():
        clean, blurred = prior.encode(batch.sharp), prior.encode(batch.blurred)
    t = (batch.uniform(1) * prior.settings.start).long()
    z = prior.diffuse(clean, blurred, t, batch.noise(0, clean))
    predicted: Tensor = prior.denoise(z, t, blurred, prior.see(batch.blurred))
    loss: Tensor = (predicted - clean).square().mean()
    return loss


def _network_loss(batch: Batch) -> Tensor:
    """Restore with what the prior samples, some patches without."""
    with torch.no_grad():
        z = sampled(batch)
    return (_restored(batch, z, _kept(batch)) - batch.sharp).abs().mean()


def _joint_loss(batch: Batch) -> Tensor:
    """Restore through the steps of the prior; the latent stays that of the sharp image."""
    with torch.no_grad():
        clean: Tensor = batch.network.prior.encode(batch.sharp)
    z = sampled(batch)
    restored = (_restored(batch, z, _kept(batch)) - batch.sharp).abs().mean()
    return restored + _LATENT_WEIGHT * (z - clean).abs().mean()


def _kept(batch: Batch) -> Tensor:
    return (batch.uniform(2) >= _WITHOUT_PRIOR).float()[:, None, None, None]


def _measure_latent(network: PriorSwintormer, sharp: Tensor) -> None:
    """Bring the latent of sharp patches to mean 0 and deviation 1."""
    prior = network.prior
    with torch.no_grad():
        latents = prior.encode(sharp.to(prior.shift.device))
        deviation, mean = torch.std_mean(latents, dim=(0, 2, 3))
        prior.shift += mean * prior.scale
        prior.scale *= deviation.clamp_min(1e-6)


def _trains(*parts: str, network: bool = False) -> Callable[[str], bool]:
    """Train these parts of the prior, and the network beside it or not."""
    begins = tuple(f"prior.{part}." for part in parts)
    return lambda name: name.startswith(begins) or (network and not name.startswith("prior."))


STAGES = {
    "autoencoder": Stage(
        _trains("encoder", "decoder"),
        _autoencoder_loss,
        lambda batch: batch.network.prior.decode(batch.network.prior.encode(batch.sharp)),
        _measure_latent,
    ),
    "denoiser": Stage(
        _trains("blurred_encoder", "denoiser"),
        _denoiser_loss,
        lambda batch: batch.network.prior.decode(sampled(batch)),
    ),
    "network": Stage(
        _trains("upsampling", network=True),
        _network_loss,
        lambda batch: _restored(batch, sampled(batch)),
    ),
    "joint": Stage(
        _trains("upsampling", "blurred_encoder", "denoiser", network=True),
        _joint_loss,
        lambda batch: _restored(batch, sampled(batch)),
    ),
}
