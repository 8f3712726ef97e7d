"""Exact or rounded products in float32: torch has one switch per library for all threads."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


# A CPU with AMX rounds to bf16 after `torch.set_float32_matmul_precision("medium")`.
_ON_CPU: list[Any] = [
    getattr(torch.backends.mkldnn, kind)
    for kind in ("matmul", "conv")
    if hasattr(torch.backends.mkldnn, kind)
]


class _Switch:
    """The switch of torch, shared by the threads of this process.

    Threads that want the same setting hold it together; a thread that wants the other one waits.
    The last thread to leave restores the setting from before.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._holders, self._tf32 = 0, False
        self._before: list[Any] = []

    @contextmanager
    def hold(self, tf32: bool) -> Iterator[None]:
        """Hold one of the settings for a while."""
        targets, values = self._attributes()
        with self._changed:
            self._changed.wait_for(lambda: not self._holders or self._tf32 == tf32)
            if not self._holders:
                self._tf32 = tf32
                self._before = [getattr(target, name) for target, name in targets]
                for target, name in targets:
                    setattr(target, name, "ieee" if target in _ON_CPU else values[tf32])
            self._holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._holders -= 1
                if not self._holders:
                    for (target, name), value in zip(targets, self._before, strict=True):
                        setattr(target, name, value)
                    self._changed.notify_all()

    @staticmethod
    def _attributes() -> tuple[list[tuple[Any, str]], dict[bool, Any]]:
        """Return the attributes for matrix products and convolutions, and their two values."""
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        if hasattr(cudnn, "conv"):  # since torch 2.9; reading `allow_tf32` may then raise
            switches = [matmul, cudnn.conv, *_ON_CPU]
            return [(switch, "fp32_precision") for switch in switches], {
                True: "tf32",
                False: "ieee",
            }
        return [(matmul, "allow_tf32"), (cudnn, "allow_tf32")], {True: True, False: False}


_SWITCH = _Switch()


def float32_products(*, tf32: bool) -> AbstractContextManager[None]:
    """Let products and convolutions in float32 on CUDA round their factors to TF32, or not.

    On a CPU they are exact either way.
    """
    return _SWITCH.hold(tf32)
