"""The training loop: pairs → patches → loss → weights."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_swintormer.console import finish
from napari_swintormer.errors import TrainingError
from napari_swintormer.events import Event, Notice, Progress, Trained
from napari_swintormer.training.log import TrainingLog
from napari_swintormer.training.settings import NETWORKS, TrainSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_swintormer.models.card import ModelCard
    from napari_swintormer.models.settings import SwintormerSettings
    from napari_swintormer.models.swintormer import Swintormer
    from napari_swintormer.training.settings import Synthesis

_REPORT_EVERY = 50  # steps between two lines of the log
_FINAL_LEARNING_RATE = 1e-6
BEST, LAST = "best.safetensors", "last.safetensors"


def train(
    blurred: Any = None,
    sharp: Any = (),
    out: str | Path = "model.safetensors",
    *,
    annotations: Any = None,
    axes: str | None = None,
    synthesize: Synthesis | None = None,
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
    checkpoint, the log as JSON lines (``log.jsonl``), the weights of the best validation
    (``best.safetensors``), the last ones (``last.safetensors``) and pictures of every validation.
    Pairs are checked first, and bad ones refused, see `check_pairs`. An interrupted training goes
    on with ``resume=True`` and gives the weights that it would have given without the interruption.

    Parameters
    ----------
    blurred
        Folder with the blurred partner of every sharp image: same name, the suffix may differ. Or
        an array, or a list of arrays; the planes of a stack are pairs of their own.
    sharp
        Folder of sharp images, or several; or as many arrays as `blurred` has.
    out
        Weights file to write, ending in ``.safetensors``.
    annotations
        Labels, as a folder or arrays: 1 where patches are taken from, 2 what is left out; nothing
        means everywhere.
    axes
        One letter of ``TCZYXS`` per dimension of the arrays; guessed if None.
    synthesize
        Makes blurred images from the sharp ones, instead of `blurred`: ``"defocus"`` by simple
        moderate blur, ``"optics"`` as lenses and cameras, or microscopes, do, ``"motion"``.
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
        ``patch_size``, ``learning_rate``, ``loss``, ``parameters``, ``register``,
        ``match_intensity``, ``skip_bad``, ``keep``, ``patience``, ``held_out``, ``title``…

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
    settings = TrainSettings(
        out=Path(out),
        **_image_settings(blurred, sharp, annotations, axes),
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
    which ``resume`` goes on without loss, and the weights as they are (``last.safetensors``); those
    of the best validation are in ``best.safetensors`` already.

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
    from napari_swintormer.training.begin import check_nothing_there, find_scenes, start_model
    from napari_swintormer.training.patches import PatchSampler, batches
    from napari_swintormer.training.state import LossMean, TrainingState
    from napari_swintormer.training.validation import Validation

    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    card, start_weights = start_model(settings)
    if not settings.resume:
        check_nothing_there(settings)
    scenes, held_out, images, notices = find_scenes(settings, card)
    yield from notices

    # Network, moving average and optimizer, fresh or as the checkpoint left them.
    state = TrainingState.build(card, start_weights, settings, device, precision)
    decisive = settings.decisive() | {"images": images, "network": card.network.model_dump()}
    first_step = state.restore(decisive) if settings.resume else 0
    log = TrainingLog(settings.run_folder, first_step)
    validation = Validation(
        held_out, settings.patch_size, settings.batch_size, card, settings.synthesize
    )

    def report(step: int, rate: float, *, validate: bool = True) -> Trained:
        """Write a line of the log, with a picture and the best weights where there are any."""
        some, loss = len(losses) > 0, losses.take()
        if some and not math.isfinite(loss):
            raise TrainingError(
                f"The training lost its way before step {step}: its loss is no number any more. "
                f"Start anew with a lower learning rate (got {settings.learning_rate:g})."
            )
        scores = validation.run(state.ema, device, precision) if validate else None
        picture = settings.run_folder / "validation" / f"step_{step:06}.png" if scores else None
        if picture is not None:
            validation.save_picture(picture)
        psnr, psnr_blurred = scores or (None, None)
        line = Trained(step, settings.steps, loss, psnr, psnr_blurred, picture)
        if log.write(line, rate):
            _write_weights(settings.run_folder / BEST, state.ema, card, line)
        return line

    sampler = PatchSampler(
        scenes,
        settings.patch_size,
        card.network.channels,
        card.intensity,
        settings.seed,
        settings.synthesize,
    )
    step, losses = first_step, LossMean()
    rate = learning_rate(step, settings)
    source = batches(sampler, settings.batch_size, first_step, settings.steps, settings.workers)
    try:
        if settings.from_model is not None and step == 0 and held_out:
            yield report(0, rate)  # what training has to be better than
        began = time.perf_counter()
        for blurred, sharp in source:
            # One step: forward in the chosen precision, loss, gradients cut, AdamW, moving average.
            rate = learning_rate(step, settings)
            loss, notice = state.update(
                torch.from_numpy(blurred), torch.from_numpy(sharp), rate, step
            )
            losses.add(loss)
            step += 1
            elapsed = time.perf_counter() - began
            eta = elapsed / (step - first_step) * (settings.steps - step)
            if notice is not None:
                yield Notice(notice)
            yield Progress(step, settings.steps, "steps", elapsed, eta)

            # Now and then a checkpoint, and a line of the log, some with a validation.
            if step % settings.checkpoint_every == 0 or step == settings.steps:
                state.save(step, decisive)
            validate = step % settings.validate_every == 0
            if step < settings.steps and (validate or step % _REPORT_EVERY == 0):
                yield report(step, rate, validate=validate)
                if validate and settings.patience and log.since_best >= settings.patience:
                    yield Notice(
                        f"Stopped early: none of the last {log.since_best} validations was better."
                    )
                    break
    except GeneratorExit:
        state.save(step, decisive)
        _write_weights(settings.run_folder / LAST, state.ema, card, Trained(step, 0, math.nan))
        raise
    finally:
        source.close()

    last = report(step, rate)
    _write_weights(settings.run_folder / LAST, state.ema, card, last)
    best = held_out and settings.keep == "best"
    put_in_place(settings.run_folder / (BEST if best else LAST), settings.out)
    yield last


def put_in_place(weights: Path, out: Path) -> None:
    """Copy weights of a run to where the user wants them, under that name.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from napari_swintormer.models.weights import load_weights, save_weights

    card, state = load_weights(weights)
    save_weights(out, state, card)


def _image_settings(blurred: Any, sharp: Any, annotations: Any, axes: str | None) -> dict[str, Any]:
    """Tell folders from arrays: the fields of `TrainSettings` that say where images come from."""
    from napari_swintormer.training.pairs import are_arrays, array_pairs

    if are_arrays(sharp):
        return {"sharp": (), "pairs": tuple(array_pairs(blurred, sharp, annotations, axes))}
    folders = [sharp] if isinstance(sharp, (str, Path)) else sharp
    return {
        "sharp": tuple(Path(folder) for folder in folders),
        "blurred": None if blurred is None else Path(blurred),
        "annotations": None if annotations is None else Path(annotations),
    }


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


def _write_weights(path: Path, network: Swintormer, card: ModelCard, report: Trained) -> None:
    from napari_swintormer.models.weights import save_weights

    metrics = {"training steps": float(report.step)}
    if report.psnr is not None and report.psnr_blurred is not None:
        metrics["validation PSNR, dB"] = round(report.psnr, 3)
        metrics["validation PSNR of the blurred patches, dB"] = round(report.psnr_blurred, 3)
    save_weights(path, network.state_dict(), card.model_copy(update={"metrics": metrics}))
