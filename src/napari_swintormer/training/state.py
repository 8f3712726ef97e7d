"""What a training step changes: the network, its moving average and the optimizer."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch

from napari_swintormer.models.swintormer import Swintormer
from napari_swintormer.training.checkpoint import (
    Checkpoint,
    check_same_settings,
    load_checkpoint,
    save_checkpoint,
)
from napari_swintormer.training.losses import make_loss

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch import Tensor

    from napari_swintormer.models.card import ModelCard
    from napari_swintormer.training.settings import TrainSettings

# Where the names of the parameters that are trained begin.
_PREFIXES = {
    "all": ("",),
    "decoder": ("up.", "reduce.", "decoder.", "refinement.", "skip.", "output."),
    "output": ("output.",),
}


class TrainingState:
    """Everything that a step changes."""

    def __init__(
        self, network: Swintormer, settings: TrainSettings, precision: torch.dtype
    ) -> None:
        self.network = network
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        self._settings = settings
        self._precision = precision
        self._loss = make_loss(settings.loss)
        self._at_once = settings.batch_size
        prefixes = _PREFIXES[settings.parameters]
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(prefixes))
        self._trained = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._trained, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    @classmethod
    def build(
        cls,
        card: ModelCard,
        weights: Mapping[str, Tensor] | None,
        settings: TrainSettings,
        device: torch.device,
        precision: torch.dtype,
    ) -> Self:
        """Build the network of `card` with the weights of a model, or with random ones."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = Swintormer(card.network)
        if weights is not None:
            network.load_state_dict(dict(weights))
        return cls(network.to(device).train(), settings, precision)

    def update(
        self, blurred: Tensor, sharp: Tensor, learning_rate: float, step: int
    ) -> tuple[Tensor, str | None]:
        """Make one step down the gradient of the loss, and move the average along.

        When memory runs out, fewer patches are computed at once and their gradients added up, in
        this step and all later ones: the step stays the same but for rounding.

        Returns
        -------
        loss, notice
            The mean loss of the patches, and a sentence when memory ran out.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        notice = None
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            try:
                loss = self._add_gradients(blurred, sharp)
                break
            except RuntimeError as error:
                if not _is_out_of_memory(error) or self._at_once == 1:
                    raise
            # out here nothing holds the failed step any more
            self._at_once = max(1, min(self._at_once, len(blurred)) // 2)
            torch.cuda.empty_cache()
            notice = (
                f"The memory of the device is too small for {len(blurred)} patches: their "
                f"gradients are computed {self._at_once} at a time and added up."
            )
        torch.nn.utils.clip_grad_norm_(self._trained, self._settings.clip)
        self._optimizer.step()
        # The first averages forget fast, or the random start would stay in them for long.
        decay = min(self._settings.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for average, new in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                average.lerp_(new, 1 - decay)
        return loss, notice

    def _add_gradients(self, blurred: Tensor, sharp: Tensor) -> Tensor:
        """Forward in the chosen precision and backward, so many patches at once as fit."""
        mixed = self._precision != torch.float32
        device = next(self.network.parameters()).device
        total = torch.zeros((), device=device)
        parts = (torch.split(batch, self._at_once) for batch in (blurred, sharp))
        for b, s in zip(*parts, strict=True):
            with torch.autocast(device.type, self._precision, enabled=mixed):
                restored = self.network(b.to(device))
            loss = self._loss(restored.float(), s.to(device)) * (len(b) / len(blurred))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
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
