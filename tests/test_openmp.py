"""Loading torch: no environment variable changes, OpenMP waits shortly, no compiler is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
before = dict(os.environ)
import napari_swintormer, napari_swintormer.cli, napari_swintormer.runs.job
assert os.environ == before
from napari_swintormer.openmp import import_torch
import_torch()
import sys
assert "torch" in sys.modules
assert os.environ == before
import napari_swintormer.runs.planning
from napari_swintormer.models.catalogue import load_model
load_model()
# each takes half a second or more, and nothing here needs it
slow = {"torch._dynamo", "sympy", "scipy.signal", "scipy.stats"} & set(sys.modules)
assert not slow, slow
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other OpenMP libraries")
@pytest.mark.parametrize(("given", "used"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_torch_is_loaded_with_short_waits_and_the_environment_stays(given, used):
    names = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | given | {"OMP_DISPLAY_ENV": "verbose"},
        check=True,
        capture_output=True,
        text=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has no GNU OpenMP")
    assert f"GOMP_SPINCOUNT = '{used}'" in done.stderr
