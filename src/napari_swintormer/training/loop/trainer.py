"""A training under way: its model, images and log, and the files that it writes."""

from __future__ import annotations

import copy
import math
import shutil
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from napari_swintormer.engine.devices import resolve_precision, slow_precision
from napari_swintormer.errors import TrainingError
from napari_swintormer.events import Notice, Progress, Trained
from napari_swintormer.models.files.kinds import Kind, detect
from napari_swintormer.models.files.weights import load_weights, save_weights, written_beside
from napari_swintormer.training.data.dataset import find_plane_pairs
from napari_swintormer.training.data.feeding import batches, on_device
from napari_swintormer.training.data.patches import PatchSampler
from napari_swintormer.training.data.prior_cache import PriorCache
from napari_swintormer.training.degradations.on_device import RawPatch, develop, draw_noise
from napari_swintormer.training.loop.checkpoint import check_new_run
from napari_swintormer.training.loop.log import TrainingLog
from napari_swintormer.training.loop.prior_sampling import sample_priors, sampling_recipe
from napari_swintormer.training.loop.saved_settings import save_settings
from napari_swintormer.training.loop.start import card_of_start, prior_kind, start_training
from napari_swintormer.training.loop.state import TrainingState
from napari_swintormer.training.loop.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from torch import Tensor

    from napari_swintormer.training.loop.processes import Processes
    from napari_swintormer.training.train_settings import TrainSettings

BEST, LAST = "best.safetensors", "last.safetensors"
_FINISHING_PATCHES = 48  # patches for `Stage.finish`


