"""The script that works through the viewer API."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "deblur_in_viewer.py"


@pytest.mark.gui
def test_the_example_deblurs_the_sample_in_the_viewer(viewer, model, qtbot, capsys):
    example = runpy.run_path(str(EXAMPLE))
    widget = example["deblur_sample"](viewer, "actin")
    with qtbot.waitSignal(widget.finished, timeout=120_000):
        pass
    blurred, deblurred = viewer.layers
    assert deblurred.name == f"{blurred.name} · swintormer"
    assert deblurred.data.dtype == blurred.data.dtype
    assert "swintormer" in capsys.readouterr().out
