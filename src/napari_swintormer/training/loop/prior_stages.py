"""The training of a model with a compact prior, stage by stage.

1. ``autoencoder``: the latent of what an image misses, and that out of it again. Starting from a
   model without prior this adds one, which says what the model itself does at half the size.
2. ``denoiser``: predicts the clean latent (eq. 17, of ``z0`` instead of the noise); the autoencoder
   stays as it is.
3. ``network``: the network restores with what the prior samples; the prior stays as it is.
4. ``joint``: network, denoiser and the encoder of the blurred image together, through all steps.

Every stage reads a whole model and writes a whole model; ``prior`` stands for all four. All that is
random is a pure function of seed and step, so that a resumed training equals an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_swintormer.events import Trained
    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.training.data.pairs import PlanePair
    from napari_swintormer.training.train_settings import TrainSettings

# Of a whole training: share of the steps, learning rate as a multiple of that of the network's own
# stage, and the norm that gradients are cut to; None for that of the settings.
_PLAN: dict[str, tuple[float, float, float | None]] = {
    "autoencoder": (0.1, 20 / 3, 1.0),
    "denoiser": (0.3, 1.0, None),  # its encoder is a trained network
    "network": (0.1, 1.0, None),
    "joint": (0.5, 1.0, None),
}


def stages_of_prior(settings: TrainSettings) -> list[TrainSettings]:
    """Divide a training of the stage ``"prior"`` into its four stages.

    Each begins with the model that the one before has left in the run's folder; the last one writes
    what was asked for.
    """
    stages: list[TrainSettings] = []
    for stage, (share, factor, clip) in _PLAN.items():
        last = len(stages) == len(_PLAN) - 1
        steps = max(1, round(share * settings.steps))
        changes: dict[str, Any] = {
            "stage": stage,
            "steps": steps,
            "warmup": min(settings.warmup, steps),
            "learning_rate": factor * settings.learning_rate,
            "clip": settings.clip if clip is None else clip,
            "out": settings.out if last else settings.run_folder / f"{stage}.safetensors",
        }
        if stages:
            changes |= {"from_model": str(stages[-1].out), "prior": None}
        stages.append(dataclasses.replace(settings, **changes))
    return stages


def check_complete(scenes: Sequence[PlanePair]) -> None:
    """Refuse annotations: of an image with holes there is no latent."""
    if any(scene.annotations is not None for scene in scenes):
        raise TrainingError(
            "A model with a prior cannot be trained with annotations. Leave them out, or cut the "
            "images."
        )


def start_with_prior(settings: TrainSettings) -> tuple[ModelCard, Mapping[str, Tensor]]:
    """Read the model to start from, and give it a prior if it has none.

    Raises
    ------
    TrainingError
        There is no model to start from, this stage comes too early for it, or it is to minimise or
        train something else than it does.
    """
    from napari_swintormer.models.prior.prior_settings import CompactPriorSettings
    from napari_swintormer.training.loop.initial_model import start_model

    if settings.from_model is None:
        raise TrainingError(
            f"The stage {settings.stage!r} of a training with prior needs a model to start from. "
            "Name one with --from; a model without prior will do for --stage autoencoder."
        )
    for name, only in (("loss", "l1"), ("parameters", "all")):
        if getattr(settings, name) != only:
            raise TrainingError(
                f"Every stage of a training with prior has losses and parameters of its own (got "
                f"{name}={getattr(settings, name)!r}). Leave {name} out."
            )
    card, weights = start_model(settings)
    if card.network.views != 1:
        raise TrainingError("A prior is sampled for one view: train networks of two without it.")
    assert weights is not None
    if card.prior is None and settings.stage == "autoencoder":
        prior = settings.prior or CompactPriorSettings(encoder=card.network)
        return add_prior(card, weights, prior, settings.seed)
    if card.prior is None or card.prior.kind != "compact":
        raise TrainingError(
            f"The model {settings.from_model!r} has no compact prior for the stage "
            f"{settings.stage!r} to train. Train --stage autoencoder first."
        )
    if settings.prior not in (None, card.prior):
        raise TrainingError("A model that is trained further keeps its prior: leave out prior.")
    return card, weights


def add_prior(
    card: ModelCard, weights: Mapping[str, Tensor], prior: Any, seed: int
) -> tuple[ModelCard, dict[str, Tensor]]:
    """Give a model without prior one, which says what the model itself does at half the size.

    So if its encoder has the network's sizes; an encoder of other sizes knows nothing yet.
    """
    import torch

    from napari_swintormer.models.prior.compact import build_network

    alone = card.network
    network = alone.model_copy(update={"prior_channels": prior.prior_channels})
    card = card.model_copy(update={"network": network, "prior": prior})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = build_network(card.network, card.prior).state_dict()
    embed = weights["embed.weight"]  # the prior's channels come last
    missing = state["embed.weight"].shape[1] - embed.shape[1]
    if prior.encoder == alone:
        state |= {f"prior.blurred_encoder.body.{key}": value for key, value in weights.items()}
    return card, state | dict(weights) | {
        "embed.weight": torch.nn.functional.pad(embed, (0, 0, 0, 0, 0, missing))
    }


def earlier_metrics(settings: TrainSettings) -> dict[str, float]:
    """Read what the stages before have brought off the card of the model to start from."""
    from napari_swintormer.models.catalogue import find_model
    from napari_swintormer.models.files.weights import load_weights

    assert settings.from_model is not None
    return load_weights(find_model(settings.from_model))[0].metrics


def stage_metrics(stage: str, report: Trained) -> dict[str, float]:
    """Say for the card what a stage has brought."""
    metrics = {f"stage {stage}, steps": float(report.step)}
    if report.psnr is not None and report.psnr_blurred is not None:
        metrics[f"stage {stage}, validation PSNR, dB"] = round(report.psnr, 3)
        metrics["validation PSNR of the blurred patches, dB"] = round(report.psnr_blurred, 3)
    return metrics
