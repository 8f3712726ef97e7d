"""Exact and rounded products: held by the threads that want them, and restored."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from helpers.engine import Sharpen
from napari_swintormer.engine.devices import Processor
from napari_swintormer.engine.tf32 import float32_products
from napari_swintormer.models.stepwise import run_to_end

MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn
newer_torch = pytest.mark.skipif(not hasattr(CUDNN, "conv"), reason="torch before 2.9")


def allowed() -> tuple[object, object]:
    if hasattr(CUDNN, "conv"):
        return MATMUL.fp32_precision == "tf32", CUDNN.conv.fp32_precision == "tf32"
    return MATMUL.allow_tf32, CUDNN.allow_tf32


@pytest.fixture(autouse=True)
def _as_before():
    yield
    MATMUL.allow_tf32, CUDNN.allow_tf32 = False, True


def test_the_switch_is_set_and_restored():
    before = allowed()
    for tf32 in (True, False):
        with float32_products(tf32=tf32):
            assert allowed() == (tf32, tf32)
        assert allowed() == before


def test_code_with_the_older_switches_sees_its_values_afterwards():
    MATMUL.allow_tf32, CUDNN.allow_tf32 = True, False
    with float32_products(tf32=False):
        assert allowed() == (False, False)
    assert (MATMUL.allow_tf32, CUDNN.allow_tf32) == (True, False)


@newer_torch
def test_code_with_the_newer_switches_is_no_error():
    MATMUL.fp32_precision, CUDNN.conv.fp32_precision = "tf32", "ieee"  # `allow_tf32` now raises
    with pytest.raises(RuntimeError, match="mix of the legacy and new"):
        _ = CUDNN.allow_tf32
    for tf32 in (True, False):
        with float32_products(tf32=tf32):
            assert allowed() == (tf32, tf32)
    assert (MATMUL.fp32_precision, CUDNN.conv.fp32_precision) == ("tf32", "ieee")


@newer_torch
def test_products_on_a_cpu_are_exact_whatever_the_process_prefers():
    """A CPU with AMX takes fewer digits after this call."""

    class Watching(Sharpen):
        def forward(self, tiles):
            seen.append(torch.backends.mkldnn.matmul.fp32_precision)
            return super().forward(tiles)

    seen = []
    torch.set_float32_matmul_precision("medium")
    try:
        tiles = np.zeros((1, 1, 32, 32), np.float32)
        run_to_end(Processor(torch.device("cpu")).start(Watching(), torch.float32, tiles))
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["ieee"]


def test_threads_share_a_setting_and_wait_for_the_other_one():
    before, seen = allowed(), []
    entered, leave = threading.Semaphore(0), threading.Event()

    def hold(tf32):
        with float32_products(tf32=tf32):
            seen.append(allowed())
            entered.release()
            assert leave.wait(60)

    threads = [threading.Thread(target=hold, args=(tf32,)) for tf32 in (True, True, False)]
    for thread in threads[:2]:
        thread.start()
        assert entered.acquire(timeout=60)
    threads[2].start()
    assert not entered.acquire(timeout=0.2)  # the third thread waits
    leave.set()
    assert entered.acquire(timeout=60)
    for thread in threads:
        thread.join(60)
    assert seen == [(True, True), (True, True), (False, False)]
    assert allowed() == before
