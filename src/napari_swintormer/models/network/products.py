"""Products of pixels with weights, by the fastest routine of torch for the processor.

Windows have few channels, and there the default routine of torch on x86 processors reaches half
the speed of oneDNN. Gradients, other processors and GPUs take the default.
"""

from __future__ import annotations

import platform
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return ``linear(x, weight)``; `x` is ``(n, p, C)``."""
    if _by_onednn(x):
        done: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return done
    return F.linear(x, weight)


def add_product(onto: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return ``onto + linear(x, weight)`` in one pass; ``(n, p, C)`` all but the weight."""
    if _by_onednn(x):
        added: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, onto, weight, None, "add")
        return added
    total = torch.addmm(onto.flatten(0, 1), x.flatten(0, 1), weight.t())
    return total.view(onto.shape)


def _by_onednn(x: Tensor) -> bool:
    # bf16 is converted and multiplied alike by both, so the results stay what they are
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    return plain and not torch.is_grad_enabled() and has_onednn()


@cache
def has_onednn() -> bool:
    """Say whether oneDNN's products are here; torch has no public name for them."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not x86 or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x, onto, weight = (torch.ones(shape) for shape in ((1, 2, 3), (1, 2, 4), (4, 3)))
    try:
        with torch.inference_mode():
            multiply = torch.ops.mkldnn._linear_pointwise
            ones = multiply(x, weight, None, "none", [], "")
            added = multiply.binary(x, onto, weight, None, "add")
    except (AttributeError, RuntimeError, TypeError):  # another release of torch
        return False
    return bool((ones == 3).all() and (added == 4).all())
