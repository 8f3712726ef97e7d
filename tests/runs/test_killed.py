"""A run that is killed at random moments goes on to the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_a_run.py"


@pytest.mark.slow("engine", "imaging", "runs", "tiling", "benchmarks/kill_a_run.py")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_a_run_that_is_killed_thrice_goes_on_to_the_same_bytes() -> None:
    ended = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "3"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("3 kills")
