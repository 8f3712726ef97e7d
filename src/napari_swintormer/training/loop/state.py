"""What a training step changes: the network, its moving average and the optimizer."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch

from napari_swintormer.models.network.block import Block
from napari_swintormer.models.prior.compact import build_network
from napari_swintormer.training.loop.checkpoint import (
    Checkpoint,
    check_same_settings,
    load_checkpoint,
    save_checkpoint,
)
from napari_swintormer.training.loop.processes import SINGLE_PROCESS
from napari_swintormer.training.loop.stage import Batch, network_stage, trained_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch import Tensor

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.network.swintormer import Swintormer
    from napari_swintormer.training.loop.processes import Processes
    from napari_swintormer.training.loop.stage import Stage
    from napari_swintormer.training.train_settings import TrainSettings


class TrainingState:
    """Everything that a step changes.

    Parameters
    ----------
    network
        On its device.
    stage
        What is trained of it, and how.
    settings
        Of the training.
    precision
        Of the forward pass.
    processes
        That share every step.
    """

    def __init__(
        self,
        network: Swintormer,
        stage: Stage,
        settings: TrainSettings,
        precision: torch.dtype,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.network = network
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        self.stage = stage
        self.device = next(network.parameters()).device
        self.precision = precision
        self._settings = settings
        self._processes = processes
        self._at_once = settings.batch_size
        self._recompute = False
        self._trained = trained_parameters(network, stage)
        # Gradients are cut to a common norm, so that those of a prior beside its network can be as
        # small as the usual 1e-8: it would hardly learn.
        self._optimizer = torch.optim.AdamW(
            self._trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, eps=1e-12
        )
        # fp16 loses small gradients: the loss is scaled up before them, and they down again
        half = precision == torch.float16
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=half)

    @classmethod
    def build(
        cls,
        card: ModelCard,
        weights: Mapping[str, Tensor] | None,
        settings: TrainSettings,
        device: torch.device,
        precision: torch.dtype,
        stage: Stage | None = None,
        processes: Processes = SINGLE_PROCESS,
    ) -> Self:
        """Build the network of `card` with the weights of a model, or with random ones.

        Without a `stage` the network is trained as the settings say.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = build_network(card.network, card.prior)
        if weights is not None:
            network.load_state_dict(dict(weights))
        stage = stage or network_stage(settings)
        return cls(network.to(device).train(), stage, settings, precision, processes)

    def update(
        self, blurred: Tensor, sharp: Tensor, learning_rate: float, step: int
    ) -> tuple[Tensor, str | None]:
        """Make one step down the gradient of the loss, and move the average along.

        When memory runs out, the gradients of fewer patches are computed at once and added up, and
        when there is no room for one, the activations of a block are computed again instead of
        kept; in this step and all later ones. The step stays the same but for rounding.

        Parameters
        ----------
        blurred, sharp
            The patches that this process has to do of the step.
        learning_rate
            Of this step.
        step
            Its number, from 0.

        Returns
        -------
        loss, notice
            The mean loss of all patches of the step, and a sentence when memory ran out.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        notice = None
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            try:
                loss = self._add_gradients(blurred, sharp, step)
                break
            except RuntimeError as error:
                if not _is_out_of_memory(error) or (self._at_once == 1 and self._recompute):
                    raise
            # out here nothing holds the failed step any more
            notice = self._use_less_memory(len(blurred))
        loss = self._processes.add_up(self._trained, loss)
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._trained, self._settings.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        # The first averages forget fast, or the random start would stay in them for long.
        decay = min(self._settings.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for average, new in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                average.lerp_(new, 1 - decay)
        return loss, notice

    def _use_less_memory(self, patches: int) -> str:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self._at_once == 1 or patches == 1:
            self._at_once = 1
            self._recompute_blocks()
            return (
                "The memory of the device is too small for one patch: activations are computed "
                "twice instead of kept, which takes about half as long again."
            )
        self._at_once = max(1, min(self._at_once, patches) // 2)
        return (
            f"The memory of the device is too small for {patches} patches: their "
            f"gradients are computed {self._at_once} at a time and added up."
        )

    def _recompute_blocks(self) -> None:
        self._recompute = True
        for module in self.network.modules():
            if isinstance(module, Block):
                module.recompute = True

    def _add_gradients(self, blurred: Tensor, sharp: Tensor, step: int) -> Tensor:
        """Forward in the chosen precision and backward, so many patches at once as fit."""
        mixed = self.precision != torch.float32
        _, count = self._settings.size_of_step(step)
        first = self._processes.share(count).start
        total = torch.zeros((), device=self.device)
        parts = (torch.split(batch, self._at_once) for batch in (blurred, sharp))
        for b, s in zip(*parts, strict=True) if len(blurred) else ():
            batch = Batch(
                *(self.network, b.to(self.device), s.to(self.device)),
                *(self._settings.seed, step, first, count),
            )
            with torch.autocast(self.device.type, self.precision, enabled=mixed):
                loss = self.stage.loss(batch) * (len(b) / count)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            first += len(b)
        return total

    def save(self, step: int, decisive: Mapping[str, Any]) -> None:
        """Write a checkpoint."""
        checkpoint = Checkpoint(
            step,
            decisive,
            self.network.state_dict(),
            self.ema.state_dict(),
            self._optimizer.state_dict(),
            self._at_once,
            self._recompute,
            self._scaler.state_dict(),
        )
        save_checkpoint(self._settings.run_folder, checkpoint)

    def restore(self, decisive: Mapping[str, Any]) -> int:
        """Take the state of the checkpoint and return the steps that it has done."""
        folder = self._settings.run_folder
        checkpoint = load_checkpoint(folder)
        check_same_settings(folder, checkpoint, decisive)
        self.network.load_state_dict(dict(checkpoint.network))
        self.ema.load_state_dict(dict(checkpoint.ema))
        self._optimizer.load_state_dict(dict(checkpoint.optimizer))
        self._at_once = checkpoint.at_once
        if checkpoint.recompute:
            self._recompute_blocks()
        if checkpoint.scaler:
            self._scaler.load_state_dict(dict(checkpoint.scaler))
        return checkpoint.step


class LossMean:
    """Mean of the losses since it was last taken; asks the device for them only then."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, loss: Tensor) -> None:
        """Count a loss in."""
        self._losses.append(loss.detach())

    def take(self) -> float:
        """Return the mean, NaN of none, and start anew."""
        values = [float(loss) for loss in self._losses]
        self._losses.clear()
        return math.fsum(values) / len(values) if values else math.nan


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell a lack of memory from other errors; the CPU's allocator has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
