"""What a training begins with: the model it starts from, and the scenes it learns from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_swintormer.errors import OutputError, TrainingError
from napari_swintormer.training.loop.checkpoint import FILE_NAME as CHECKPOINT
from napari_swintormer.training.train_settings import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.network.network_settings import DeconvolutionSettings
    from napari_swintormer.training.train_settings import TrainSettings

_TILE_SIZE = (
    512  # of a new model, as in the paper, but with an eighth as overlap: a third of the cost
)


def concerns_prior(settings: TrainSettings) -> bool:
    """Whether this is a stage of a training with prior; imports no torch."""
    if settings.stage != "network":
        return True
    if settings.from_model is None:
        return False
    from napari_swintormer.models.catalogue import find_model
    from napari_swintormer.models.files.weights import read_card

    path = find_model(settings.from_model)
    return path.suffix == ".safetensors" and read_card(path).prior is not None


def start_model(settings: TrainSettings) -> tuple[ModelCard, Mapping[str, Tensor] | None]:
    """Card of the model to be, and the weights to start from; None for random ones.

    Raises
    ------
    TrainingError
        Model, network and patches do not fit.
    ModelNotFoundError, WeightsError
        The model to start from cannot be used.
    """
    from napari_swintormer.models.catalogue import find_model
    from napari_swintormer.models.files.card import DUAL_PIXEL, ForeignCard, ModelCard
    from napari_swintormer.models.files.weights import load_weights

    described = {
        key: getattr(settings, key)
        for key in ("title", "summary", "licence", "training_data")
        if getattr(settings, key)
    }
    two = settings.dual_pixel is not None or any(pair.second for pair in settings.pairs)
    views = DUAL_PIXEL if two else None
    name = re.sub(r"[^A-Za-z0-9._-]", "-", settings.out.stem).lstrip("._-")[:64] or "model"
    if settings.from_model is None:
        network = settings.network or NETWORKS["small"]
        network = network.model_copy(update={"views": len(views or [""])})
        # the network sees no further than its windows: tiles may be larger than patches
        tile_size = max(_TILE_SIZE, network.multiple)
        card = ModelCard(
            name=name,
            network=network,
            views=views,
            tile_size=tile_size,
            overlap=tile_size // 8,
            **described,
        )
        weights = None
    else:
        if settings.network is not None:
            raise TrainingError(
                "A model that is trained further keeps its network: give a network or a model."
            )
        base, weights = load_weights(find_model(settings.from_model))
        if isinstance(base, ForeignCard):
            raise TrainingError(
                f"{settings.from_model!r} is a {base.architecture}, a network of others, which "
                "cannot be trained here. Start from a model of this package."
            )
        # Training aims at the unclipped sharp image, whatever the model did before.
        changed = {"name": name, "version": "1", "metrics": {}, "clip_output": False} | described
        card = base.model_copy(update=changed)
        if settings.deconvolution is not None:
            card, weights = with_deconvolution(card, weights, settings.deconvolution, settings.seed)
    if settings.parameters == "deconvolution" and card.network.deconvolution is None:
        model = "network" if settings.from_model is None else f"model {settings.from_model!r}"
        raise TrainingError(
            f"The {model} has no deconvolution to train (got parameters='deconvolution'). Train "
            "all parameters, or start from another model."
        )
    if card.network.views != len(views or [""]):
        raise TrainingError(
            f"The scenes have {len(views or [''])} view(s), and the model takes "
            f"{card.network.views}. Start from another model, or from none."
        )
    if card.network.prior_channels and card.prior is None:
        raise TrainingError(
            f"Training works on networks whose card describes their prior (got "
            f"prior_channels={card.network.prior_channels} and no prior)."
        )
    for side in (settings.patch_size, *settings.larger_patches):
        if side % card.network.multiple:
            raise TrainingError(
                f"patch_size must be a multiple of {card.network.multiple} for this network (got "
                f"patch_size={side})."
            )
    return card, weights


def with_deconvolution(
    card: ModelCard, weights: dict[str, Tensor], deconvolution: DeconvolutionSettings, seed: int
) -> tuple[ModelCard, dict[str, Tensor]]:
    """Give a network a deconvolution that changes nothing yet; one that has it stays as it is."""
    if card.network.deconvolution == deconvolution:
        return card, weights
    if card.network.deconvolution is not None or card.prior is not None:
        raise TrainingError(
            "A deconvolution can be given to a network that has neither one nor a prior. Leave "
            "deconvolution out, or start from another model."
        )
    import torch

    from napari_swintormer.models.network.swintormer import Swintormer

    network = card.network.model_copy(update={"deconvolution": deconvolution})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = Swintormer(network).state_dict()  # what is new changes nothing
    return card.model_copy(update={"network": network}), state | weights


def check_nothing_there(settings: TrainSettings) -> None:
    """Refuse to write over a model, or over a training that is to be resumed.

    Raises
    ------
    TrainingError, OutputError
        There is one.
    """
    if (settings.run_folder / CHECKPOINT).exists():
        raise TrainingError(
            f"There is a training in {settings.run_folder} already. Resume it, delete the folder, "
            "or choose another name."
        )
    if settings.out.exists():
        raise OutputError(f"{settings.out} exists already. Delete it or write to another name.")
