"""Stages of training: which parameters are trained, with which loss, and how they are validated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.prior.noise import TileNoise, TileOrigin
from napari_swintormer.models.stepwise import run_to_end
from napari_swintormer.models.transfer import send
from napari_swintormer.training.loop.losses import decibel, make_loss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.models.prior.compact import BlurredFeatures, PriorSwintormer
    from napari_swintormer.training.train_settings import TrainSettings

# Parameters that are trained: how their names begin.
_PREFIXES = {
    "all": ("",),
    "decoder": ("up.", "reduce.", "decoder.", "refinement.", "skip.", "output."),
    "output": ("output.",),
    "deconvolution": ("deconvolution.",),
}
SECOND = "unclear."
"""Begin of the names of the parameters of a second network."""
_WITHOUT_PRIOR = 0.05  # share of the patches that the network restores without prior
_AT_START = 0.5  # share of the patches that are noised to where sampling starts
_DENOISER_WEIGHT = 0.1  # weight of the denoiser's loss in the stage "joint"


class Stage(NamedTuple):
    """One way of training a model."""

    trains: Callable[[str], bool]  # tells by its name whether a parameter is trained
    loss: Callable[[Batch], Tensor]  # mean over the patches of a batch
    # What validation compares with the sharp image; None for a stage that makes no image.
    image: Callable[[Batch], Tensor] | None
    # Changes a copy of the model before its weights are written, by some blurred patches and the
    # sharp ones.
    finish: Callable[[Any, Tensor, Tensor], None] | None = None
    # Writes what is trained to a file; None for the weights file of a model.
    write: Callable[[Path, Any], None] | None = None


class Batch(NamedTuple):
    """Some or all patches of one step, and their random numbers."""

    network: Any
    blurred: Tensor  # (B, C, H, W) in unit intensities
    sharp: Tensor
    seed: int
    step: int
    first: int = 0  # number of the first patch in the step
    total: int | None = None  # number of all patches of the step; None for those at hand

    @property
    def inputs(self) -> Tensor:
        """The blurred patches, and all that the network sees beside a prior."""
        known: bool = self.network.settings.known_blur
        return self.network.filled(self.blurred) if known else self.blurred

    def noise(self, step: int, like: Tensor) -> Tensor:
        """Draw the noise of a sampling step; every patch of the training has its own."""
        begin = self.step * (self.total or len(like)) + self.first
        origins = [TileOrigin(begin + i, 0, 0) for i in range(len(like))]
        return TileNoise(self.seed, origins)(step, like)

    def uniform(self, stream: int) -> Tensor:
        """Draw a number in [0, 1) for every patch; each `stream` has other numbers.

        They are float64 and stay on the CPU: some devices have no float64.
        """
        n = len(self.blurred)
        numbers = np.random.default_rng([self.seed, self.step, stream]).random(self.total or n)
        return torch.from_numpy(numbers[self.first : self.first + n])


def network_stage(settings: TrainSettings, network: SwintormerSettings) -> Stage:
    """Make the stage of a network without prior.

    Of two networks it trains the one for the blur at hand, and the other one is kept.
    """
    stage = _network_stage(settings)
    if network.unclear and not settings.tells_blur:
        return _of_second(stage)
    return stage


def _of_second(stage: Stage) -> Stage:
    """Let a stage train the second network, for unclear blur."""
    image = stage.image
    assert image is not None

    def second(batch: Batch) -> Batch:
        return batch._replace(network=batch.network.for_unclear)

    return stage._replace(
        trains=lambda name: name.startswith(SECOND) and stage.trains(name.removeprefix(SECOND)),
        loss=lambda batch: stage.loss(second(batch)),
        image=lambda batch: image(second(batch)),
    )


def _network_stage(settings: TrainSettings) -> Stage:
    """Make the stage of one network."""
    loss = make_loss(settings.loss, settings.vgg19)
    prefixes = _PREFIXES[settings.parameters]

    def restored(batch: Batch) -> Tensor:
        image: Tensor = batch.network(batch.inputs)
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
        trains=lambda name: name.startswith(prefixes) and not name.startswith(SECOND),
        loss=loss_in_grey if alone else lambda batch: loss(restored(batch), batch.sharp),
        image=deconvolved if alone else restored,
    )


def trained_parameters(network: nn.Module, stage: Stage) -> list[Tensor]:
    """Return the parameters that a stage trains, and freeze all others."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(stage.trains(name))
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


class _Seen(NamedTuple):
    """What a prior reads of a batch, and what it is to sample."""

    inputs: Tensor  # of the network, without the prior
    begin: Tensor  # the images that the network continues from
    residual: Tensor  # sharp minus these
    features: BlurredFeatures


def _seen(batch: Batch) -> _Seen:
    inputs = batch.inputs
    begin = batch.network.begins_with(inputs)
    features = batch.network.prior.forward_features(begin)
    return _Seen(inputs, begin, batch.sharp - begin, features)


