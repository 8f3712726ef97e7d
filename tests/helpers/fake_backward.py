"""A backward pass for a GPU that computes nothing: torch's own needs a device that is there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def fake_backward(value: Tensor) -> dict[int, Tensor]:
    """Run the backward formulas of all operators; gives gradients by `id` of the parameter.

    As torch does, it sums what was broadcast and converts types. A gradient on another device than
    its tensor is an error.
    """
    assert value.grad_fn is not None
    waiting = _count_uses(value.grad_fn)
    given: dict[Any, list[Any]] = {value.grad_fn: [torch.ones_like(value)]}
    ready: list[Any] = [value.grad_fn]
    gradients: dict[int, Tensor] = {}
    while ready:
        node = ready.pop()
        own = given.pop(node, [])
        if hasattr(node, "variable"):
            if own:
                gradients[id(node.variable)] = own[0]
            continue
        made = node(*own) if any(grad is not None for grad in own) else None
        for number, (after, place) in enumerate(node.next_functions):
            if after is None:
                continue
            grad = made[number] if isinstance(made, tuple) else made
            if grad is not None:
                grad = _fitted(grad, after._input_metadata[place])
                inputs = given.setdefault(after, [None] * len(after._input_metadata))
                before = inputs[place]
                inputs[place] = grad if before is None else before + grad
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
    return gradients


def _count_uses(last: Any) -> dict[Any, int]:
    uses, found = {last: 0}, [last]
    while found:
        for after, _ in found.pop().next_functions:
            if after is not None:
                if after not in uses:
                    found.append(after)
                uses[after] = uses.get(after, 0) + 1
    return uses


def _fitted(grad: Tensor, like: Any) -> Tensor:
    if grad.device != like.device:
        raise RuntimeError(f"a gradient is on {grad.device}, its tensor on {like.device}")
    return grad.sum_to_size(like.shape).to(like.dtype)
