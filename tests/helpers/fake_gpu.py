"""A GPU that computes nothing: its tensors have shape, type and device, but no values."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from napari_swintormer.engine.devices import Processor
from napari_swintormer.models.network import block
from napari_swintormer.models.network.windows import border_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

GPU = torch.device("cuda:0")

# Operators that only describe memory in another way start nothing on a GPU.
_NO_LAUNCH = frozenset(
    (
        *("view", "_unsafe_view", "permute", "transpose", "select", "slice", "unsqueeze", "t"),
        *("squeeze", "expand", "alias", "detach", "as_strided", "unbind", "split", "flatten"),
        *("split_with_sizes", "tensor_split", "chunk", "unfold", "diagonal", "view_as_real"),
        *("real", "imag", "reshape", "_reshape_alias", "empty", "empty_like", "new_empty"),
        *("empty_strided", "lift_fresh"),
    )
)
# A torch without CUDA does not index tensors of a GPU unless something can select that GPU.
_GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
using namespace c10;
static impl::NoOpDeviceGuardImpl<DeviceType::CUDA> guard;
static impl::DeviceGuardImplRegistrar registrar(DeviceType::CUDA, &guard);
"""


def load_guard(folder: Path) -> None:
    """Let this process handle tensors of a GPU; skips the test where no compiler is."""
    if torch.backends.cuda.is_built():
        torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
        return
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    source, library, here = folder / "guard.cpp", folder / "guard.so", Path(torch.__file__).parent
    source.write_text(_GUARD)
    places = [f"-I{here / 'include'}", f"-L{here / 'lib'}", "-lc10"]
    build = [compiler, "-shared", "-fPIC", "-std=c++20", str(source), "-o", str(library)]
    subprocess.run([*build, *places], check=True, capture_output=True)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class Recorder(TorchDispatchMode):
    """Counts the operators that work on the GPU, and finds what a real GPU would refuse or slow.

    Attributes
    ----------
    launches
        Number of calls that start work on the GPU.
    operators
        Names of the operators with a kernel of their own; those made of others are taken apart.
    float64
        Operators that read or made float64 on the GPU; MPS has no such type.
    fetched
        Number of times that the CPU waited for values of the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.fetched = 0
        self.operators: set[str] = set()
        self.float64: set[str] = set()
        self._inside = False  # an operator that is made of others

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        outer = self._inside
        if _is_made_of_others(func):
            self._inside = True
            try:
                with self:
                    result = func.decompose(*args, **kwargs)
            finally:
                self._inside = outer
            own = False
        else:
            result, own = func(*args, **kwargs), func.namespace == "aten"
        given, made = _on_gpu((args, kwargs)), _on_gpu(result)
        if not given and not made:
            return result
        name = func.name().removeprefix("aten::")
        if not outer and func.namespace == "aten" and name.partition(".")[0] not in _NO_LAUNCH:
            self.launches += 1
        if own:
            self.operators.add(name)
            if any(t.dtype in (torch.float64, torch.complex128) for t in given + made):
                self.float64.add(name)
            if given and not made and isinstance(result, Tensor):
                self.fetched += 1
        return result


def _is_made_of_others(func: Any) -> bool:
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return func.namespace == "aten" and has_kernel(func.name(), "CompositeImplicitAutograd")


def _on_gpu(values: Any) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.device.type == "cuda"]


class FakeProcessor(Processor):
    """Runs restorers on the GPU that computes nothing; gives zeros."""

    def __init__(self) -> None:
        super().__init__(GPU)

    @property
    def name(self) -> str:
        return "a fake GPU"

    def _fetch(self, restored: Tensor) -> Callable[[], NDArray[np.float32]]:
        assert restored.device == GPU
        assert restored.dtype == torch.float32
        zeros = np.zeros(tuple(restored.shape), np.float32)
        return lambda: zeros


@contextmanager
def fake_gpu(patch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Make all new tensors fake, and record what works on the GPU."""
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    # fake tensors have no address, which tells whether weights were replaced
    patch.setattr(block, "_stamp", lambda weight: (id(weight), weight.dtype, weight.device))
    patch.setattr(FakeTensor, "__float__", lambda _: 1.0, raising=False)
    patch.setattr(FakeTensor, "__bool__", lambda _: True, raising=False)
    patch.setattr(FakeTensor, "numpy", lambda t: np.ones(tuple(t.shape), np.float32), raising=False)
    patch.setattr(nn.Module, "to", _to)
    border_windows.cache_clear()
    recorder = Recorder()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), recorder:
            yield recorder
    finally:
        border_windows.cache_clear()


def _to(module: nn.Module, device: Any = None, **_: Any) -> nn.Module:
    """Replace parameters and buffers, because torch cannot move fake ones in place."""
    if device is None:
        return module
    moved: dict[int, Tensor] = {}

    def move(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor.device == device:
            return tensor
        if id(tensor) not in moved:
            given = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
            )
            if isinstance(tensor, nn.Parameter):
                given = nn.Parameter(given, requires_grad=tensor.requires_grad)
            moved[id(tensor)] = given
        return moved[id(tensor)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: move(tensor) for name, tensor in tensors.items()})
    return module