def _sample(batch: Batch, features: BlurredFeatures) -> Tensor:
    """Sample the prior in the number of steps that the model is made for."""
    prior = batch.network.prior
    steps = prior.settings.num_inference_steps
    sampled: Tensor = run_to_end(prior.sampling(features, batch.noise, steps))
    return sampled


def _restore(batch: Batch, inputs: Tensor, prior: Tensor) -> Tensor:
    restored: Tensor = batch.network(torch.cat([inputs, prior], dim=1))
    return restored.float()


def _autoencode(batch: Batch) -> Tensor:
    """Add to the images of a batch their residual after encoding and decoding."""
    prior = batch.network.prior
    begin: Tensor = batch.network.begins_with(batch.inputs)
    decoded: Tensor = prior.decode(prior.encode(batch.sharp - begin))
    return begin + decoded


def _denoising_loss(batch: Batch, seen: _Seen | None = None) -> Tensor:
    """Predict the clean latent after a random number of noising steps (eq. 17).

    The loss compares the decoded residual. Half of the patches are noised to where sampling
    starts, because there is most to learn.
    """
    prior, seen = batch.network.prior, seen or _seen(batch)
    with torch.no_grad():
        clean = prior.encode(seen.residual)
    share = batch.uniform(1) / (1 - _AT_START)
    t = (share * prior.settings.start).long().clamp_max(prior.settings.start - 1)
    z = prior.diffuse(clean, t, batch.noise(0, clean))
    predicted: Tensor = prior.decode(prior.denoise(z, t, seen.features))
    return decibel(predicted, seen.residual)


def _network_loss(batch: Batch) -> Tensor:
    """Restore with a sampled prior that is not trained."""
    with torch.no_grad():
        seen = _seen(batch)
        prior = _sample(batch, seen.features)
    return decibel(_restore(batch, seen.inputs, _drop_some(batch, prior)), batch.sharp)


def _joint_loss(batch: Batch) -> Tensor:
    """Restore through all steps of the prior; the denoiser keeps a part of its own loss."""
    seen = _seen(batch)
    prior = _drop_some(batch, _sample(batch, seen.features))
    restored = decibel(_restore(batch, seen.inputs, prior), batch.sharp)
    return restored + _DENOISER_WEIGHT * _denoising_loss(batch, seen)


def _drop_some(batch: Batch, prior: Tensor) -> Tensor:
    """Set the prior of some patches to zero, so that the network works without prior, too."""
    kept = send((batch.uniform(2) >= _WITHOUT_PRIOR).float(), prior.device)
    return prior * kept[:, None, None, None]


def _normalize_latent(network: PriorSwintormer, blurred: Tensor, sharp: Tensor) -> None:
    """Scale the latent of the residuals of some patches to a root mean square of 1."""
    prior = network.prior
    with torch.no_grad():
        begin = network.begins_with(blurred)
        latents = prior.encode((sharp - begin).to(prior.scale.device))
        prior.scale *= latents.square().mean(dim=(0, 2, 3)).sqrt().clamp_min(1e-6)


def _trains(*parts: str, network: bool = False) -> Callable[[str], bool]:
    """Make a function that tells whether a parameter of this name is trained."""
    prefixes = tuple(f"prior.{part}." for part in parts)
    return lambda name: name.startswith(prefixes) or (network and not name.startswith("prior."))


def _restore_with_prior(batch: Batch) -> Tensor:
    seen = _seen(batch)
    return _restore(batch, seen.inputs, _sample(batch, seen.features))


def _begin_and_sample(batch: Batch) -> Tensor:
    seen = _seen(batch)
    return seen.begin + _sample(batch, seen.features)


PRIOR_STAGES = {
    "autoencoder": Stage(
        _trains("encoder", "decoder"),
        lambda batch: (_autoencode(batch) - batch.sharp).abs().mean(),
        _autoencode,
        _normalize_latent,
    ),
    "denoiser": Stage(_trains("blurred_encoder", "denoiser"), _denoising_loss, _begin_and_sample),
    "network": Stage(_trains(network=True), _network_loss, _restore_with_prior),
    "joint": Stage(
        _trains("blurred_encoder", "denoiser", network=True), _joint_loss, _restore_with_prior
    ),
}


def prior_stage(name: str, network: SwintormerSettings) -> Stage:
    """Return a stage of a training with prior.

    A network for a known blur is not trained with its prior: without prior, where blur is not wide,
    it must give what it gave.
    """
    if network.known_blur and name == "network":
        raise TrainingError(
            "The network of a model for a known blur does not learn with its prior (got "
            "stage='network'). Use stage='joint', which trains the prior through the network."
        )
    stage = PRIOR_STAGES[name]
    if network.known_blur and name == "joint":
        return stage._replace(trains=_trains("blurred_encoder", "denoiser"))
    return stage
