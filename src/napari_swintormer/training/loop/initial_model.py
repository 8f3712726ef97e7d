"""The model that a training starts from: its card and its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.catalogue import find_model
from napari_swintormer.models.files.card import DUAL_PIXEL, ForeignCard, ModelCard, card_name
from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.training.train_presets import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_swintormer.models.network.network_settings import DeconvolutionSettings
    from napari_swintormer.training.train_settings import TrainSettings

_TILE_SIZE = 512  # of a new model, as in the paper; the overlap is an eighth, a third of the cost


def start_model(settings: TrainSettings) -> tuple[ModelCard, Mapping[str, Tensor] | None]:
    """Return the card of the new model, and the weights to start from; None for random ones."""
    two = settings.dual_pixel is not None or any(pair.second for pair in settings.pairs)
    views = DUAL_PIXEL if two else None
    texts = ("title", "summary", "licence", "training_data")
    described = {key: getattr(settings, key) for key in texts if getattr(settings, key)}
    described |= {"name": card_name(settings.out, "model")}
    weights: Mapping[str, Tensor] | None = None
    if settings.from_model is None:
        network = settings.network or NETWORKS["small"]
        network = network.model_copy(update={"views": 2 if two else 1})
        # a network does not look beyond its windows, so tiles may be larger than patches
        tile = max(_TILE_SIZE, network.multiple)
        card = ModelCard(
            network=network, views=views, tile_size=tile, overlap=tile // 8, **described
        )
    else:
        card, weights = _read_model(settings)
        if settings.stage == "network" and not settings.tells_blur and card.network.known_blur:
            card, weights = _without_prior(card, weights)
            if settings.has_pairs or not card.network.unclear:
                described |= {"blur": "unknown"}
        # Training aims at the unclipped sharp image, even if the model clipped before.
        card = card.model_copy(
            update={"version": "1", "metrics": {}, "clip_output": False} | described
        )
    _check_model(card, settings, 2 if two else 1)
    return card, weights


def _read_model(settings: TrainSettings) -> tuple[ModelCard, Mapping[str, Tensor]]:
    assert settings.from_model is not None
    if settings.network is not None:
        raise TrainingError(
            "A model that is trained further keeps its network: give a network or a model."
        )
    card, weights = load_weights(find_model(settings.from_model))
    if isinstance(card, ForeignCard):
        raise TrainingError(
            f"{settings.from_model!r} is a {card.architecture}, a network from another package, "
            "which cannot be trained here. Start from a model of this package."
        )
    if settings.tells_blur:
        return with_known_blur(card, weights)
    if settings.deconvolution is not None:
        return with_deconvolution(card, weights, settings.deconvolution, settings.seed)
    return card, weights


def _without_prior(
    card: ModelCard, weights: Mapping[str, Tensor]
) -> tuple[ModelCard, Mapping[str, Tensor]]:
    """Leave out the prior of a model for a known blur, which adds to the filtered image only.

    Where a second network is trained for unclear blur, the first one keeps its prior.
    """
    if card.prior is None or card.network.unclear:
        return card, weights
    network = card.network.model_copy(update={"prior_channels": 0})
    kept = {name: value for name, value in weights.items() if not name.startswith("prior.")}
    return card.model_copy(update={"network": network, "prior": None}), kept


def _check_model(card: ModelCard, settings: TrainSettings, views: int) -> None:
    """Refuse a model that does not fit the options, the views of the images, or the patches."""
    network = card.network
    model = "network" if settings.from_model is None else f"model {settings.from_model!r}"
    told = network.all_told and settings.tells_blur
    if settings.parameters == "deconvolution" and (network.deconvolution is None or told):
        raise TrainingError(
            f"The {model} has no deconvolution to train (got parameters='deconvolution'). Train "
            "all parameters, or start from another model."
        )
    if settings.has_pairs and told and network.unclear:
        raise TrainingError(
            f"The {model} has a network that is told the blur, and another one for pairs (got "
            f"pairs and synthesize={settings.synthesize!r}). Train the other one with "
            "synthesize='all'."
        )
    if settings.has_pairs and network.known_blur and network.deconvolution is None:
        raise TrainingError(
            f"The {model} must be told the blur, which of pairs is not known. Start from a model "
            "that finds the blur by itself, or synthesize the blur of all images."
        )
    if settings.degrade_on == "device" and network.known_blur and not settings.tells_blur:
        raise TrainingError(
            f"The {model} needs the noise of every image, which is measured on the CPU (got "
            "degrade_on='device'). Use degrade_on='cpu', or synthesize='known'."
        )
    if network.views != views:
        raise TrainingError(
            f"The images have {views} view(s), and the model takes {network.views}. Start from "
            "another model, or from none."
        )
    if network.prior_channels and card.prior is None:
        raise TrainingError(
            f"Training needs a model whose card describes its prior (got "
            f"prior_channels={network.prior_channels} and no prior)."
        )
    for side in settings.sides:
        if side % network.multiple:
            raise TrainingError(
                f"patch_size must be a multiple of {network.multiple} for this network (got "
                f"patch_size={side})."
            )


def with_known_blur(
    card: ModelCard, weights: dict[str, Tensor]
) -> tuple[ModelCard, dict[str, Tensor]]:
    """Let a network continue from a known blur; its own deconvolution stays for unknown ones.

    The network continues from the filtered image as it did from its own one, and ignores the maps
    before training.
    """
    from napari_swintormer.models.network.swintormer import Swintormer

    if card.network.known_blur:
        return card, weights
    changes: dict[str, Any] = {"known_blur": True}
    if (deconvolution := card.network.deconvolution) is not None:
        changes["deconvolution"] = deconvolution.model_copy(update={"knows_kind": True})
    network = card.network.model_copy(update=changes)
    state = Swintormer(network).state_dict()
    kept = {name: weights.get(name, zeros) for name, zeros in state.items()}
    return card.model_copy(update={"network": network}), kept


def with_deconvolution(
    card: ModelCard, weights: dict[str, Tensor], deconvolution: DeconvolutionSettings, seed: int
) -> tuple[ModelCard, dict[str, Tensor]]:
    """Add an untrained deconvolution, which changes nothing; an equal one stays as it is."""
    if card.network.deconvolution == deconvolution:
        return card, weights
    if card.network.deconvolution is not None or card.prior is not None:
        raise TrainingError(
            "A deconvolution can be added to a network that has neither another one nor a prior. "
            "Leave deconvolution out, or start from another model."
        )
    import torch

    from napari_swintormer.models.network.swintormer import Swintormer

    network = card.network.model_copy(update={"deconvolution": deconvolution})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = Swintormer(network).state_dict()
    return card.model_copy(update={"network": network}), state | weights
