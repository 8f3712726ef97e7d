"""What a training makes small, what of the model it changes, and what it is measured by."""

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

# Where the names of the parameters that are trained begin.
_PREFIXES = {
    "all": ("",),
    "decoder": ("up.", "reduce.", "decoder.", "refinement.", "skip.", "output."),
    "output": ("output.",),
    "deconvolution": ("deconvolution.",),
}


class Stage(NamedTuple):
    """One way of training a model.

    Attributes
    ----------
    trains
        Whether the parameter of this name is trained.
    loss
        What is made small, the mean over the patches of a batch.
    image
        What validation compares with the sharp image.
    finish
        What is done to a copy of the model before its weights are written, given some blurred
        patches and the sharp ones; None for nothing.
    """

    trains: Callable[[str], bool]
    loss: Callable[[Batch], Tensor]
    image: Callable[[Batch], Tensor]
    finish: Callable[[Any, Tensor, Tensor], None] | None = None


class Batch(NamedTuple):
    """Patches of one step, all or some of them, and all that is random about them.

    Attributes
    ----------
    network
        What is trained.
    blurred, sharp
        ``(B, C, H, W)`` in unit intensities.
    seed, step
        Of the noise.
    first, total
        Number of the first of these patches, and of how many in the step; None where they are all.
    """

    network: Any
    blurred: Tensor
    sharp: Tensor
    seed: int
    step: int
    first: int = 0
    total: int | None = None

    def noise(self, step: int, like: Tensor) -> Tensor:
        """Give every patch of the training a noise of its own."""
        begin = self.step * (self.total or len(like)) + self.first
        origins = [TileOrigin(begin + i, 0, 0) for i in range(len(like))]
        return TileNoise(self.seed, origins)(step, like)

    def uniform(self, stream: int) -> Tensor:
        """Draw a number in [0, 1) for every patch."""
        n = len(self.blurred)
        numbers = np.random.default_rng([self.seed, self.step, stream]).random(self.total or n)
        return torch.from_numpy(numbers[self.first : self.first + n]).to(self.blurred.device)


def network_stage(settings: TrainSettings) -> Stage:
    """Training of a network without prior."""
    loss = make_loss(settings.loss, settings.vgg19)
    prefixes = _PREFIXES[settings.parameters]

    def image(batch: Batch) -> Tensor:
        restored: Tensor = batch.network(batch.blurred)
        return restored.float()

    def deconvolved(batch: Batch) -> Tensor:
        restored: Tensor = batch.blurred + batch.network.deconvolution(batch.blurred)
        return restored

    def loss_in_grey(batch: Batch) -> Tensor:
        # which filters are taken does not depend on the colours
        blurred, sharp = (half.mean(dim=1, keepdim=True) for half in (batch.blurred, batch.sharp))
        return loss(deconvolved(batch._replace(blurred=blurred)), sharp)

    alone = settings.parameters == "deconvolution"
    return Stage(
        trains=lambda name: name.startswith(prefixes),
        loss=loss_in_grey if alone else lambda batch: loss(image(batch), batch.sharp),
        image=deconvolved if alone else image,
    )


def trained_parameters(network: Swintormer, stage: Stage) -> list[Tensor]:
    """Give the parameters that a stage trains, and freeze all others."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(stage.trains(name))
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
