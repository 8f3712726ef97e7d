"""Devices: their names and precisions, and how each one restores a batch of tiles."""

from __future__ import annotations

import gc
import platform
from typing import TYPE_CHECKING, Any

import torch

from napari_swintormer.engine.tf32 import float32_products
from napari_swintormer.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.models.prior.noise import TileOrigin
    from napari_swintormer.models.stepwise import Stepwise
    from napari_swintormer.models.tile_restorer import TileRestorer

    Pixels = NDArray[np.float32]

_PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,  # with rounded factors in products
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_BATCH_SIZES = {"cpu": 1, "cuda": 4, "xpu": 2, "mps": 2}  # larger batches are slower on a CPU
# Messages of the libraries below torch, which raise no type of their own.
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, cuDNN, MPS
    "can't allocate memory",  # torch on the CPU
    "not enough memory",  # torch on the CPU, on Windows
    "alloc_failed",  # cuBLAS, cuDNN and others
    "out_of_device_memory",  # Intel GPUs
    "out_of_host_memory",
)


# ---- names -------------------------------------------------------------------------------------


def resolve_device(name: str = "auto") -> torch.device:
    """Find a device by its name; ``"auto"`` takes CUDA, then XPU, then MPS, then the CPU.

    ``"xpu"`` is an Intel GPU. AMD GPUs have the names of CUDA, and ``"hip"`` for the same.
    Raises `SettingsError` if this computer has no such device.
    """
    here = _here()
    if name == "auto":
        return torch.device(here[0])
    if name not in here:
        known = ", ".join(repr(device) for device in ("auto", *here))
        raise SettingsError(
            f"There is no such device on this computer (got device={name!r}). Use one of {known}."
        )
    return torch.device(name.replace("hip", "cuda"))


def _here() -> list[str]:
    """Return all names of the devices of this computer, the fastest first."""
    cuda = _numbered("cuda", torch.cuda.device_count())
    hip = [device.replace("cuda", "hip") for device in cuda] if torch.version.hip else []
    xpu = _numbered("xpu", torch.xpu.device_count() if torch.xpu.is_available() else 0)
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *hip, *xpu, *mps, "cpu"]


def _numbered(kind: str, count: int) -> list[str]:
    return [kind, *(f"{kind}:{index}" for index in range(count))] if count else []


def resolve_devices(names: str = "auto") -> list[torch.device]:
    """Find one device, or several GPUs from names such as ``"cuda:0,cuda:1"``.

    Raises `SettingsError` if a device is missing, or the devices cannot share a run.
    """
    found = [resolve_device(name.strip()) for name in names.split(",")]
    numbers = {device.index for device in found if device.type == "cuda"} - {None}
    if 1 < len(found) != len(numbers):  # "cuda" is one of the numbered GPUs
        raise SettingsError(
            "Only NVIDIA or AMD GPUs can share a run, each one named once by its number (got "
            f"device={names!r}). Use 'cuda:0,cuda:1', or a single device."
        )
    return found


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Find the precision of matrix products on a device by its name.

    ``"auto"`` is bf16 where the device has instructions for it (CUDA, some CPUs), else fp32.
    Raises `SettingsError` if the name is unknown, or the device cannot compute in this precision.
    """
    if name == "auto":
        return torch.bfloat16 if _has_bf16(device) else torch.float32
    if name not in _PRECISIONS:
        raise SettingsError(
            f"There is no such precision (got precision={name!r}). "
            f"Use one of 'auto', {', '.join(map(repr, _PRECISIONS))}."
        )
    if name == "fp16" and device.type == "cpu":
        raise SettingsError(
            "A CPU does not compute well in fp16 (got precision='fp16', device='cpu'). "
            "Use precision='auto', 'fp32' or 'bf16'."
        )
    if name == "tf32" and device.type != "cuda":
        raise SettingsError(
            f"Only NVIDIA GPUs compute in tf32 (got precision='tf32', device={device.type!r}). "
            "Use precision='auto', 'fp32' or 'bf16'."
        )
    if not _computes_in(name, device):
        raise SettingsError(
            f"This device does not compute in {name} (got precision={name!r} on "
            f"{device_name(device)}). Use precision='auto' or 'fp32'."
        )
    return _PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """Return the name of a precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``."""
    return next(name for name, known in _PRECISIONS.items() if known == dtype)


def resolve_names(device: str, precision: str) -> tuple[str, str]:
    """Name the device and precision that this computer takes: ``("cuda", "bf16")``."""
    found, *_ = resolve_devices(device)
    dtype = resolve_precision(precision, found)
    return found.type, "tf32" if precision == "tf32" else precision_name(dtype)


def slow_precision(dtype: torch.dtype, device: torch.device) -> list[str]:
    """Return a sentence if this device only imitates the precision, else nothing."""
    if dtype != torch.bfloat16 or device.type != "cpu" or not _is_x86() or _has_bf16(device):
        return []
    return [
        "This CPU has no instructions for bf16: it is several times slower in bf16 than in fp32. "
        "Use precision='auto' or 'fp32'."
    ]


def default_batch_size(device: torch.device) -> int:
    """Return how many tiles to restore at once on this device."""
    return _BATCH_SIZES[device.type]


def device_name(device: torch.device) -> str:
    """Name a device for people: ``"CPU"``, ``"NVIDIA H100"``, ``"AMD Radeon …"``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return str(torch.xpu.get_device_name(device))
    return "Apple GPU" if device.type == "mps" else "CPU"


