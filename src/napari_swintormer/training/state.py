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

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch import Tensor

    from napari_swintormer.models.card import ModelCard
    from napari_swintormer.training.settings import TrainSettings


class TrainingState:
    """Everything that a step changes."""

    def __init__(self, network: Swintormer, settings: TrainSettings) -> None:
        self.network = network
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        self._settings = settings
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    @classmethod
    def build(
        cls,
        card: ModelCard,
        weights: Mapping[str, Tensor] | None,
        settings: TrainSettings,
        device: torch.device,
    ) -> Self:
        """Build the network of `card` with the weights of a model, or with random ones."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = Swintormer(card.network)
        if weights is not None:
            network.load_state_dict(dict(weights))
        return cls(network.to(device).train(), settings)

    def update(self, loss: Tensor, learning_rate: float, step: int) -> None:
        """Make one step down the gradient of `loss`, and move the average along."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._settings.clip)
        self._optimizer.step()
        # The first averages forget fast, or the random start would stay in them for long.
        decay = min(self._settings.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for average, new in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                average.lerp_(new, 1 - decay)

    def save(self, step: int, decisive: Mapping[str, Any]) -> None:
        """Write a checkpoint."""
        checkpoint = Checkpoint(
            step,
            decisive,
            self.network.state_dict(),
            self.ema.state_dict(),
            self._optimizer.state_dict(),
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
        return checkpoint.step


class LossMean:
    """Mean of the losses since it was last taken; asks the device for them only then."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Count a loss in."""
        self._losses.append(loss.detach())

    def take(self) -> float:
        """Return the mean, NaN of none, and start anew."""
        values = [float(loss) for loss in self._losses]
        self._losses.clear()
        return math.fsum(values) / len(values) if values else math.nan
