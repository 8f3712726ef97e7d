"""Batches of training patches, prepared ahead by threads or processes and sent to the device."""

from __future__ import annotations

import os
import pickle
import signal
from collections import deque
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import torch
    from numpy.typing import NDArray

    from napari_swintormer.training.data.patches import PatchSampler

    Prepared = tuple[NDArray[Any], ...]  # blurred and sharp, or what the device blurs itself
    Sizes = Callable[[int], tuple[int, range]]

_AHEAD = 4  # batches that are prepared in advance
_sampler: PatchSampler | None = None  # of a process that prepares patches


def batches(
    sampler: PatchSampler, steps: range, workers: int, sizes: Sizes, *, processes: bool = False
) -> Generator[Prepared]:
    """Yield the batches of some steps: arrays ``(B, …)`` of what the sampler draws.

    `workers` threads, or processes, prepare them in advance. `sizes` returns the side of the
    patches of a step, and their numbers.

    Raises
    ------
    TrainingError
        The images cannot be sent to processes, or a process ended.
    """
    pool: Executor
    if processes:
        context = get_context("spawn")
        pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(pickle_of(sampler),)
        )
        prepare: Callable[..., Prepared] = _prepare_here
    else:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="patches")
        prepare = partial(_prepare, sampler)
    ahead = max(_AHEAD, 2 * workers) if processes else _AHEAD
    try:
        waiting = deque(pool.submit(prepare, step, *sizes(step)) for step in steps[:ahead])
        for later in range(ahead, ahead + len(steps)):
            batch = waiting.popleft().result()
            if later < len(steps):
                waiting.append(pool.submit(prepare, steps[later], *sizes(steps[later])))
            yield batch
    except BrokenProcessPool as error:
        raise TrainingError(
            "A process that prepares patches has ended. Start the training from a script under "
            "`if __name__ == '__main__':`, or leave worker_processes out."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def on_device(prepared: Generator[Prepared], device: torch.device) -> Generator[tuple[Any, ...]]:
    """Send batches to a device; the next one is on its way while one is used."""
    import torch  # not above: processes that prepare patches start sooner without it

    from napari_swintormer.models.transfer import send

    sent: tuple[Any, ...] | None = None
    try:
        for batch in prepared:
            coming = tuple(send(torch.from_numpy(array), device) for array in batch)
            if sent is not None:
                yield sent
            sent = coming
        if sent is not None:
            yield sent
    finally:
        prepared.close()


def pickle_of(sampler: PatchSampler) -> bytes:
    """Pickle a sampler for other processes."""
    try:
        return pickle.dumps(sampler)
    except Exception as error:  # arrays of any library can refuse in any way
        raise TrainingError(
            "These images cannot be sent to processes. Train from files, or leave "
            "worker_processes out."
        ) from error


def _begin(pickled: bytes) -> None:
    """Make a process ready: it leaves Ctrl-C to its parent, and torch works in one thread."""
    global _sampler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    _sampler = pickle.loads(pickled)


def _prepare_here(step: int, side: int, numbers: range) -> Prepared:
    assert _sampler is not None
    return _prepare(_sampler, step, side, numbers)


def _prepare(sampler: PatchSampler, step: int, side: int, numbers: range) -> Prepared:
    patches = [sampler.draw(step, number, side) for number in numbers]
    if not patches:  # there are more processes than patches
        return (np.empty((0, 0, side, side), np.float32),) * 2
    return tuple(np.stack(arrays) for arrays in zip(*patches, strict=True))
