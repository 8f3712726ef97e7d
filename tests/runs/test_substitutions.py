"""Model, device, precision and reader: what was asked for is used, or the user is told.

What cannot be used ends in a sentence. What a run must substitute while it goes on is a
`Substitution`, and stands in the provenance of its result.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
import zarr

from napari_swintormer import deblur, deblur_file
from napari_swintormer.engine import devices, runners, telling
from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import Substitution
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = np.random.default_rng(0).integers(0, 60_000, (4, 70, 80), np.uint16)
OPTICS = {"na": 0.8, "immersion": "air", "wavelength": 500, "pixel_size": 0.3, "z_step": 0.8}
CPU = {"device": "cpu", "precision": "fp32"}


class TooLarge(IdentityRestorer):
    """A restorer that no device but the CPU has memory for."""

    def to(self, device: torch.device) -> TooLarge:  # type: ignore[override]
        if device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let this computer have a GPU without memory; give what is said of it."""
    found = {"cuda": torch.device("meta"), "cpu": torch.device("cpu")}
    monkeypatch.setattr(devices, "resolve_device", lambda name="auto": found[name])
    monkeypatch.setattr(telling, "_log_once", telling._log_once.__wrapped__)
    return "too small for a single tile; going on with the CPU in fp32"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "in.tif", IMAGE, photometric="minisblack", metadata={"axes": "ZYX"})
    return tmp_path / "in.tif"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda:99"}, r"no such device on this computer \(got device='cuda:99'\)"),
        ({"device": "gpu"}, r"no such device on this computer \(got device='gpu'\)"),
        ({"device": "cpu,cpu"}, "Only NVIDIA or AMD GPUs can share a run"),
        ({"precision": "fp8"}, r"no such precision \(got precision='fp8'\)"),
        ({"precision": "fp16", "device": "cpu"}, r"does not compute well in fp16"),
        ({"precision": "tf32", "device": "cpu"}, r"Only NVIDIA GPUs compute in tf32"),
        ({"model": "swintorme"}, r"no model 'swintorme', .*Did you mean 'swintormer'"),
        ({"model": "Swintormer"}, r"no model 'Swintormer', .*Did you mean 'swintormer'"),
        ({"model": "gone.safetensors"}, r"no model 'gone.safetensors', and no file of that name"),
        ({"model": "filter", "num_inference_steps": 4}, "The model has no prior to sample"),
        ({"depth": "volume", "second_view": IMAGE}, r"without the network \(got a second view\)"),
        ({"depth": "volume", "model": IdentityRestorer()}, r"the network \(got a restorer\)"),
    ],
)
def test_what_cannot_be_used_ends_in_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SwintormerError, match=said) as caught:
        deblur(IMAGE, axes="ZYX", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("precision", "device", "unable"),
    [
        ("tf32", "cuda", ("torch.cuda.get_device_capability", lambda _: (7, 5))),
        ("bf16", "mps", ("torch.backends.mps.is_macos_or_newer", lambda *_: False)),
    ],
)
def test_a_device_that_lacks_a_precision_says_so(
    precision: str,
    device: str,
    unable: tuple[str, Callable[..., object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(*unable)
    monkeypatch.setattr(devices, "device_name", lambda _: "an old device")
    with pytest.raises(SwintormerError, match=f"compute in {precision} .*on an old device"):
        devices.resolve_precision(precision, torch.device(device))


@pytest.mark.parametrize(
    ("name", "module", "command"),
    [
        ("a.czi", "bioio", r'pip install "napari-swintormer\[bioio\]"'),
        ("a.nd2", "bioio_nd2", "pip install bioio-nd2"),
        ("a.nef", "rawpy", r'pip install "napari-swintormer\[raw\]"'),
        ("a.heic", "pillow_heif", r'pip install "napari-swintormer\[heif\]"'),
    ],
)
def test_no_other_reader_takes_the_place_of_a_missing_one(
    name: str, module: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module == "bioio_nd2":
        monkeypatch.setitem(sys.modules, "bioio", sys)
    monkeypatch.setitem(sys.modules, module, None)
    tifffile.imwrite(tmp_path / name, IMAGE[0])  # which another reader could read
    if name == "a.heic":
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(SwintormerError, match=command):
        deblur_file(tmp_path / name, tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()


def run(source: Path, result: Path, **options: Any) -> list[str]:
    """Deblur a file with a restorer that is too large, and give the substitutions."""
    settings = DeblurSettings(axes="ZYX", device="cuda", precision="fp32", batch_size=1)
    events = FileRun(source, result, settings, TooLarge(), **options).events()
    return [event.message for event in events if isinstance(event, Substitution)]


def test_the_cpu_for_a_full_gpu_is_told_and_noted(
    source: Path, small_gpu: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = source.with_name("out.zarr")
    (told,) = run(source, result)
    assert small_gpu in told
    noted = zarr.open_group(result, mode="r").attrs["swintormer"]
    assert noted["substituted"] == [told]
    assert noted["run"]["settings"]["device"] == "meta"  # what was asked for
    options = {"axes": "ZYX", "device": "cuda", "precision": "fp32", "batch_size": 1}
    with caplog.at_level(logging.WARNING):
        deblur(IMAGE, TooLarge(), **options)  # nobody sees the events
    assert small_gpu in caplog.text
    lazy = deblur(da.from_array(IMAGE), TooLarge(), **options)
    for _ in range(2):  # the second time with a restorer that is on the CPU already
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            lazy.compute(scheduler="synchronous")
        assert small_gpu in caplog.text


def test_the_cpu_for_a_full_gpu_of_a_worker_is_told_and_noted(source: Path, small_gpu: str) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        1, processes=False, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        for number in range(2):
            result = source.with_name(f"out {number}.zarr")
            (told,) = run(source, result, scheduler=cluster.scheduler_address)
            assert small_gpu in told
            noted = zarr.open_group(result, mode="r").attrs["swintormer"]
            assert noted["substituted"] == [told]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"model": "filter"}, ["without a network: model='filter' is not used"]),
        ({"precision": "bf16"}, ["in fp32: precision='bf16' is not used"]),
        ({"device": "cpu,cuda"}, ["on one device, cpu (got device='cpu,cuda')"]),
    ],
)
def test_choices_that_a_volume_does_not_follow_are_told_and_noted(
    options: dict[str, Any], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [torch.device("cpu")]
    monkeypatch.setattr(runners.devices, "resolve_devices", lambda _: first)
    settings = DeblurSettings(axes="ZYX", depth="volume", **OPTICS, **CPU | options, iterations=2)
    job = prepare(IMAGE[:, :32, :32], settings)
    events = list(job.run(np.empty_like(job.planes.data)))
    told = [event.message for event in events if isinstance(event, Substitution)]
    assert len(told) == len(said)
    assert all(part in message for part, message in zip(said, told, strict=True))
    assert job.provenance().get("substituted", []) == told
