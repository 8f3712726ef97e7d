"""Several processes that share the steps of one training, one per GPU.

``torchrun --nproc-per-node 2 -m napari_swintormer train …``, or accelerate, starts the processes
and numbers them in the environment. Every process computes the gradients of its share of the
patches. The sum of all gradients makes the step, so all processes make the same step. Only the
first process writes.
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

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """Number of this process, from 0, and number of all processes."""

    rank: int = 0
    world_size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process validates, reports and writes."""
        return self.rank == 0

    def share(self, patches: int) -> range:
        """Return the numbers of this process's patches in a step of `patches` patches."""
        first, stop = (patches * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return range(first, stop)

    def all_reduce(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Sum the gradients of all processes in place, and return the sum of their losses."""
        if self.world_size == 1:
            return loss
        import torch
        from torch import distributed
        from torch.nn.utils import parameters_to_vector, vector_to_parameters

        gradients = []
        for parameter in parameters:
            if parameter.grad is None:  # there are more processes than patches
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        total = parameters_to_vector([*gradients, loss])
        with _others_alive():
            distributed.all_reduce(total)
        vector_to_parameters(total, [*gradients, loss])
        return loss

    def broadcast(self, decision: bool, device: torch.device) -> bool:
        """Wait for all processes, and return the decision of the first one."""
        if self.world_size == 1:
            return decision
        import torch
        from torch import distributed

        sent = torch.tensor([float(decision)], device=device)
        with _others_alive():
            distributed.broadcast(sent, 0)
        return bool(sent.item())

    def wait(self, device: torch.device) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            import torch

            self.all_reduce([], torch.zeros((), device=device))


SINGLE_PROCESS = Processes()


@contextmanager
def join_processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the other processes of this training, if there are any.

    Yields
    ------
    processes, device
        If `device` is a GPU without number, every process gets its own GPU.
    """
    values = [os.environ.get(name) for name in _VARIABLES]
    if None in values or os.environ["WORLD_SIZE"] == "1":
        yield SINGLE_PROCESS, device
        return
    import torch
    from torch import distributed

    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    joins = not distributed.is_initialized()
    if joins:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        if joins:
            distributed.destroy_process_group()


@contextmanager
def _others_alive() -> Iterator[None]:
    """Turn the failure of a collective operation into a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "Another process of this training has ended, so this one ends, too. Resume the "
            "training with all of them."
        ) from error