def driver_name(device: torch.device) -> str:
    """Name what runs a device, with its version as far as torch knows it."""
    if device.type == "cuda":
        return f"HIP {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    if device.type == "xpu":
        return str(getattr(torch.xpu.get_device_properties(device), "driver_version", "XPU"))
    return platform.mac_ver()[0] if device.type == "mps" else platform.machine()


def why_fp32(device: torch.device) -> list[str]:
    """Return a sentence if ``precision="auto"`` means fp32 on a GPU, else nothing."""
    if device.type not in ("cuda", "xpu") or _has_bf16(device):
        return []
    return [
        f"{device_name(device)} has no instructions for bf16, so it computes in fp32. "
        "precision='fp16' may be faster; its results differ a little more."
    ]


def _computes_in(name: str, device: torch.device) -> bool:
    """Say whether torch would not take fp32 instead, with a warning or without one."""
    if name == "tf32":
        # AMD GPUs have the name "cuda", too, and count their generations in another way
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
    if name == "bf16" and device.type == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    return True


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "xpu":
        return bool(getattr(torch.xpu, "is_bf16_supported", lambda: True)())
    if device.type == "cpu" and _is_x86():
        # torch has no public name for this test, and older releases lack it
        has = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        # a user or a virtual machine can keep torch from using what the CPU has
        limited = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
        return bool(has()) and not limited
    return False


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


