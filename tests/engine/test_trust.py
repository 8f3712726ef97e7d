"""A device that computes wrongly is found by one tile, and something safe takes its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from helpers.tiny import tiny_card
from napari_swintormer.engine import runners, trust
from napari_swintormer.engine.devices import Processor
from napari_swintormer.engine.protocol import Tile
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.events import Substitution
from napari_swintormer.models.blur_filter import KnownBlurRestorer
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.restorer import Restorer
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DEVICE = torch.device("cuda:0")


class FaultyDevice(Processor):
    """A device, made of the CPU, whose results are changed by `fault`."""

    name = "a faulty device"

    def __init__(self, fault: Callable[[NDArray, torch.dtype], NDArray]) -> None:
        super().__init__(torch.device("cpu"))
        self.runs, self._fault = 0, fault

    def start(self, restorer, dtype, tiles, origins=None):
        self.runs += 1
        wait = yield from super().start(restorer, torch.float32, tiles, origins)
        return lambda: self._fault(wait(), dtype)


def good(restored: NDArray, _: torch.dtype) -> NDArray:
    return restored + np.float32(1e-6)


def wrong(restored: NDArray, _: torch.dtype) -> NDArray:
    return restored[:, :, ::-1]


def wrong_in_half(restored: NDArray, dtype: torch.dtype) -> NDArray:
    return restored if dtype == torch.float32 else restored * 0.9


def not_finite(restored: NDArray, dtype: torch.dtype) -> NDArray:
    return restored if dtype == torch.float32 else np.full_like(restored, np.nan)


def refusing(restored: NDArray, _: torch.dtype) -> NDArray:
    raise RuntimeError("no kernel image is available for execution on the device\nCompile with …")


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    torch.manual_seed(3)
    card = tiny_card()
    network = Swintormer(card.network)
    torch.nn.init.normal_(network.output.weight, std=0.05)
    return Restorer(card, network.state_dict(), sha256="5" * 64)


@pytest.mark.parametrize(
    ("fault", "precision", "said", "dtype", "looks"),
    [
        (good, "bf16", [], torch.bfloat16, 1),
        (wrong_in_half, "bf16", ["in bf16; going on in fp32"], torch.float32, 2),
        (not_finite, "fp16", ["not finite in fp16; going on in fp32"], torch.float32, 2),
        (
            wrong,
            "bf16",
            ["wrong values .* in bf16; going on in fp32", "in fp32; going on with the CPU in fp32"],
            torch.float32,
            2,
        ),
        (refusing, "fp32", [r"\(no kernel image .* device\) in fp32; going on"], torch.float32, 1),
    ],
)
def test_a_faulty_device_is_found_once_and_replaced_with_a_sentence(
    fault, precision, said, dtype, looks, restorer, monkeypatch
):
    device = FaultyDevice(fault)
    # the device has a name of its own, and its tensors are the CPU's
    monkeypatch.setattr(trust, "_CPU", torch.device("meta"))
    monkeypatch.setattr(trust, "processor_for", lambda *_, **__: Processor(torch.device("cpu")))
    for name in ("processor_for", "cpu_processor"):
        monkeypatch.setattr(runners, name, lambda *_, **__: device)
    monkeypatch.setattr(Restorer, "to", lambda self, *_: self)
    monkeypatch.setattr(
        runners.devices,
        "resolve_precision",
        lambda name, _: {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name, torch.float32),
    )
    recipe = RunnerRecipe(restorer, "tiny", "cpu", precision, 1)
    for turn in range(2):
        runner = recipe.make()
        notices = [n for n in runner.take_notices() if isinstance(n, Substitution)]
        assert len(notices) == len(said)
        for notice, pattern in zip(notices, said, strict=True):
            assert notice.message.startswith("a faulty device ")
            assert re.search(pattern, notice.message), notice.message
        assert device.runs == looks, turn  # the second run recalls what was found
        assert runner.dtype == dtype
        assert runner.substitution == (notices[-1] if notices else None)
    if "CPU" in "".join(said) or fault is refusing:
        tile = Tile(np.zeros((3, 32, 32), np.float32), TileOrigin(0, 0, 0))
        assert len([*filter(None, runner.changes([[tile]]))]) == 1
        assert device.runs == looks  # the CPU does the work


def test_a_known_blur_is_looked_at_by_the_weights_behind_it(restorer, monkeypatch):
    monkeypatch.setattr(trust, "_CPU", torch.device("meta"))
    monkeypatch.setattr(trust, "processor_for", lambda *_, **__: Processor(torch.device("cpu")))
    monkeypatch.setattr(KnownBlurRestorer, "to", lambda self, *_: self)
    power = PowerOfPlane.measured([np.eye(64, dtype=np.float32)[None]], photo=True)
    unclear = PlaneBlur(FoundBlur(Blur.none(), 0.5, "", unclear=True), power)
    planes = {2: unclear, 3: PlaneBlur(FoundBlur(Blur.disk(2.0)), power)}
    sizes = tiny_card().network.model_copy(update={"known_blur": True})

    def look(fault, network, planes=planes):
        known = KnownBlurRestorer(planes, (96, 96), 3, network, restorer)
        device = FaultyDevice(fault)
        return trust.fault_of(device, known, torch.bfloat16), device.runs

    known_card = tiny_card().model_copy(update={"network": sizes})
    network, other = (Restorer(known_card, Swintormer(sizes).state_dict()) for _ in range(2))
    assert look(good, network) == ("", 2)  # the network behind the filter, and the other one
    assert look(wrong, network) == ("", 0)  # recalled
    for runs in (1, 0):
        fault, looks = look(wrong, other)
        assert "wrong values" in fault
        assert looks == runs
    assert look(good, None, {3: planes[3]}) == ("", 1)  # the filter alone
    assert look(good, network, {2: PlaneBlur(FoundBlur(Blur.none()), power)}) == ("", 0)


def test_the_cpu_and_restorers_without_weights_are_not_looked_at(restorer, monkeypatch):
    monkeypatch.setattr(trust, "_restore", lambda *_: pytest.fail("looked"))
    assert trust.fault_of(Processor(torch.device("cpu")), restorer, torch.float32) == ""
    unnamed = Restorer(restorer.card, restorer.network.state_dict())
    assert trust.fault_of(Processor(torch.device("meta")), unnamed, torch.float32) == ""
