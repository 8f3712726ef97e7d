"""The training loop: pairs → patches → loss → weights."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

from napari_swintormer.events import Event, Notice, Progress
from napari_swintormer.models.catalogue import replacement
from napari_swintormer.openmp import import_torch
from napari_swintormer.training.loop.checkpoint import FILE_NAME, check_new_run

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_swintormer.training.loop.processes import Processes
    from napari_swintormer.training.loop.trainer import Trainer
    from napari_swintormer.training.train_settings import TrainSettings

_REPORT_EVERY = 50  # steps between two lines of the log
_FINAL_LEARNING_RATE = 1e-6


def iter_train(settings: TrainSettings) -> Generator[Event]:
    """Train and report every step.

    Closing the iterator stops the training after the current step. It then writes a checkpoint, so
    that ``resume`` continues without loss, and the weights as they are, ``last.safetensors``. If
    several processes share the training, only the first one reports.

    Yields
    ------
    Progress, Trained, Notice
        One `Progress` per checked pair and per step, and one `Trained` per line of the log.
    """
    import_torch()
    from napari_swintormer.training.loop.start import prior_kind

    if sentence := replacement(settings.from_model):
        yield Notice(sentence)
    if settings.stage == "prior":
        yield from _iter_stages(settings)
        return
    if prior_kind(settings) == "ldm_sr":
        yield from _plan([settings])
    yield from _iter_stage(settings)


def _plan(stages: Sequence[TrainSettings]) -> Generator[Event]:
    """Say what the stages of the paper's prior take; of several processes the first one says it."""
    from napari_swintormer.training.loop.ldm_plan import plan_ldm

    if stages and os.environ.get("RANK", "0") == "0":
        yield Notice(plan_ldm(stages))


def _iter_stage(settings: TrainSettings) -> Generator[Event]:
    """Run one stage of a training."""
    from napari_swintormer.engine.devices import resolve_device
    from napari_swintormer.training.loop.processes import join_processes
    from napari_swintormer.training.loop.trainer import Trainer

    with join_processes(resolve_device(settings.device)) as (processes, device):
        trainer = Trainer(settings, device, processes)
        preparing = trainer.preparing()
        if processes.writes:
            yield from preparing
        else:
            for _ in preparing:
                pass
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
        processes.broadcast(True, device)  # no process returns before the weights are written


def _iter_steps(trainer: Trainer, processes: Processes) -> Generator[Event]:
    """Run the steps; only the first process reports and writes."""
    settings, first_step = trainer.settings, trainer.step
    yield from trainer.notices
    batches = trainer.batches()
    rate = learning_rate(trainer.step, settings)
    try:
        new = settings.from_model is not None and trainer.step == 0
        if new and trainer.validates and processes.writes:
            yield trainer.report(rate)  # the score that training must exceed
        began = time.perf_counter()
        for patches in batches:
            rate = learning_rate(trainer.step, settings)
            notice = trainer.update(patches, rate)
            step = trainer.step
            elapsed = time.perf_counter() - began
            eta = elapsed / (step - first_step) * (settings.steps - step)
            if notice is not None:
                yield Notice(notice)
            yield Progress(step, settings.steps, "steps", elapsed, eta)

            # Every now and then: a checkpoint, a line of the log, a validation.
            validate = step % settings.validate_every == 0
            if processes.writes:
                if step % settings.checkpoint_every == 0 or step == settings.steps:
                    trainer.save()
                if step < settings.steps and (validate or step % _REPORT_EVERY == 0):
                    yield trainer.report(rate, validate=validate)
            if validate and settings.patience:
                vain = trainer.log.since_best if processes.writes else 0
                if processes.broadcast(vain >= settings.patience, trainer.state.device):
                    yield Notice(f"Stopped early: none of the last {vain} validations was better.")
                    break
    except GeneratorExit:
        if processes.writes:
            trainer.save()
            trainer.write_last()
        raise
    finally:
        batches.close()


def _iter_stages(settings: TrainSettings) -> Generator[Event]:
    """Run the stages of a prior one after the other, each from the model of the one before."""
    from napari_swintormer.engine.devices import resolve_device
    from napari_swintormer.training.loop.processes import join_processes
    from napari_swintormer.training.loop.start import prior_kind, stages_of

    if not settings.resume:
        check_new_run(settings)
    stages = stages_of(settings)
    if prior_kind(settings) == "ldm_sr":
        yield from _plan([s for s in stages if not (settings.resume and s.out.is_file())])
    done, total = 0, sum(stage.steps for stage in stages)
    with join_processes(resolve_device(settings.device)):  # once for all stages
        for stage in stages:
            if not (settings.resume and stage.out.is_file()):
                resume = settings.resume and (stage.run_folder / FILE_NAME).is_file()
                with closing(_iter_stage(dataclasses.replace(stage, resume=resume))) as events:
                    for event in events:
                        if isinstance(event, Progress) and event.unit == "steps":
                            event = Progress(done + event.done, total, event.unit, event.elapsed)
                        yield event
            done += stage.steps


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Return the rate of a step, counted from 0: a linear rise, then half a cosine to 1e-6."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    cosine = (1 + math.cos(math.pi * share)) / 2
    return _FINAL_LEARNING_RATE + (settings.learning_rate - _FINAL_LEARNING_RATE) * cosine
