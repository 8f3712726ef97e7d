"""The training loop: pairs → patches → loss → weights."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_swintormer.console import finish
from napari_swintormer.errors import OutputError, TrainingError
from napari_swintormer.events import Event, Notice, Progress, Trained
from napari_swintormer.training.checkpoint import FILE_NAME as CHECKPOINT
from napari_swintormer.training.log import TrainingLog
from napari_swintormer.training.settings import NETWORKS, TrainSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from torch import Tensor

    from napari_swintormer.models.card import ModelCard
    from napari_swintormer.models.settings import SwintormerSettings
    from napari_swintormer.models.swintormer import Swintormer
    from napari_swintormer.training.pairs import Scene

_REPORT_EVERY = 50  # steps between two lines of the log
_FINAL_LEARNING_RATE = 1e-6
_TILE_SIZE = (
    512  # of a new model, as in the paper, but with an eighth as overlap: a third of the cost
)


def train(
    blurred: str | Path | None = None,
    sharp: str | Path | Sequence[str | Path] = (),
    out: str | Path = "model.safetensors",
    *,
    synthesize: Literal["defocus"] | None = None,
    kind: str | Sequence[str] = "auto",
    steps: int = 10_000,
    from_model: str | None = None,
    network: str | SwintormerSettings | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = False,
    **more: Any,
) -> Path:
    """Train a network, or train a model further, on pairs of blurred and sharp images.

    Writes the weights file `out` at the end, and beside it a folder ``<out>.run`` with the
    checkpoint, the log as JSON lines (``log.jsonl``) and the best weights so far
    (``best.safetensors``). An interrupted training goes on with ``resume=True`` and gives the
    weights that it would have given without the interruption.

    Parameters
    ----------
    blurred
        Folder with the blurred partner of every sharp image: same name, the suffix may differ.
    sharp
        Folder of sharp images, or several.
    out
        Weights file to write, ending in ``.safetensors``.
    synthesize
        ``"defocus"`` makes blurred images from the sharp ones, instead of `blurred`.
    kind
        ``"photo"``, ``"microscopy"`` or ``"auto"`` (photo: 8-bit colour), for all folders or one
        per folder; blur is synthesized in linear light.
    steps
        Training steps.
    from_model
        Name or path of the model to start from; without it, training starts from nothing.
    network
        ``"small"`` (1.1 M parameters), ``"paper"`` (25.2 M) or settings of your own, for training
        from nothing. The default is ``"small"``.
    resume
        Go on with the interrupted training of the same `out` and the same settings.
    seed
        Equal seeds give equal weights (on one device, in one precision).
    device, precision
        ``"auto"``, ``"cpu"``, ``"cuda"``…; ``"auto"``, ``"fp32"``, ``"bf16"``.
    progress
        Show a progress bar.
    **more
        Other fields of `napari_swintormer.training.settings.TrainSettings`: ``batch_size``,
        ``patch_size``, ``learning_rate``, ``warmup``, ``held_out``, ``validate_every``,
        ``checkpoint_every``, ``workers``, ``title``, ``summary``, ``licence``…

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    TrainingError
        Images, settings or checkpoint cannot be used.
    ModelNotFoundError, WeightsError
        `from_model` cannot be found or used.

    Examples
    --------
    >>> from napari_swintormer import train
    >>> train("blurred", "sharp", "mine.safetensors", steps=5000)  # doctest: +SKIP
    >>> train(sharp="sharp", synthesize="defocus", out="mine.safetensors")  # doctest: +SKIP
    """
    folders = [sharp] if isinstance(sharp, (str, Path)) else sharp
    settings = TrainSettings(
        sharp=tuple(Path(folder) for folder in folders),
        out=Path(out),
        blurred=None if blurred is None else Path(blurred),
        synthesize=synthesize,
        kinds=(kind,) if isinstance(kind, str) else tuple(kind),  # type: ignore[arg-type]
        steps=steps,
        from_model=from_model,
        network=_network_settings(network),
        resume=resume,
        seed=seed,
        device=device,
        precision=precision,  # type: ignore[arg-type]
        **more,
    )
    finish(iter_train(settings), "Training", show=progress)
    return settings.out


def iter_train(settings: TrainSettings) -> Generator[Event]:
    """Train as `train` does, reporting every step.

    Closing the iterator stops the training after the step it is in, and writes a checkpoint from
    which ``resume`` goes on without loss.

    Yields
    ------
    Progress, Trained, Notice
        One `Progress` per step, a `Trained` for every line of the log.
    """
    from napari_swintormer.training.prior_stages import concerns_prior, iter_stage

    if concerns_prior(settings):
        yield from iter_stage(settings)
        return
    import torch

    from napari_swintormer.engine.devices import resolve_device, resolve_precision
    from napari_swintormer.training.losses import l1
    from napari_swintormer.training.patches import PatchSampler, batches
    from napari_swintormer.training.state import LossMean, TrainingState
    from napari_swintormer.training.validation import Validation

    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    card, start_weights = start_model(settings)
    scenes, held_out, images = find_images(settings, card)
    if not held_out:
        yield Notice("No image is held out for validation: the training reports its loss only.")

    # Network, moving average and optimizer, fresh or as the checkpoint left them.
    state = TrainingState.build(card, start_weights, settings, device)
    decisive = settings.decisive() | {"images": images, "network": card.network.model_dump()}
    first_step = state.restore(decisive) if settings.resume else 0
    log = TrainingLog(settings.run_folder, first_step)
    validation = Validation(held_out, settings.patch_size, settings.batch_size, card)

    sampler = PatchSampler(
        scenes, settings.patch_size, card.network.channels, card.intensity, settings.seed
    )
    source = batches(sampler, settings.batch_size, first_step, settings.steps, settings.workers)
    step, losses, began = first_step, LossMean(), time.perf_counter()
    rate = learning_rate(step, settings)
    try:
        for blurred, sharp in source:
            # One step: forward in the chosen precision, L1, gradients cut, AdamW, moving average.
            rate = learning_rate(step, settings)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                restored = state.network(torch.from_numpy(blurred).to(device))
            loss = l1(restored.float(), torch.from_numpy(sharp).to(device))
            state.update(loss, rate, step)
            losses.add(loss)
            step += 1
            elapsed = time.perf_counter() - began
            eta = elapsed / (step - first_step) * (settings.steps - step)
            yield Progress(step, settings.steps, "steps", elapsed, eta)

            # Now and then a checkpoint, and a line of the log, some with a validation.
            if step % settings.checkpoint_every == 0 or step == settings.steps:
                state.save(step, decisive)
            validate = step % settings.validate_every == 0
            if step < settings.steps and (validate or step % _REPORT_EVERY == 0):
                scores = validation.run(state.ema, device, precision) if validate else None
                report = Trained(step, settings.steps, losses.take(), *(scores or ()))
                if log.write(report, rate):
                    _write_weights(
                        settings.run_folder / "best.safetensors", state.ema, card, report
                    )
                yield report
    except GeneratorExit:
        state.save(step, decisive)
        raise
    finally:
        source.close()

    scores = validation.run(state.ema, device, precision)
    report = Trained(step, settings.steps, losses.take(), *(scores or ()))
    log.write(report, rate)
    _write_weights(settings.out, state.ema, card, report)
    yield report


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step, counted from 0: a linear rise, then half a cosine down to 1e-6."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    way = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    cosine = (1 + math.cos(math.pi * way)) / 2
    return _FINAL_LEARNING_RATE + (settings.learning_rate - _FINAL_LEARNING_RATE) * cosine


def _network_settings(network: str | SwintormerSettings | None) -> SwintormerSettings | None:
    if not isinstance(network, str):
        return network
    if network not in NETWORKS:
        raise TrainingError(
            f"There is no such network (got network={network!r}). Use one of "
            f"{', '.join(map(repr, NETWORKS))}."
        )
    return NETWORKS[network]


def start_model(settings: TrainSettings) -> tuple[ModelCard, Mapping[str, Tensor] | None]:
    """Card of the model to be, and the weights to start from."""
    from napari_swintormer.models.card import ModelCard
    from napari_swintormer.models.catalogue import find_model
    from napari_swintormer.models.weights import load_weights

    described = {
        key: getattr(settings, key)
        for key in ("title", "summary", "licence", "training_data")
        if getattr(settings, key)
    }
    name = re.sub(r"[^A-Za-z0-9._-]", "-", settings.out.stem).lstrip("._-")[:64] or "model"
    if settings.from_model is None:
        network = settings.network or NETWORKS["small"]
        # the network sees no further than its windows: tiles may be larger than patches
        tile_size = max(_TILE_SIZE, network.multiple)
        card = ModelCard(
            name=name, network=network, tile_size=tile_size, overlap=tile_size // 8, **described
        )
        weights = None
    else:
        if settings.network is not None:
            raise TrainingError(
                "A model that is trained further keeps its network: leave out --network, or --from."
            )
        base, weights = load_weights(find_model(settings.from_model))
        # Training aims at the unclipped sharp image, whatever the model did before.
        changed = {"name": name, "version": "1", "metrics": {}, "clip_output": False} | described
        card = base.model_copy(update=changed)
    unknown = card.network.prior_channels and card.prior is None
    if card.network.views != 1 or unknown:
        raise TrainingError(
            f"Training works on networks of one view, whose card describes their prior (got "
            f"views={card.network.views}, prior_channels={card.network.prior_channels})."
        )
    if settings.patch_size % card.network.multiple:
        raise TrainingError(
            f"patch_size must be a multiple of {card.network.multiple} for this network (got "
            f"patch_size={settings.patch_size})."
        )
    return card, weights


def find_images(settings: TrainSettings, card: ModelCard) -> tuple[list[Scene], list[Scene], str]:
    """Scenes to train on, scenes held out, and the fingerprint of both."""
    from napari_swintormer.training.pairs import find_scenes, fingerprint, split_scenes

    if not settings.resume:
        _check_nothing_there(settings)
    scenes = find_scenes(
        settings.sharp, settings.blurred, settings.kind_of_folder, card.network.channels
    )
    train_scenes, held_out = split_scenes(scenes, settings.held_out)
    return train_scenes, held_out, fingerprint(scenes)


def _check_nothing_there(settings: TrainSettings) -> None:
    if (settings.run_folder / CHECKPOINT).exists():
        raise TrainingError(
            f"There is a training in {settings.run_folder} already. Go on with it by --resume, "
            "delete the folder, or write to another name."
        )
    if settings.out.exists():
        raise OutputError(f"{settings.out} exists already. Delete it or write to another name.")


def _write_weights(path: Path, network: Swintormer, card: ModelCard, report: Trained) -> None:
    from napari_swintormer.models.weights import save_weights

    metrics = {"training steps": float(report.step)}
    if report.psnr is not None and report.psnr_blurred is not None:
        metrics["validation PSNR, dB"] = round(report.psnr, 3)
        metrics["validation PSNR of the blurred patches, dB"] = round(report.psnr_blurred, 3)
    save_weights(path, network.state_dict(), card.model_copy(update={"metrics": metrics}))
