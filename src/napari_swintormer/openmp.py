"""Load torch so that its OpenMP threads do not slow down a busy computer."""

from __future__ import annotations

import os
import sys

_SPINCOUNT = "GOMP_SPINCOUNT"


def import_torch() -> None:
    """Import torch for the first time, with a short busy-wait of its threads.

    GNU OpenMP reads its settings when torch is loaded. By default its threads wait in a busy loop.
    Beside other work, such as the window of napari, they then occupy the core that the thread needs
    for which they wait: on two busy cores a run takes about 8 times as long. The environment is
    the same afterwards, and settings of the user are kept.
    """
    if "torch" in sys.modules:
        return
    ours = os.environ.keys().isdisjoint((_SPINCOUNT, "OMP_WAIT_POLICY"))
    if ours:
        os.environ[_SPINCOUNT] = "1000"
    try:
        import torch  # noqa: F401
    finally:
        if ours:
            del os.environ[_SPINCOUNT]
