"""Operators that Apple GPUs have, as the installed torch declares them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import torchgen

_DECLARED = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
_FUNCTION = re.compile(r"^- func: ([\w.]+)\(", re.MULTILINE)
_KERNELS = re.compile(r"^    ([\w, ]+): ", re.MULTILINE)
_DELEGATE = re.compile(r"^  structured_delegate: ([\w.]+)", re.MULTILINE)
# Kernels for every device, or made of other operators.
_ANYWHERE = {"MPS", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}


@cache
def mps_operators() -> frozenset[str]:
    """Return the names of all operators that run on MPS without the help of the CPU."""
    text = re.sub(r"#.*", "", _DECLARED.read_text(encoding="utf-8"))
    names = list(_FUNCTION.finditer(text))
    ends = [name.start() for name in names[1:]] + [len(text)]
    entries = {n[1]: text[n.end() : end] for n, end in zip(names, ends, strict=True)}

    def runs(name: str) -> bool:
        entry = entries[name]
        if (delegate := _DELEGATE.search(entry)) is not None:
            return runs(delegate[1])
        _, dispatch, kernels = entry.partition("\n  dispatch:\n")
        # without kernels of its own an operator is made of others
        devices = {d.strip() for line in _KERNELS.findall(kernels) for d in line.split(",")}
        if "MPS" in devices or not dispatch:
            return True
        # such an operator often makes its result and calls the form that fills it
        filling = name.partition(".")[0] + ".out"
        return bool(devices & _ANYWHERE) and (filling == name or runs_if_known(filling))

    def runs_if_known(name: str) -> bool:
        return name not in entries or runs(name)

    return frozenset(name for name in entries if runs(name))
