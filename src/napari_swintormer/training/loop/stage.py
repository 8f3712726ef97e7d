"""Stages of training: which parameters are trained, with which loss, and how they are validated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from napari_swintormer.models.prior.noise import TileNoise, TileOrigin
from napari_swintormer.training.loop.losses import make_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_swintormer.models.network.swintormer import Swintormer
    from napari_swintormer.training.train_settings import TrainSettings

# Parameters that are trained: how their names begin.
_PREFIXES = {
    "all": ("",),
    "decoder": ("up.", "reduce.", "decoder.", "refinement.", "skip.", "output."),
    "output": ("output.",),
    "deconvolution": ("deconvolution.",),
}


class Stage(NamedTuple):
    """One way of training a model."""

    trains: Callable[[str], bool]  # tells by its name whether a parameter is trained
    loss: Callable[[Batch], Tensor]  # mean over the patches of a batch
    image: Callable[[Batch], Tensor]  # what validation compares with the sharp image
    # Changes a copy of the model before its weights are written, by some blurred patches and the
    # sharp ones.
    finish: Callable[[Any, Tensor, Tensor], None] | None = None


class Batch(NamedTuple):
    """Some or all patches of one step, and their random numbers."""

    network: Any
    blurred: Tensor  # (B, C, H, W) in unit intensities
    sharp: Tensor
    seed: int
    step: int
    first: int = 0  # number of the first patch in the step
    total: int | None = None  # number of all patches of the step; None for those at hand

    def noise(self, step: int, like: Tensor) -> Tensor:
        """Draw the noise of a sampling step; every patch of the training has its own."""
        begin = self.step * (self.total or len(like)) + self.first
        origins = [TileOrigin(begin + i, 0, 0) for i in range(len(like))]
        return TileNoise(self.seed, origins)(step, like)

    def uniform(self, stream: int) -> Tensor:
        """Draw a number in [0, 1) for every patch; each `stream` has other numbers."""
        n = len(self.blurred)
        numbers = np.random.default_rng([self.seed, self.step, stream]).random(self.total or n)
        return torch.from_numpy(numbers[self.first : self.first + n]).to(self.blurred.device)


def network_stage(settings: TrainSettings) -> Stage:
    """Make the stage of a network without prior."""
    loss = make_loss(settings.loss, settings.vgg19)
    prefixes = _PREFIXES[settings.parameters]

    def restored(batch: Batch) -> Tensor:
        image: Tensor = batch.network(batch.blurred)
        return image.float()

    def deconvolved(batch: Batch) -> Tensor:
        image: Tensor = batch.blurred + batch.network.deconvolution(batch.blurred)
        return image

    def loss_in_grey(batch: Batch) -> Tensor:
        # the deconvolution chooses its filters by the grey image
        blurred, sharp = (half.mean(dim=1, keepdim=True) for half in (batch.blurred, batch.sharp))
        return loss(deconvolved(batch._replace(blurred=blurred)), sharp)

    alone = settings.parameters == "deconvolution"
    return Stage(
        trains=lambda name: name.startswith(prefixes),
        loss=loss_in_grey if alone else lambda batch: loss(restored(batch), batch.sharp),
        image=deconvolved if alone else restored,
    )


def trained_parameters(network: Swintormer, stage: Stage) -> list[Tensor]:
    """Return the parameters that a stage trains, and freeze all others."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(stage.trains(name))
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
