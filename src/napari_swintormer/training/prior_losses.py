"""What each stage of a training with prior learns: its parts, its loss, its measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_swintormer.models.noise import Place, PlacedNoise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_swintormer.models.prior import PriorSwintormer

_WITHOUT_PRIOR = 0.1  # share of the patches that the network restores without prior
_LATENT_WEIGHT = 0.05  # of the latent's loss beside that of the restored image


class Stage(NamedTuple):
    """What a stage trains, what it minimises and what it is measured by."""

    parts: tuple[str, ...]  # how the names of the trained parameters begin; () all but `prior.`
    loss: Callable[[Batch], Tensor]
    image: Callable[[Batch], Tensor]  # what validation compares with the sharp image


class Batch(NamedTuple):
    """One batch and all that is random about it."""

    network: PriorSwintormer
    blurred: Tensor
    sharp: Tensor
    seed: int
    step: int

    def noise(self, step: int, like: Tensor) -> Tensor:
        """Give every patch of the training a noise of its own."""
        places = [Place(self.step * len(like) + i, 0, 0) for i in range(len(like))]
        return PlacedNoise(self.seed, places)(step, like)

    def uniform(self, stream: int) -> Tensor:
        """Draw a number in [0, 1) for every patch."""
        rng = np.random.default_rng([self.seed, self.step, stream])
        return torch.from_numpy(rng.random(len(self.blurred))).to(self.blurred.device)

    def sampled(self) -> Tensor:
        """Sample the latent in as many steps as the model is made for."""
        prior = self.network.prior
        steps = prior.settings.num_inference_steps
        return prior.sample_latent(self.blurred, self.noise, steps)

    def restored(self, z: Tensor, kept: Tensor | float = 1.0) -> Tensor:
        """Restore with the latent `z`; `kept` is 0 where the network gets none."""
        prior = self.network.prior.upsample(z) * kept
        restored: Tensor = self.network(torch.cat([self.blurred, prior], dim=1))
        return restored.float()


def _autoencoder_loss(batch: Batch) -> Tensor:
    """Compare images with what their latent tells: the sharp ones, and the blurred ones too."""
    images = torch.cat([batch.sharp, batch.blurred])
    prior = batch.network.prior
    return (prior.decode(prior.encode(images)) - images).abs().mean()


def _denoiser_loss(batch: Batch) -> Tensor:
    """Predict the clean latent from one noised for a random number of steps (eq. 17)."""
    prior = batch.network.prior
    with torch.no_grad():
        clean, blurred = prior.encode(batch.sharp), prior.encode(batch.blurred)
    t = (batch.uniform(1) * prior.settings.start).long()
    z = prior.diffuse(clean, blurred, t, batch.noise(0, clean))
    predicted = prior.denoise(z, t, blurred, prior.see(batch.blurred))
    return (predicted - clean).square().mean()


def _network_loss(batch: Batch) -> Tensor:
    """Restore with what the prior samples, some patches without."""
    with torch.no_grad():
        z = batch.sampled()
    return (batch.restored(z, _kept(batch)) - batch.sharp).abs().mean()


def _joint_loss(batch: Batch) -> Tensor:
    """Restore through the steps of the prior; the latent stays that of the sharp image."""
    with torch.no_grad():
        clean = batch.network.prior.encode(batch.sharp)
    z = batch.sampled()
    restored = (batch.restored(z, _kept(batch)) - batch.sharp).abs().mean()
    return restored + _LATENT_WEIGHT * (z - clean).abs().mean()


def _kept(batch: Batch) -> Tensor:
    return (batch.uniform(2) >= _WITHOUT_PRIOR).float()[:, None, None, None]


STAGES: dict[str, Stage] = {
    "autoencoder": Stage(
        ("prior.encoder.", "prior.decoder."),
        _autoencoder_loss,
        lambda batch: batch.network.prior.decode(batch.network.prior.encode(batch.sharp)),
    ),
    "denoiser": Stage(
        ("prior.blurred_encoder.", "prior.denoiser."),
        _denoiser_loss,
        lambda batch: batch.network.prior.decode(batch.sampled()),
    ),
    "network": Stage(
        ("prior.upsampling.",),
        _network_loss,
        lambda batch: batch.restored(batch.sampled()),
    ),
    "joint": Stage(
        ("prior.upsampling.", "prior.blurred_encoder.", "prior.denoiser."),
        _joint_loss,
        lambda batch: batch.restored(batch.sampled()),
    ),
}
