"""Constant tensors of networks."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")


def on_cpu(make: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Let a function make its tensor on the CPU, also where a network is built without memory.

    On the device "meta" torch would load its compiler for that, which takes more than a second.
    """

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.device("cpu"):
            return make(*args, **kwargs)

    return made
