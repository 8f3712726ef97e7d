"""A GPU that computes nothing: its tensors have shape, type and device, but no values."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
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
    """Let this process handle tensors of a GPU; skips the test where no compiler is.

    What was built stays in `folder`: building takes as long as a few tests.
    """
    if torch.backends.cuda.is_built():
        torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
        return
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    here, library = Path(torch.__file__).parent, folder / f"guard-{torch.__version__}.so"
    if not library.exists():
        with TemporaryDirectory(dir=folder) as building:
            source, built = Path(building) / "guard.cpp", Path(building) / library.name
            source.write_text(_GUARD)
            places = [f"-I{here / 'include'}", f"-L{here / 'lib'}", "-lc10"]
            build = [compiler, "-shared", "-fPIC", "-std=c++20", str(source), "-o", str(built)]
            subprocess.run([*build, *places], check=True, capture_output=True)
            built.replace(library)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class GpuTensor(Tensor):
    """A tensor on the GPU; `like` has its shape, strides and type on the device "meta"."""

    like: Tensor

    @staticmethod
    def __new__(cls, like: Tensor) -> GpuTensor:
        made: GpuTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            like.shape,
            strides=like.stride(),
            storage_offset=like.storage_offset(),
            dtype=like.dtype,
            device=GPU,
        )
        made.like = like
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"{func} outside of the fake GPU")


class Recorder(TorchDispatchMode):
    """Counts the operators that work on the GPU, and finds what a real GPU would refuse or slow.

    Parameters
    ----------
    device
        ``"cpu"`` counts the operators of the CPU instead.

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

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        self._device = device
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
            result, own = _on_fake_gpu(func, args, kwargs), func.namespace == "aten"
        given, made = _on(self._device, (args, kwargs)), _on(self._device, result)
        if not given and not made:
            return result
        name = func.name().removeprefix("aten::")
        if not outer and func.namespace == "aten" and name.partition(".")[0] not in _NO_LAUNCH:
            self.launches += 1
        if own:
            self.operators.add(name)
            if any(t.dtype in (torch.float64, torch.complex128) for t in given + made):
                self.float64.add(name)
            if given and not made and not isinstance(result, tuple):
                self.fetched += 1
        return result


@cache
def _is_made_of_others(func: Any) -> bool:
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return func.namespace == "aten" and has_kernel(func.name(), "CompositeImplicitAutograd")


def _on(device: str, values: Any) -> list[Tensor]:
    leaves = (leaf for leaf in _leaves(values) if isinstance(leaf, Tensor))
    return [leaf for leaf in leaves if leaf.device.type == device]


def _leaves(values: Any) -> Iterator[Any]:
    """Yield the values in nested tuples, lists and dictionaries; torch's own way is slower."""
    if isinstance(values, (tuple, list)):
        for value in values:
            yield from _leaves(value)
    elif isinstance(values, dict):
        yield from _leaves(tuple(values.values()))
    else:
        yield values


def _mapped(change: Callable[[Any], Any], values: Any) -> Any:
    """Change the values in nested tuples, lists and dictionaries."""
    if isinstance(values, (tuple, list)):
        return type(values)([_mapped(change, value) for value in values])
    if isinstance(values, dict):
        return {name: _mapped(change, value) for name, value in values.items()}
    return change(values)


# They take tensors of two devices, or indices of the CPU.
_MIXING = frozenset(("copy_", "_to_copy", "index", "index_put_", "_index_put_impl_"))
# What operators gave for tensors and numbers like these: the slow part, and it comes again.
_KNOWN: dict[object, Any] = {}


def _on_fake_gpu(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on what the tensors of the GPU are like; those of the CPU are real."""
    given, device = _on("cuda", (args, kwargs)), kwargs.get("device")
    device = None if device is None else torch.device(device)
    to_gpu = device is not None and device.type == "cuda"
    if not given and not to_gpu:
        return func(*args, **kwargs)
    name = func.name().removeprefix("aten::").partition(".")[0]
    if name == "_local_scalar_dense":
        return torch.ones((), dtype=args[0].dtype).item()
    others = [t for t in _leaves((args, kwargs)) if isinstance(t, Tensor) and t.ndim]
    if given and name not in _MIXING and not all(isinstance(t, GpuTensor) for t in others):
        raise RuntimeError(f"{func} takes tensors of the GPU and of the CPU")
    key = func, _described((args, kwargs))
    if key not in _KNOWN:
        on_meta = kwargs if device is None else kwargs | {"device": torch.device("meta")}
        _KNOWN[key] = func(*_mapped(_like, args), **_mapped(_like, on_meta))
    result = _KNOWN[key]
    if func._schema.is_mutable:  # such as `add_`, which gives what it is given
        return args[0] if result is not None else None
    if device is not None and not to_gpu:  # the CPU gets ones
        return torch.ones(result.shape, dtype=result.dtype)
    with torch.inference_mode(False):  # views must be of the kind of what they view
        return _mapped(lambda value: GpuTensor(value) if _is_meta(value) else value, result)


def _described(value: Any) -> object:
    """Describe values so that equal descriptions give equal results."""
    if isinstance(value, (tuple, list)):
        return tuple([_described(each) for each in value])
    if isinstance(value, dict):
        return tuple([(name, _described(each)) for name, each in value.items()])
    if isinstance(value, Tensor):
        place = value.device.type, value.storage_offset()
        return tuple(value.shape), value.stride(), value.dtype, *place
    return type(value), value


def _like(value: Any) -> Any:
    return value.like if isinstance(value, GpuTensor) else value


def _is_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "meta"


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
    """Let new tensors lie on the GPU that computes nothing, and record what works there."""
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    patch.setattr(torch.cuda, "_lazy_init", lambda: None)
    # tensors without values have no address, which tells whether weights were replaced
    patch.setattr(block, "_stamp", lambda weight: (id(weight), weight.dtype, weight.device))
    patch.setattr(nn.Module, "to", _to)
    border_windows.cache_clear()
    recorder = Recorder()
    try:
        with recorder:
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
