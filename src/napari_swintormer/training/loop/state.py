"""Everything that a training step changes: the network, its moving average and the optimizer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from napari_swintormer.engine.devices import is_out_of_memory, release_memory
from napari_swintormer.engine.tf32 import float32_products
from napari_swintormer.models.network.block import Block
from napari_swintormer.models.prior.compact import build_network
from napari_swintormer.training.loop.checkpoint import (
    Checkpoint,
    check_same_settings,
    load_checkpoint,
    save_checkpoint,
)
from napari_swintormer.training.loop.processes import SINGLE_PROCESS, Processes
from napari_swintormer.training.loop.stage import Batch, Stage, network_stage, trained_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.training.train_settings import TrainSettings


class TrainingState:
    """Network, moving average and optimizer of a training.

    The network starts from `weights`, or from random ones. `precision` is that of its forward pass.
    Without `stage`, it is trained as a network without prior. `network` takes the place of the
    network of the card.
    """

    def __init__(
        self,
        card: ModelCard,
        weights: Mapping[str, Tensor] | None,
        settings: TrainSettings,
        device: torch.device,
        precision: torch.dtype,
        stage: Stage | None = None,
        processes: Processes = SINGLE_PROCESS,
        network: nn.Module | None = None,
    ) -> None:
        if network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                network = build_network(card.network, card.prior)
        if weights is not None:
            network.load_state_dict(dict(weights))
        self.network = network.to(device).train()
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        self.stage = stage or network_stage(settings, card.network)
        self.device = device
        self.precision = precision
        self._settings = settings
        self._processes = processes
        self._at_once = settings.batch_size
        self._recompute = False
        self._trained = trained_parameters(network, self.stage)
        # Gradients are clipped to a common norm. Those of a prior beside its network can be as
        # small as the usual eps of 1e-8, which would stop them.
        self._optimizer = torch.optim.AdamW(
            self._trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, eps=1e-12
        )
        # small gradients vanish in fp16: the loss is scaled up before, and they down after
        half = precision == torch.float16
        self._scaler = torch.amp.GradScaler(device.type, enabled=half)

    def update(
        self, blurred: Tensor, sharp: Tensor, learning_rate: float, step: int
    ) -> tuple[Tensor, str | None]:
        """Make one step down the gradient of the loss, and update the moving average.

        When memory runs out, the gradients of fewer patches are computed at once and added up. If
        one patch is still too large, activations are computed again instead of kept. Both last for
        all later steps, and change the step by rounding only.

        Parameters
        ----------
        blurred, sharp
            Patches of this process.
        learning_rate, step
            Learning rate and number of this step, from 0.

        Returns
        -------
        loss, notice
            Mean loss of all patches of the step, and a sentence when memory ran out.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        notice = None
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            try:
                loss = self._add_gradients(blurred, sharp, step)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or (self._at_once == 1 and self._recompute):
                    raise
            # outside of the except block nothing holds the memory of the failed step
            notice = self._use_less_memory(len(blurred))
        loss = self._processes.all_reduce(self._trained, loss)
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._trained, self._settings.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        # a large decay would keep the random parameters of the start for long
        decay = min(self._settings.ema, (step + 1) / (step + 10))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(list(self.ema.parameters()), list(self.network.parameters()), step)
        return loss, notice

    def _use_less_memory(self, patches: int) -> str:
        release_memory(self.device)
        if self._at_once == 1 or patches == 1:
            self._at_once = 1
            self._recompute_blocks()
            return (
                "The device has too little memory for one patch: activations are computed twice "
                "instead of kept, which takes about half as long again."
            )
        self._at_once = max(1, min(self._at_once, patches) // 2)
        return (
            f"The device has too little memory for {patches} patches: their gradients are computed "
            f"{self._at_once} at a time and added up."
        )

    def _recompute_blocks(self) -> None:
        self._recompute = True
        for module in self.network.modules():
            if isinstance(module, Block):
                module.recompute = True
        checkpoint = getattr(self.network, "enable_gradient_checkpointing", None)
        if checkpoint is not None:  # a network of diffusers
            checkpoint()

    def _add_gradients(self, blurred: Tensor, sharp: Tensor, step: int) -> Tensor:
        """Run forward and backward for as many patches at once as fit; return the loss."""
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
            with self.products():
                with torch.autocast(self.device.type, self.precision, enabled=mixed):
                    loss = self.stage.loss(batch) * (len(b) / count)
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            first += len(b)
        return total

    def products(self) -> AbstractContextManager[None]:
        """Let products in float32 be exact, or as the precision ``"tf32"`` rounds them."""
        return float32_products(tf32=self._settings.precision == "tf32")

    def save(self, step: int, resume_key: Mapping[str, Any]) -> None:
        """Write a checkpoint."""
        checkpoint = Checkpoint(
            step,
            resume_key,
            dict(self.network.state_dict()),
            dict(self.ema.state_dict()),
            self._optimizer.state_dict(),
            self._at_once,
            self._recompute,
            self._scaler.state_dict(),
        )
        save_checkpoint(self._settings.run_folder, checkpoint)

    def restore(self, resume_key: Mapping[str, Any]) -> int:
        """Load the checkpoint and return the number of its step."""
        folder = self._settings.run_folder
        checkpoint = load_checkpoint(folder)
        check_same_settings(folder, checkpoint, resume_key)
        self.network.load_state_dict(dict(checkpoint.network))
        self.ema.load_state_dict(dict(checkpoint.ema))
        self._optimizer.load_state_dict(dict(checkpoint.optimizer))
        self._at_once = checkpoint.at_once
        if checkpoint.recompute:
            self._recompute_blocks()
        if checkpoint.scaler:
            self._scaler.load_state_dict(dict(checkpoint.scaler))
        return checkpoint.step