class Trainer:
    """Everything of a training but its loop.

    Attributes
    ----------
    notices
        Remarks to show before the first step.
    step
        Number of finished steps, with those before the checkpoint.
    """

    def __init__(self, settings: TrainSettings, device: torch.device, processes: Processes) -> None:
        self.settings, self._processes = settings, processes
        precision = resolve_precision(settings.precision, device)
        self._prior = prior_kind(settings)
        start = start_training(settings)
        self.card = start.card
        self._begin = card_of_start(settings)
        if not settings.resume:
            check_new_run(settings)
        self._start = start, device, precision

    def preparing(self) -> Generator[Progress]:
        """Check the images and make everything ready; must come before anything else."""
        settings, (start, device, precision) = self.settings, self._start
        processes, stage = self._processes, start.stage
        del self._start  # the state has its own copy of the weights
        channels, intensity = self.card.network.channels, self.card.intensity
        pairs, held_out, images, notices = yield from find_plane_pairs(settings, channels)
        self.notices = [*map(Notice, slow_precision(precision, device)), *notices]
        if self._leaves_prior_out():
            sentence = "The new model has no prior: the one of its start fits the old network only."
            self.notices.append(Notice(sentence))
        needs_latents = self._prior == "compact" or settings.stage == "denoiser"
        if needs_latents and any(pair.annotations is not None for pair in pairs):
            raise TrainingError(  # an image with holes has no latent
                "A model with a prior cannot be trained with annotations. Leave them out, or crop "
                "the images."
            )
        priors: PriorCache | None = None
        if start.prior is not None:
            recipe = sampling_recipe(start.prior, settings.seed)
            priors = PriorCache(settings.latents, recipe, intensity)
            yield from sample_priors(
                *(priors, [*pairs, *held_out], start.prior, intensity),
                *((device, precision), settings.seed, processes),
            )
        self.state = TrainingState(
            self.card, start.weights, settings, device, precision, stage, processes, start.network
        )
        del start
        self._resume_key = self._make_resume_key(images)
        self.step = self.state.restore(self._resume_key) if settings.resume else 0
        self._losses: list[Tensor] = []
        self.sampler = PatchSampler(
            *(pairs, settings.patch_size, channels, intensity, settings.seed),
            *(settings.synthesize, priors),
            raw=settings.degrade_on == "device",
            network=self.card.network,
            pair_share=settings.pair_share,
        )
        self.validates = bool(held_out) and stage.image is not None
        if processes.writes:
            save_settings(settings)
            self.log = TrainingLog(settings.run_folder, self.step, tensorboard=settings.tensorboard)
            kept = held_out if self.validates else []
            self._validation = Validation(kept, settings, self.card, priors)

    def _leaves_prior_out(self) -> bool:
        """Whether the model to start from has a prior, and the new one has none."""
        had = self._begin is not None and self._begin.prior is not None
        return had and self.card.prior is None

    def _make_resume_key(self, images: str) -> dict[str, object]:
        sizes = self.card.network
        # checkpoints of older versions lack it
        network = sizes.model_dump(exclude=None if sizes.unclear else {"unclear"})
        key = self.settings.resume_key() | {"images": images, "network": network}
        if self._prior:
            key |= {"stage": self.settings.stage} | self.card.model_dump(include={"prior"})
        return key

    def batches(self) -> Generator[tuple[Tensor, ...]]:
        """Yield this process's patches of the remaining steps, on the device."""

        def sizes(step: int) -> tuple[int, range]:
            side, count = self.settings.size_of_step(step)
            return side, self._processes.share(count)

        settings, steps = self.settings, range(self.step, self.settings.steps)
        prepared = batches(
            *(self.sampler, steps, settings.workers, sizes), processes=settings.worker_processes
        )
        return on_device(prepared, self.state.device)

    def update(self, patches: tuple[Tensor, ...], rate: float) -> str | None:
        """Make one step; return a sentence when memory ran out."""
        blurred, sharp = patches if len(patches) == 2 else self._develop(RawPatch(*patches))
        loss, notice = self.state.update(blurred, sharp, rate, self.step)
        self._losses.append(loss.detach())
        self.step += 1
        return notice

    def _develop(self, raw: RawPatch) -> tuple[Tensor, Tensor]:
        """Blur patches on the device."""
        settings = self.settings
        first = self._processes.share(settings.size_of_step(self.step)[1]).start
        with torch.no_grad():
            return develop(raw, draw_noise(raw, settings.seed, self.step, first))

    def save(self) -> None:
        """Write a checkpoint."""
        self.state.save(self.step, self._resume_key)

    def report(self, rate: float, *, validate: bool = True) -> Trained:
        """Write a line of the log; after a validation also a picture, and the best weights."""
        losses = [float(loss) for loss in self._losses]  # the device is asked only here
        loss = fmean(losses) if losses else math.nan
        self._losses.clear()
        if losses and not math.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss} by step {self.step} (got "
                f"learning_rate={self.settings.learning_rate:g}). Start again with a lower "
                "learning rate, or with precision='fp32'."
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
        """Write the averaged weights as they are, with the scores of a report on their card."""
        self._write(LAST, report or Trained(self.step, self.settings.steps, math.nan))

    def _write(self, name: str, report: Trained) -> None:
        network, path = self.state.ema, self.settings.run_folder / name
        if (write := self.state.stage.write) is not None:
            write(path, network)
            return
        if (finish := self.state.stage.finish) is not None:
            network = copy.deepcopy(network)
            patches = self.sampler.draw_validation(_FINISHING_PATCHES)  # of a compact prior
            finish(network, *map(torch.from_numpy, patches))
        # with a compact prior the scores of earlier stages are kept
        earlier = self._begin.metrics if self._begin and self._prior == "compact" else {}
        metrics = earlier | self._metrics(report)
        card = self.card.model_copy(update={"metrics": metrics})
        save_weights(path, network.state_dict(), card)

    def _metrics(self, report: Trained) -> dict[str, float]:
        """Return the scores of a report with the names that the card gives them."""
        stage = f"stage {self.settings.stage}, " if self._prior == "compact" else ""
        metrics = {f"{stage}steps" if stage else "training steps": float(report.step)}
        if report.psnr is not None and report.psnr_blurred is not None:
            metrics[f"{stage}validation PSNR, dB"] = round(report.psnr, 3)
            metrics["validation PSNR of the blurred patches, dB"] = round(report.psnr_blurred, 3)
        return metrics

    def finish(self) -> None:
        """Copy the best or the last weights to the weights file that the settings name."""
        best = self.validates and self.settings.keep == "best"
        put_in_place(self.settings.run_folder / (BEST if best else LAST), self.settings.out)


def put_in_place(weights: Path, out: Path) -> None:
    """Copy the weights of a run to a file, under the name of the file."""
    if detect(weights) is not Kind.OWN:  # the denoiser of a prior, which has no card
        with written_beside(out) as partial:
            shutil.copyfile(weights, partial)
        return
    card, state = load_weights(weights)
    save_weights(out, state, card)
