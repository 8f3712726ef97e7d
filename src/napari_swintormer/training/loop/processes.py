"""Several processes that share the steps of one training, one per GPU.

``torchrun --nproc-per-node 2 -m napari_swintormer train …``, or accelerate, starts them and tells
each its number in the environment. Every process draws its share of the step's patches; the sum of
the gradients is everybody's, so all take the same step. Only the first one writes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_swintormer.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import Tensor

_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is.

    Attributes
    ----------
    number
        Of this process, from 0.
    count
        Of all.
    """

    number: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the process that validates, reports and writes."""
        return self.number == 0

    def share(self, patches: int) -> range:
        """Numbers of the patches of a step that are this process's to do."""
        return range(patches * self.number // self.count, patches * (self.number + 1) // self.count)

    def add_up(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Add up the gradients of all processes, in place, and return the sum of their losses.

        Raises
        ------
        TrainingError
            Another process is gone.
        """
        if self.count == 1:
            return loss
        import torch
        from torch import distributed

        for parameter in parameters:
            if parameter.grad is None:  # more processes than patches
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        total = torch.cat([*(g.flatten() for g in gradients), loss[None]])
        with _all_there():
            distributed.all_reduce(total)
        *sums, losses = torch.split(total, [*(g.numel() for g in gradients), 1])
        for gradient, summed in zip(gradients, sums, strict=True):
            gradient.copy_(summed.view_as(gradient))
        summed_loss: Tensor = losses[0]
        return summed_loss

    def agree(self, stop: bool, device: torch.device) -> bool:
        """Tell all processes what the first one wants, once all have come here."""
        if self.count == 1:
            return stop
        import torch
        from torch import distributed

        wanted = torch.tensor([float(stop)], device=device)
        with _all_there():
            distributed.broadcast(wanted, 0)
        return bool(wanted.item())


SINGLE_PROCESS = Processes()


@contextmanager
def join_processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the other processes of this training, if it was started as several.

    Yields
    ------
    processes, device
        Of `device`, if it is just any GPU, every process gets one of its own.
    """
    told = [os.environ.get(name) for name in _TOLD]
    if None in told or os.environ["WORLD_SIZE"] == "1":
        yield SINGLE_PROCESS, device
        return
    import torch
    from torch import distributed

    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    own = not distributed.is_initialized()
    if own:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        if own:
            distributed.destroy_process_group()


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "Another process of this training has ended, so this one ends, too. Resume the "
            "training with all of them."
        ) from error
