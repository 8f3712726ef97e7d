"""Which device does the work, and in which precision."""

from __future__ import annotations

import platform

import torch

from napari_swintormer.errors import SettingsError

_PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,  # with the factors of its products rounded, see `CudaProcessor`
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_BATCH_SIZES = {"cpu": 1, "cuda": 4, "mps": 2}  # more than one tile at once is slower on a CPU


def resolve_device(name: str = "auto") -> torch.device:
    """Find the device with this name.

    Parameters
    ----------
    name
        ``"auto"`` (CUDA, then MPS, then the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises
    ------
    SettingsError
        If there is no such device here; names those that are.
    """
    there = _devices()
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in there))
    if name not in there:
        known = ", ".join(repr(device) for device in ("auto", *there))
        raise SettingsError(
            f"there is no such device on this computer (got device={name!r}). Use one of {known}."
        )
    return torch.device(name)


def resolve_devices(names: str = "auto") -> list[torch.device]:
    """Find the devices with these names.

    Parameters
    ----------
    names
        One as for `resolve_device`, or several GPUs: ``"cuda:0,cuda:1"``.

    Raises
    ------
    SettingsError
        If one of them is not here, or they cannot share a run.
    """
    found = [resolve_device(name.strip()) for name in names.split(",")]
    if len(found) > 1 and (len(set(found)) < len(found) or {d.type for d in found} != {"cuda"}):
        raise SettingsError(
            "only GPUs can share a run, each named once and by its number (got "
            f"device={names!r}). Use 'cuda:0,cuda:1', or a single device."
        )
    return found


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Find the precision with this name.

    Parameters
    ----------
    name
        ``"fp32"``, ``"tf32"`` (fp32 with products of rounded factors), ``"bf16"``, ``"fp16"``, or
        ``"auto"``: bf16 where the device has instructions for it (CUDA, some CPUs), else fp32.
    device
        Where the restorer will work.

    Raises
    ------
    SettingsError
        If the name is unknown or the device cannot compute in this precision.
    """
    if name == "auto":
        return torch.bfloat16 if _has_bf16(device) else torch.float32
    if name not in _PRECISIONS:
        raise SettingsError(
            f"there is no such precision (got precision={name!r}). "
            f"Use one of 'auto', {', '.join(map(repr, _PRECISIONS))}."
        )
    if name == "fp16" and device.type == "cpu":
        raise SettingsError(
            "a CPU does not compute well in fp16 (got precision='fp16', device='cpu'). "
            "Use precision='auto', 'fp32' or 'bf16'."
        )
    if name == "tf32" and device.type != "cuda":
        raise SettingsError(
            f"only NVIDIA GPUs compute in tf32 (got precision='tf32', device={device.type!r}). "
            "Use precision='auto', 'fp32' or 'bf16'."
        )
    return _PRECISIONS[name]


def slow_precision(dtype: torch.dtype, device: torch.device) -> list[str]:
    """Say in a sentence, if so, that this device is slow in a precision that it has to imitate."""
    if dtype != torch.bfloat16 or device.type != "cpu" or not _is_x86() or _has_bf16(device):
        return []
    return [
        "This CPU has no instructions for bf16 and is several times slower in it than in fp32. Use "
        "precision='auto' or 'fp32'."
    ]


def precision_name(dtype: torch.dtype) -> str:
    """Return the name of a precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``."""
    return next(name for name, known in _PRECISIONS.items() if known == dtype)


def default_batch_size(device: torch.device) -> int:
    """Return how many tiles to restore at once on this device."""
    return _BATCH_SIZES[device.type]


def device_name(device: torch.device) -> str:
    """Name a device for people: ``"CPU"``, ``"NVIDIA H100"``, ``"Apple GPU"``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else "CPU"


def _devices() -> list[str]:
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*(["cuda", *cuda] if cuda else []), *mps, "cpu"]


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and _is_x86():
        # torch asks the CPU but has no public name for the answer; older releases lack it
        has = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return bool(has())
    return False


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
