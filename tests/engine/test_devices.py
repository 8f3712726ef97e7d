"""Names of devices and precisions, and the messages for those that are missing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from napari_swintormer.engine import devices
from napari_swintormer.engine.devices import (
    device_name,
    precision_name,
    resolve_device,
    resolve_devices,
    resolve_precision,
    slow_precision,
)
from napari_swintormer.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "mps", "gpu", "cuda:x", ""])
def test_a_missing_device_is_refused(name: str) -> None:
    with pytest.raises(SettingsError) as error:
        resolve_device(name)
    assert str(error.value) == (
        f"There is no such device on this computer (got device={name!r}). Use one of 'auto', 'cpu'."
    )


@pytest.mark.usefixtures("two_gpus")
def test_of_two_gpus_the_second_is_found_and_a_third_is_refused() -> None:
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(SettingsError, match="'auto', 'cuda', 'cuda:0', 'cuda:1', 'cpu'"):
        resolve_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
def test_intel_and_amd_gpus_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda _: "Intel Arc B580")
    assert resolve_device("auto") == torch.device("xpu")
    assert device_name(resolve_device("xpu:0")) == "Intel Arc B580"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingsError, match="'auto', 'cuda', 'cuda:0', 'xpu', 'xpu:0', 'cpu'"):
        resolve_device("hip")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert resolve_device("hip:0") == torch.device("cuda:0")


@pytest.mark.usefixtures("no_gpu")
def test_devices_are_described_with_their_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    free: dict[int, Callable[[], tuple[int, int]]] = {
        0: lambda: (10_000_000_000, 12_000_000_000),
        1: lambda: (_ for _ in ()).throw(RuntimeError("the driver does not tell")),
    }
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_name": lambda _: "Intel Arc B580",
        "get_device_properties": lambda _: SimpleNamespace(driver_version="1.6"),
        "is_bf16_supported": lambda: True,
        "mem_get_info": lambda device: free[device.index](),
        "memory_reserved": lambda _: 3_000_000_000,
        "memory_allocated": lambda _: 1_000_000_000,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.xpu, name, answer, raising=False)
    described = devices.devices_here()
    assert described["xpu:0"] == "Intel Arc B580, 1.6, bf16 by default, 12.0 GB free"
    assert described["xpu:1"] == "Intel Arc B580, 1.6, bf16 by default"
    assert list(described) == ["xpu:0", "xpu:1", "cpu"]


@pytest.mark.usefixtures("no_gpu")
def test_an_apple_gpu_computes_in_fp32_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: True)
    assert devices.resolve_names("auto", "auto") == ("mps", "fp32")
    assert devices.resolve_names("mps", "bf16") == ("mps", "bf16")
    assert "fp32 by default" in devices.devices_here()["mps"]


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_without_bf16_says_why_it_computes_in_fp32(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(devices, "_has_bf16", lambda _: native)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA GeForce GTX 1660")
    assert resolve_precision("auto", gpu) == (torch.bfloat16 if native else torch.float32)
    told = "".join(devices.why_fp32(gpu))
    assert ("GTX 1660 has no instructions for bf16" in told) is not native
    assert devices.why_fp32(CPU) == []


@pytest.mark.usefixtures("two_gpus")
def test_only_gpus_share_a_run() -> None:
    assert resolve_devices("cuda:0, cuda:1") == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert resolve_devices("cuda:1") == [torch.device("cuda:1")]
    for names in ("cuda:0,cuda:0", "cuda,cuda:0", "cuda:1,cuda", "cuda:0,cpu", "cpu,cpu"):
        with pytest.raises(
            SettingsError, match=r"Only NVIDIA or AMD GPUs can share .*'cuda:0,cuda:1'"
        ):
            resolve_devices(names)
    with pytest.raises(SettingsError, match="no such device"):
        resolve_devices("cuda:0,cuda:7")


@pytest.mark.usefixtures("no_gpu")
def test_auto_falls_back_to_the_cpu() -> None:
    assert resolve_device("auto") == CPU
    assert device_name(CPU) == "CPU"


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    capability = torch.backends.cpu
    monkeypatch.setattr(capability, "get_cpu_capability", lambda: "AVX512")
    assert resolve_precision("auto", CPU) == dtype
    assert slow_precision(dtype, CPU) == []
    assert bool(slow_precision(torch.bfloat16, CPU)) is not native
    monkeypatch.setattr(capability, "get_cpu_capability", lambda: "AVX2")  # torch is kept from more
    assert resolve_precision("auto", CPU) == torch.float32
    assert slow_precision(torch.bfloat16, CPU)
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")  # nobody knows
    assert slow_precision(torch.bfloat16, CPU) == []


def test_precisions_are_found_by_name_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert resolve_precision("auto", torch.device("mps")) == torch.float32
    for name in ("fp32", "bf16"):
        assert precision_name(resolve_precision(name, CPU)) == name
    with pytest.raises(SettingsError, match="Use one of 'auto', 'fp32', 'tf32', 'bf16', 'fp16'"):
        resolve_precision("int8", CPU)
    with pytest.raises(SettingsError, match="A CPU does not compute well in fp16"):
        resolve_precision("fp16", CPU)
    with pytest.raises(SettingsError, match=r"Only NVIDIA GPUs compute in tf32 .*device='cpu'"):
        resolve_precision("tf32", CPU)
    monkeypatch.setattr(torch.version, "hip", "6.4")  # AMD GPUs are named "cuda", too
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "AMD Radeon")
    with pytest.raises(SettingsError, match=r"not compute in tf32 .*on AMD Radeon"):
        resolve_precision("tf32", torch.device("cuda"))
    monkeypatch.setattr(torch.version, "hip", None)
    assert resolve_precision("tf32", torch.device("cuda")) == torch.float32
