"""The training loop: pairs → patches → loss → weights."""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import TrainingError
from napari_swintormer.events import Event, Notice, Progress
from napari_swintormer.openmp import import_torch
from napari_swintormer.terminal import finish
from napari_swintormer.training.loop.checkpoint import FILE_NAME as CHECKPOINT
from napari_swintormer.training.train_settings import NETWORKS, TrainSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.training.loop.processes import Processes
    from napari_swintormer.training.loop.trainer import Trainer
    from napari_swintormer.training.train_settings import Synthesis

_REPORT_EVERY = 50  # steps between two lines of the log
_FINAL_LEARNING_RATE = 1e-6


def train(
    blurred: Any = None,
    sharp: Any = (),
    out: str | Path = "model.safetensors",
    *,
    dual_pixel: str | Path | None = None,
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
    vgg19: str | Path | None = None,
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
    dual_pixel
        Instead of both, a folder of a dual-pixel camera's images: ``inputL``, ``inputR`` and
        ``target``.
    annotations
        Labels, as a folder or arrays: 1 where patches are taken from, 2 what is left out; nothing
        means everywhere.
    axes
        One letter of ``TCZYXS`` per dimension of the arrays; guessed if None.
    synthesize
        Makes blurred images from the sharp ones, instead of `blurred`: ``"defocus"`` by simple
        moderate blur, ``"optics"`` as lenses and cameras, or microscopes, do, ``"motion"``, or
        ``"all"``: optics, and motion for some photos.
    kind
        ``"photo"``, ``"microscopy"`` or ``"auto"`` (photo: 8-bit colour), for all folders or one
        per folder; blur is synthesized in linear light.
    steps
        Training steps.
    from_model
        Name or path of the model to start from; without it, training starts from nothing.
    network
        ``"small"`` (1.3 M parameters), ``"paper"`` (25.2 M) or settings of your own, for training
        from nothing. The default is ``"small"``.
    resume
        Go on with the interrupted training of the same `out` and the same settings.
    seed
        Equal seeds give equal weights (on one device, in one precision).
    device, precision
        ``"auto"``, ``"cpu"``, ``"cuda"``…; ``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"``.
    progress
        Show a progress bar.
    vgg19
        File with VGG19's parameters, for the loss ``"perceptual"``; None fetches them once.
    **more
        Other fields of `napari_swintormer.training.train_settings.TrainSettings`: ``batch_size``,
        ``patch_size``, ``larger_patches``, ``learning_rate``, ``loss``, ``parameters``,
        ``register``, ``match_intensity``, ``skip_bad``, ``keep``, ``patience``, ``held_out``,
        ``tensorboard``, ``title``…

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
        dual_pixel=None if dual_pixel is None else Path(dual_pixel),
        vgg19=None if vgg19 is None else Path(vgg19),
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

    Where several processes share the training (see `processes`), only the first one reports.

    Yields
    ------
    Progress, Trained, Notice
        One `Progress` per step, a `Trained` for every line of the log.
    """
    if settings.stage == "prior":
        yield from _iter_stages(settings)
        return
    import_torch()
    from napari_swintormer.engine.devices import resolve_device
    from napari_swintormer.training.loop.processes import join_processes
    from napari_swintormer.training.loop.trainer import Trainer

    with join_processes(resolve_device(settings.device)) as (processes, device):
        trainer = Trainer(settings, device, processes)
        steps = _iter_steps(trainer, processes)
        if processes.writes:
            with closing(trainer.log):
                yield from steps
                last = trainer.report(learning_rate(trainer.step, settings))
            trainer.write_last(last)
            trainer.finish()
            yield last
        else:
            for _ in steps:
                pass
        processes.agree(True, device)  # the weights are written when any process returns


def _iter_steps(trainer: Trainer, processes: Processes) -> Generator[Event]:
    """Make the steps; reporting and writing are left out in all processes but one."""
    settings, first_step = trainer.settings, trainer.step
    yield from trainer.notices
    source = trainer.batches()
    rate = learning_rate(trainer.step, settings)
    try:
        fresh = settings.from_model is not None and trainer.step == 0
        if fresh and trainer.validates and processes.writes:
            yield trainer.report(rate)  # what training has to be better than
        began = time.perf_counter()
        for blurred, sharp in source:
            rate = learning_rate(trainer.step, settings)
            notice = trainer.update(blurred, sharp, rate)
            step = trainer.step
            elapsed = time.perf_counter() - began
            eta = elapsed / (step - first_step) * (settings.steps - step)
            if notice is not None:
                yield Notice(notice)
            yield Progress(step, settings.steps, "steps", elapsed, eta)

            # Now and then a checkpoint, and a line of the log, some with a validation.
            validate = step % settings.validate_every == 0
            if processes.writes:
                if step % settings.checkpoint_every == 0 or step == settings.steps:
                    trainer.save()
                if step < settings.steps and (validate or step % _REPORT_EVERY == 0):
                    yield trainer.report(rate, validate=validate)
            if validate and settings.patience:
                vain = trainer.log.since_best if processes.writes else 0
                if processes.agree(vain >= settings.patience, trainer.state.device):
                    yield Notice(f"Stopped early: none of the last {vain} validations was better.")
                    break
    except GeneratorExit:
        if processes.writes:
            trainer.save()
            trainer.write_last()
        raise
    finally:
        source.close()


def _iter_stages(settings: TrainSettings) -> Generator[Event]:
    """Train stage after stage, each from the model that the one before has made."""
    from napari_swintormer.engine.devices import resolve_device
    from napari_swintormer.training.loop.initial_model import check_nothing_there
    from napari_swintormer.training.loop.prior_stages import stages_of_prior
    from napari_swintormer.training.loop.processes import join_processes

    if not settings.resume:
        check_nothing_there(settings)
    stages = stages_of_prior(settings)
    done, total = 0, sum(stage.steps for stage in stages)
    with join_processes(resolve_device(settings.device)):  # once for all stages
        for stage in stages:
            if not (settings.resume and stage.out.is_file()):
                begun = settings.resume and (stage.run_folder / CHECKPOINT).is_file()
                with closing(iter_train(dataclasses.replace(stage, resume=begun))) as events:
                    for event in events:
                        if isinstance(event, Progress):
                            event = Progress(done + event.done, total, event.unit, event.elapsed)
                        yield event
            done += stage.steps


def _image_settings(blurred: Any, sharp: Any, annotations: Any, axes: str | None) -> dict[str, Any]:
    """Tell folders from arrays: the fields of `TrainSettings` that say where images come from."""
    from napari_swintormer.training.data.pairs import are_arrays, array_pairs

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
