"""A training with the paper's prior, in its stages.

1. ``denoiser``: the latent denoiser learns the noise in the latent of the sharp image, given the
   blurred one (eq. 17). The autoencoder is frozen.
2. ``network``: the prior of every training image is sampled once, then the network learns to
   restore the image with it.

``prior`` runs both. Restoring samples the prior of every tile, and fuses windows at every step.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.catalogue import find_model
from napari_swintormer.models.files.card import ModelCard, card_name
from napari_swintormer.models.files.weights import read_card
from napari_swintormer.models.prior.autoencoder import load_encoder
from napari_swintormer.models.prior.ldm import NOTHING, load_prior, save_denoiser
from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
from napari_swintormer.models.transfer import send
from napari_swintormer.training.loop.initial_model import start_model
from napari_swintormer.training.loop.prior_sampling import MULTIPLE
from napari_swintormer.training.loop.stage import Stage, network_stage
from napari_swintormer.training.train_presets import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.models.prior.ldm import LdmPrior
    from napari_swintormer.training.loop.stage import Batch
    from napari_swintormer.training.train_settings import TrainSettings

_DENOISER_SHARE = 0.25  # of the steps of the stage "prior"
_FINE_TUNING = 0.1  # factor on the learning rate of a denoiser that is trained already
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DENOISER = "denoiser.safetensors"  # in the run folder of the stage "prior"


def stages_of_ldm(settings: TrainSettings) -> list[TrainSettings]:
    """Divide a training of the stage ``"prior"`` into its two stages.

    The denoiser of the first one lies in the run folder; the second one writes the weights file
    that the settings name. The denoiser learns from patches as large as the windows that it will
    see, at most.
    """
    steps = max(1, round(_DENOISER_SHARE * settings.steps))
    file = settings.run_folder / DENOISER
    trained = _source(settings, _prior_settings(settings)) != NOTHING
    first: dict[str, Any] = {
        "stage": "denoiser",
        "steps": steps,
        "warmup": min(settings.warmup, steps),
        "learning_rate": settings.learning_rate * (_FINE_TUNING if trained else 1),
        "patch_size": min(settings.patch_size, _prior_settings(settings).window),
        "larger_patches": (),
        "loss": "l1",
        "from_model": None,
        "network": None,
        "prior": _prior_settings(settings),
        "out": file,
    }
    second: dict[str, Any] = {
        "stage": "network",
        "steps": max(1, settings.steps - steps),
        "prior_source": str(file),
    }
    return [dataclasses.replace(settings, **changes) for changes in (first, second)]


def load_prior_of(settings: TrainSettings) -> LdmPrior:
    """Load the prior that a stage begins with, if the stage is possible at all."""
    given = _prior_settings(settings)
    source = _source(settings, given)
    (_check_denoiser if settings.stage == "denoiser" else _check_network)(settings, source)
    return load_prior(source, given)


def load_encoder_of(settings: TrainSettings) -> nn.Module:
    """Load the frozen encoder of the latents that the stage ``denoiser`` learns from."""
    return load_encoder(_source(settings, _prior_settings(settings)))


def network_of(settings: TrainSettings) -> SwintormerSettings:
    """Return the sizes of the network that the stage ``network`` trains."""
    card, _ = start_model(settings)
    return card.network.model_copy(update={"prior_channels": LdmPriorSettings.prior_channels})


def start_denoiser(settings: TrainSettings) -> tuple[ModelCard, None, Stage, nn.Module]:
    """Load the denoiser to train, and the frozen encoder of its latents."""
    prior = load_prior_of(settings)
    encoder = load_encoder_of(settings)
    card = ModelCard(
        name=card_name(settings.out, "prior"),
        network=NETWORKS["small"].model_copy(update={"views": _views(settings)}),
        tile_size=512,
        overlap=64,
    )
    return card, None, _denoiser_stage(prior, encoder), prior.denoiser


def start_network(
    settings: TrainSettings,
) -> tuple[ModelCard, Mapping[str, Tensor] | None, Stage, None, LdmPrior]:
    """Make or read the network, give it a channel for the prior, and load the prior."""
    prior = load_prior_of(settings)
    given, source = prior.settings, _source(settings, prior.settings)
    hub = _HUB_ID.fullmatch(source) is not None and not Path(source).exists()
    described = given.model_copy(update={"sha256": prior.sha256, "source": source if hub else ""})
    card, weights = start_model(settings)
    network = card.network
    if network.channels != described.channels or network.known_blur:
        raise TrainingError(
            f"The paper's prior goes with networks of 3 channels, and without a told blur (got "
            f"channels={network.channels}, known_blur={network.known_blur}). Start from another "
            "model."
        )
    if card.prior is None:
        network = network.model_copy(update={"prior_channels": described.prior_channels})
        if weights is not None:  # the channels of the prior come last, and start at zero
            wider = F.pad(weights["embed.weight"], (0, 0, 0, 0, 0, 4 * described.prior_channels))
            weights = {**weights, "embed.weight": wider}
    card = card.model_copy(update={"network": network, "prior": described})
    return card, weights, network_stage(settings, card.network), None, prior


def _check_denoiser(settings: TrainSettings, source: str) -> None:
    if settings.from_model is not None or settings.network is not None:
        raise TrainingError(
            f"The denoiser starts from {source!r}. Leave from_model and network out."
        )
    for side in settings.sides:
        if side % MULTIPLE:
            raise TrainingError(
                f"patch_size must be a multiple of {MULTIPLE} for the denoiser (got "
                f"patch_size={side})."
            )


def _check_network(settings: TrainSettings, source: str) -> None:
    if settings.stage != "network":
        raise TrainingError(
            "The paper's prior has the stages denoiser, network and prior (got "
            f"stage={settings.stage!r}). Its autoencoder is never trained."
        )
    if settings.synthesize is not None:
        raise TrainingError(
            "The prior of a blurred image is sampled once, so the images must be blurred already "
            f"(got synthesize={settings.synthesize!r}). Give a folder of blurred images."
        )
    if source == NOTHING:
        raise TrainingError(
            "The network needs a trained prior (got prior_source='nothing'). Train --stage "
            "denoiser first and name its file, or train --stage prior."
        )


def _denoiser_stage(prior: LdmPrior, encoder: nn.Module) -> Stage:
    """Predict the noise in the noised latent of the sharp image, given the blurred one."""

    def loss(batch: Batch) -> Tensor:
        device = batch.sharp.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            clean = encoder.to(device)(batch.sharp.float())
        t = (batch.uniform(1) * len(prior.schedule.betas)).long()
        noise = batch.noise(0, clean)
        z = prior.schedule.diffuse(clean, t, noise)
        inputs = torch.cat([z, prior.forward_features(batch.blurred)], dim=1)
        predicted = batch.network(inputs, send(t, device)).sample
        return F.mse_loss(predicted.float(), noise)

    return Stage(trains=lambda _: True, loss=loss, image=None, write=save_denoiser)


def _prior_settings(settings: TrainSettings) -> LdmPriorSettings:
    """Return how the prior is sampled: by the settings, or by the model to start from."""
    given = settings.prior
    if given is None and settings.from_model is not None:
        given = read_card(find_model(settings.from_model)).prior
    assert isinstance(given, LdmPriorSettings)
    if settings.num_inference_steps is not None:
        given = given.model_copy(update={"num_inference_steps": settings.num_inference_steps})
    return given


def _source(settings: TrainSettings, given: LdmPriorSettings) -> str:
    return settings.prior_source or given.source


def _views(settings: TrainSettings) -> int:
    return 2 if settings.dual_pixel or any(pair.second for pair in settings.pairs) else 1
