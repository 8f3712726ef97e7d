"""A training under way: its model, its images, its log, and what it writes."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch

from napari_swintormer.engine.devices import resolve_precision, slow_precision
from napari_swintormer.errors import TrainingError
from napari_swintormer.events import Notice, Trained
from napari_swintormer.models.files.weights import load_weights, save_weights
from napari_swintormer.training.data.dataset import find_plane_pairs
from napari_swintormer.training.data.patches import PatchSampler, batches
from napari_swintormer.training.loop.initial_model import (
    check_nothing_there,
    concerns_prior,
    start_model,
)
from napari_swintormer.training.loop.log import TrainingLog
from napari_swintormer.training.loop.prior_losses import STAGES
from napari_swintormer.training.loop.prior_stages import (
    check_complete,
    earlier_metrics,
    stage_metrics,
    start_with_prior,
)
from napari_swintormer.training.loop.saved_settings import save_settings
from napari_swintormer.training.loop.stage import network_stage
from napari_swintormer.training.loop.state import LossMean, TrainingState
from napari_swintormer.training.loop.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_swintormer.training.loop.processes import Processes
    from napari_swintormer.training.train_settings import TrainSettings

BEST, LAST = "best.safetensors", "last.safetensors"
_FINISHING_PATCHES = 48  # what the latent of an autoencoder is measured on


class Trainer:
    """Everything that a training holds beside its loop.

    Parameters
    ----------
    settings
        Of the training.
    device
        Where it runs.
    processes
        That share it.

    Attributes
    ----------
    notices
        What its owner should know before it begins.
    step
        Steps done: those of the checkpoint that it goes on from, or none.
    """

    def __init__(self, settings: TrainSettings, device: torch.device, processes: Processes) -> None:
        self.settings, self._processes = settings, processes
        precision = resolve_precision(settings.precision, device)
        self._with_prior = concerns_prior(settings)
        begin = start_with_prior if self._with_prior else start_model
        self.card, weights = begin(settings)
        stage = STAGES[settings.stage] if self._with_prior else network_stage(settings)
        self._earlier = earlier_metrics(settings) if self._with_prior else {}
        if not settings.resume:
            check_nothing_there(settings)
        scenes, held_out, images, notices = find_plane_pairs(settings, self.card.network.channels)
        self.notices = [*map(Notice, slow_precision(precision, device)), *notices]
        if self._with_prior:
            check_complete(scenes)

        # Network, moving average and optimizer, fresh or as the checkpoint left them.
        self.state = TrainingState.build(
            self.card, weights, settings, device, precision, stage, processes
        )
        self._decisive = settings.decisive() | {
            "images": images,
            "network": self.card.network.model_dump(),
        }
        if self._with_prior:
            prior = self.card.model_dump(include={"prior"})
            self._decisive |= {"stage": settings.stage} | prior
        self.step = self.state.restore(self._decisive) if settings.resume else 0
        self._losses = LossMean()
        self.sampler = PatchSampler(
            scenes,
            settings.patch_size,
            self.card.network.channels,
            self.card.intensity,
            settings.seed,
            settings.synthesize,
        )
        self.validates = bool(held_out)
        if processes.writes:
            save_settings(settings)
            self.log = TrainingLog(settings.run_folder, self.step, tensorboard=settings.tensorboard)
            self._validation = Validation(
                held_out,
                settings.largest_patch,
                settings.batch_size,
                self.card,
                settings.synthesize,
            )

    def batches(self) -> Generator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield this process's patches of the steps to do, prepared ahead by threads."""
        steps = range(self.step, self.settings.steps)
        sizes = self.settings.size_of_step
        source = batches(
            self.sampler,
            steps,
            self.settings.workers,
            lambda step: (sizes(step)[0], self._processes.share(sizes(step)[1])),
        )
        try:
            for blurred, sharp in source:
                yield torch.from_numpy(blurred), torch.from_numpy(sharp)
        finally:
            source.close()

    def update(self, blurred: torch.Tensor, sharp: torch.Tensor, rate: float) -> str | None:
        """Make one step; return a sentence when memory ran out."""
        loss, notice = self.state.update(blurred, sharp, rate, self.step)
        self._losses.add(loss)
        self.step += 1
        return notice

    def save(self) -> None:
        """Write a checkpoint."""
        self.state.save(self.step, self._decisive)

    def report(self, rate: float, *, validate: bool = True) -> Trained:
        """Write a line of the log, with a picture and the best weights where there are any.

        Raises
        ------
        TrainingError
            The loss is no number any more.
        """
        some, loss = len(self._losses) > 0, self._losses.take()
        if some and not math.isfinite(loss):
            raise TrainingError(
                f"The training lost its way before step {self.step}: its loss is no number any "
                f"more. Start anew with a lower learning rate (got "
                f"{self.settings.learning_rate:g}), or in another precision."
            )
        scores = self._validation.run(self.state) if validate else None
        picture = None
        if scores is not None:
            picture = self.settings.run_folder / "validation" / f"step_{self.step:06}.png"
            self._validation.save_picture(picture)
        psnr, psnr_blurred = scores or (None, None)
        line = Trained(self.step, self.settings.steps, loss, psnr, psnr_blurred, picture)
        if self.log.write(line, rate):
            self._write(BEST, line)
        return line

    def write_last(self, report: Trained | None = None) -> None:
        """Write the averaged weights as they are, and what was measured on them if it was."""
        self._write(LAST, report or Trained(self.step, self.settings.steps, math.nan))

    def _write(self, name: str, report: Trained) -> None:
        network = self.state.ema
        if (finish := self.state.stage.finish) is not None:
            network = copy.deepcopy(network)
            patches = self.sampler.draw_validation(_FINISHING_PATCHES)
            finish(network, *map(torch.from_numpy, patches))
        metrics = self._earlier | (
            stage_metrics(self.settings.stage, report) if self._with_prior else _metrics(report)
        )
        card = self.card.model_copy(update={"metrics": metrics})
        save_weights(self.settings.run_folder / name, network.state_dict(), card)

    def finish(self) -> None:
        """Copy the weights that were asked for to where the user wants them."""
        best = self.validates and self.settings.keep == "best"
        put_in_place(self.settings.run_folder / (BEST if best else LAST), self.settings.out)


def put_in_place(weights: Path, out: Path) -> None:
    """Copy weights of a run to where the user wants them, under that name.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    card, state = load_weights(weights)
    save_weights(out, state, card)


def _metrics(report: Trained) -> dict[str, float]:
    metrics = {"training steps": float(report.step)}
    if report.psnr is not None and report.psnr_blurred is not None:
        metrics["validation PSNR, dB"] = round(report.psnr, 3)
        metrics["validation PSNR of the blurred patches, dB"] = round(report.psnr_blurred, 3)
    return metrics