# ---- work --------------------------------------------------------------------------------------


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device or the computer has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(saying in text for saying in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Return all unused memory of a device to the system."""
    gc.collect()
    if device.type == "mps":
        torch.mps.empty_cache()
    elif device.type == "xpu":
        torch.xpu.empty_cache()
    elif device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.empty_cache()


class Processor:
    """Runs restorers on a device, one batch at a time."""

    ahead = 0
    """Number of batches that may be started before the result of an earlier one is taken."""

    in_background = False
    """Whether a batch goes on while nobody asks for its steps."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def name(self) -> str:
        """Name of the device, for people."""
        return device_name(self.device)

    def start(
        self,
        restorer: TileRestorer,
        dtype: torch.dtype,
        tiles: Pixels,
        origins: Sequence[TileOrigin] | None = None,
    ) -> Stepwise[Callable[[], Pixels]]:
        """Start to restore a batch, and yield after every step of the restorer.

        The tiles are (B, C, H, W) float32 in unit intensities, and `dtype` is the precision of the
        matrix products. Returns a function that waits for the restored tiles.
        """
        batch = self._send(tiles)
        lower = dtype != torch.float32
        steps = restorer.in_steps(batch, origins)
        while True:
            # left at every step: the caller's own modes apply between the steps
            autocast = torch.autocast(self.device.type, dtype if lower else None, enabled=lower)
            with torch.inference_mode(), autocast, self._products():
                try:
                    next(steps)
                except StopIteration as done:
                    return self._fetch(done.value.float())
            yield

    def release(self) -> None:
        """Return all unused memory to the system."""
        release_memory(self.device)

    def close(self) -> None:
        """End what goes on in the background."""

    def measure(self, work: Callable[[], object]) -> int | None:
        """Do some work, and return the most bytes that it took on the device; None if unknown."""
        work()
        return None

    def free_bytes(self) -> int | None:
        """Return the free memory of the device in bytes; None if unknown."""
        return None

    def _send(self, tiles: Pixels) -> torch.Tensor:
        return torch.from_numpy(tiles).to(self.device)

    def _fetch(self, restored: torch.Tensor) -> Callable[[], Pixels]:
        return restored.cpu().numpy

    def _products(self) -> AbstractContextManager[None]:
        """Hold the switches of torch that the work needs."""
        return float32_products(tf32=False)


class MeasuredProcessor(Processor):
    """Runs restorers on a GPU whose memory torch counts: one of NVIDIA, AMD or Intel."""

    @property
    def _torch(self) -> Any:
        """The module of torch for this kind of GPU."""
        return torch.xpu if self.device.type == "xpu" else torch.cuda

    def measure(self, work: Callable[[], object]) -> int | None:
        """Do some work, and return the most bytes that it took on the device."""
        self._torch.synchronize(self.device)
        self._torch.reset_peak_memory_stats(self.device)
        before = int(self._torch.memory_allocated(self.device))
        work()
        self._torch.synchronize(self.device)
        return int(self._torch.max_memory_allocated(self.device)) - before

    def free_bytes(self) -> int | None:
        """Return the memory that is free, or that torch keeps for later, in bytes.

        None where torch or the driver of an Intel GPU does not tell.
        """
        try:
            free, _ = self._torch.mem_get_info(self.device)
        except (AttributeError, RuntimeError):
            if self.device.type == "cuda":
                raise
            return None
        allocated = self._torch.memory_allocated(self.device)
        return int(free + self._torch.memory_reserved(self.device) - allocated)


class CudaProcessor(MeasuredProcessor):
    """Runs restorers on an NVIDIA or AMD GPU, and copies tiles while another batch is restored.

    The tiles lie in pinned host memory; otherwise a copy would wait for the work. With `tf32`
    products in float32 may round their factors.
    """

    ahead = 1

    def __init__(self, device: torch.device, tf32: bool = False) -> None:
        super().__init__(device)
        self._tf32 = tf32
        self._arriving: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._leaving: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def _send(self, tiles: Pixels) -> torch.Tensor:
        with torch.inference_mode(), torch.cuda.device(self.device):
            working = torch.cuda.current_stream()
            pinned = torch.from_numpy(tiles).pin_memory()
            with torch.cuda.stream(self._arriving):
                batch = pinned.to(self.device, non_blocking=True)
            working.wait_stream(self._arriving)
            # otherwise the allocator could reuse this memory while it is still read
            batch.record_stream(working)
        return batch

    def _fetch(self, restored: torch.Tensor) -> Callable[[], Pixels]:
        with torch.inference_mode(), torch.cuda.device(self.device):
            result = torch.empty(restored.shape, dtype=restored.dtype, pin_memory=True)
            self._leaving.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._leaving):
                result.copy_(restored, non_blocking=True)
                left = torch.cuda.Event()  # type: ignore[no-untyped-call]
                left.record()
            restored.record_stream(self._leaving)

        def wait() -> Pixels:
            left.synchronize()
            return result.numpy()

        return wait

    def _products(self) -> AbstractContextManager[None]:
        return float32_products(tf32=self._tf32)


def processor_for(device: torch.device, *, tf32: bool = False) -> Processor:
    """Make the processor for a device; `tf32` matters for CUDA only."""
    if device.type == "cuda":
        return CudaProcessor(device, tf32)
    return MeasuredProcessor(device) if device.type == "xpu" else Processor(device)


def devices_here() -> dict[str, str]:
    """Describe each device of this computer by its name: what it is, its driver, free memory."""
    described = {}
    for name in _here():
        device = resolve_device(name)
        if device.type in ("cuda", "xpu") and device.index is None:
            continue  # the first of the numbered ones
        facts = [device_name(device), driver_name(device)]
        facts.append(f"{precision_name(resolve_precision('auto', device))} by default")
        free = processor_for(device).free_bytes()
        facts += [] if free is None else [f"{free / 1e9:.1f} GB free"]
        described[name] = ", ".join(fact for fact in facts if fact)
    return described
