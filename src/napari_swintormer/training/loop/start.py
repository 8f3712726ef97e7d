"""How a training begins: the model, its weights, and the stage, with a prior or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from napari_swintormer.models.catalogue import find_model
from napari_swintormer.models.files.kinds import Kind, detect
from napari_swintormer.models.files.weights import read_card
from napari_swintormer.training.loop.initial_model import start_model
from napari_swintormer.training.loop.prior_stages import stages_of_prior, start_with_prior
from napari_swintormer.training.loop.stage import network_stage, prior_stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.prior.ldm import LdmPrior
    from napari_swintormer.training.loop.stage import Stage
    from napari_swintormer.training.train_settings import TrainSettings


class Start(NamedTuple):
    """What a training begins with."""

    card: ModelCard
    weights: Mapping[str, Tensor] | None  # None for random ones
    stage: Stage
    network: nn.Module | None = None  # what is trained; None for the network of the card
    prior: LdmPrior | None = None  # samples what the network sees beside the image


def prior_kind(settings: TrainSettings) -> str | None:
    """Return the kind of the prior that a training concerns; None for none.

    The settings name it, or the model that the training starts from has it.
    """
    if settings.prior is not None:
        return settings.prior.kind
    card = card_of_start(settings)
    if card is not None and card.prior is not None:
        alone = card.network.known_blur and settings.stage == "network"
        return None if alone and not settings.tells_blur else card.prior.kind
    return None if settings.stage == "network" else "compact"


def card_of_start(settings: TrainSettings) -> ModelCard | None:
    """Read the card of the model that a training starts from, without its weights.

    None if it starts from nothing, or from weights of another package.
    """
    if settings.from_model is None:
        return None
    path = find_model(settings.from_model)
    return read_card(path) if detect(path) is Kind.OWN else None


def stages_of(settings: TrainSettings) -> list[TrainSettings]:
    """Divide a training of the stage ``"prior"`` into the stages of its kind of prior."""
    if prior_kind(settings) == "ldm_sr":
        from napari_swintormer.training.loop.ldm_stages import stages_of_ldm

        return stages_of_ldm(settings)
    return stages_of_prior(settings)


def start_training(settings: TrainSettings) -> Start:
    """Make or read what the settings name."""
    kind = prior_kind(settings)
    if kind == "ldm_sr":
        from napari_swintormer.training.loop.ldm_stages import start_denoiser, start_network

        denoising = settings.stage == "denoiser"
        return Start(*(start_denoiser if denoising else start_network)(settings))
    if kind == "compact":
        card, weights = start_with_prior(settings)
        return Start(card, weights, prior_stage(settings.stage, card.network))
    begin = start_model(settings)
    return Start(*begin, network_stage(settings, begin[0].network))
