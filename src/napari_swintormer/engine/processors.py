"""A device at work: tiles go there, restored tiles come back, and memory can run out.

`Processor` does one batch after the other, as a CPU does; `CudaProcessor` lets copies and work
overlap. What the rest of the engine knows of devices beyond their names is here.
"""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch

from napari_swintormer.engine.devices import device_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.models.prior.noise import TileOrigin
    from napari_swintormer.models.stepwise import Stepwise
    from napari_swintormer.models.tile_restorer import TileRestorer

    Tiles = NDArray[np.float32]

# How the libraries below torch say it where they raise no type of their own.
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, cuDNN, MPS
    "can't allocate memory",  # torch on the CPU
    "not enough memory",  # torch on the CPU, on Windows
    "alloc_failed",  # cuBLAS, cuDNN and their kin
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, of the device or of the computer."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(saying in text for saying in _OUT_OF_MEMORY)


class Processor:
    """A device that works on one batch at a time.

    Parameters
    ----------
    device
        Where the restorer lies.

    Attributes
    ----------
    ahead
        Batches that may be started before the result of an earlier one is taken.
    """

    ahead = 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def name(self) -> str:
        """For people."""
        return device_name(self.device)

    def start(
        self,
        restorer: TileRestorer,
        dtype: torch.dtype,
        tiles: Tiles,
        origins: Sequence[TileOrigin] | None = None,
    ) -> Stepwise[Callable[[], Tiles]]:
        """Start to restore a batch, and yield after every step of the restorer.

        Parameters
        ----------
        restorer
            On the device.
        dtype
            Precision of its matrix products.
        tiles
            (B, C, H, W) float32 in unit intensities.
        origins
            Where each tile begins.

        Returns
        -------
        Callable
            Waits for the restored tiles, and returns them.
        """
        batch = torch.from_numpy(tiles).to(self.device)
        restored = yield from self._restore(restorer, dtype, batch, origins)
        return restored.cpu().numpy

    def release(self) -> None:
        """Give back all memory that is not in use, after it ran out."""
        gc.collect()
        if self.device.type == "mps":
            torch.mps.empty_cache()

    def measure(self, work: Callable[[], object]) -> int | None:
        """Do some work and tell how many bytes of the device it took at most; None if unknown."""
        work()
        return None

    def free_bytes(self) -> int | None:
        """Memory of the device that is free, in bytes; None if unknown."""
        return None

    def _restore(
        self,
        restorer: TileRestorer,
        dtype: torch.dtype,
        tiles: torch.Tensor,
        origins: Sequence[TileOrigin] | None,
    ) -> Stepwise[torch.Tensor]:
        lower = dtype != torch.float32
        steps = restorer.in_steps(tiles, origins)
        while True:
            # left at every step: whoever works between the steps has modes of their own
            autocast = torch.autocast(self.device.type, dtype if lower else None, enabled=lower)
            with torch.inference_mode(), autocast, self._products():
                try:
                    next(steps)
                except StopIteration as done:
                    restored: torch.Tensor = done.value.float()
                    return restored
            yield

    def _products(self) -> AbstractContextManager[None]:
        """Hold the switches of the process that the work needs."""
        return nullcontext()


class CudaProcessor(Processor):
    """A CUDA device: tiles arrive and leave while another batch is restored.

    Host memory that takes part is pinned, or the copies would wait for the work.

    Parameters
    ----------
    device
        Where the restorer lies.
    tf32
        Whether products in float32 may round their factors to TF32.
    """

    ahead = 1

    def __init__(self, device: torch.device, tf32: bool = False) -> None:
        super().__init__(device)
        self._tf32 = tf32
        self._arriving: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._leaving: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(
        self,
        restorer: TileRestorer,
        dtype: torch.dtype,
        tiles: Tiles,
        origins: Sequence[TileOrigin] | None = None,
    ) -> Stepwise[Callable[[], Tiles]]:
        """Start a batch; see `Processor.start`."""
        with torch.inference_mode(), torch.cuda.device(self.device):
            working = torch.cuda.current_stream()
            pinned = torch.from_numpy(tiles).pin_memory()
            with torch.cuda.stream(self._arriving):
                batch = pinned.to(self.device, non_blocking=True)
            working.wait_stream(self._arriving)
            # else the allocator could give this memory away while it is still read
            batch.record_stream(working)
        restored = yield from self._restore(restorer, dtype, batch, origins)
        with torch.inference_mode(), torch.cuda.device(self.device):
            result = torch.empty(restored.shape, dtype=restored.dtype, pin_memory=True)
            self._leaving.wait_stream(working)
            with torch.cuda.stream(self._leaving):
                result.copy_(restored, non_blocking=True)
                left = torch.cuda.Event()  # type: ignore[no-untyped-call]
                left.record()
            restored.record_stream(self._leaving)

        def wait() -> Tiles:
            left.synchronize()
            return result.numpy()

        return wait

    def _products(self) -> AbstractContextManager[None]:
        return float32_products(tf32=self._tf32)

    def release(self) -> None:
        """Give back all memory that is not in use; see `Processor.release`."""
        super().release()
        with torch.cuda.device(self.device):
            torch.cuda.empty_cache()

    def measure(self, work: Callable[[], object]) -> int | None:
        """Do some work and tell how many bytes it took; see `Processor.measure`."""
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before

    def free_bytes(self) -> int | None:
        """Memory that is free on the device, or kept by torch for later; in bytes."""
        free, _ = torch.cuda.mem_get_info(self.device)
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return free + kept


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Let products and convolutions in float32 on CUDA round their factors to TF32, or not.

    Torch has one switch for the whole process, and by itself lets convolutions round. Who works in
    several threads holds this around all of them.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def processor_for(device: torch.device, *, tf32: bool = False) -> Processor:
    """Give the processor for a device; `tf32` as for `CudaProcessor`."""
    return CudaProcessor(device, tf32) if device.type == "cuda" else Processor(device)
