"""The estimates of a volume between two iterations of its restoration, in memory or in files."""

from __future__ import annotations

import json
import os
import shutil
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Volume = NDArray[np.float32]


class StackState:
    """The estimates of a volume between two iterations, in memory or in files.

    Parameters
    ----------
    folder
        Where the files are.
    shape
        Of the object.
    known
        What the estimates depend on; those of another run are not used.
    start
        First value of the estimates.
    in_memory
        Whether no files are needed.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int, int],
        known: Mapping[str, Any],
        start: float,
        *,
        in_memory: bool,
    ) -> None:
        self._folder, self._shape, self._known = folder, shape, json.loads(json.dumps(known))
        # In memory the next estimate takes the place of the previous one.
        following = "b" if in_memory else "c"
        self._names = {
            "estimate": "a",
            "previous": "b",
            "following": following,
            "gain": "gain",
        }
        self._arrays: dict[str, Volume] | None = None
        self.iterations = 0
        if in_memory:
            self._arrays = {name: np.empty(shape, np.float32) for name in self._names.values()}
        elif self._found():
            return
        else:
            folder.mkdir(parents=True, exist_ok=True)
            for name in self._names.values():
                with (folder / name).open("wb") as file:
                    file.truncate(4 * prod(shape))
        for name in ("estimate", "previous"):
            for plane in range(shape[0]):  # plane by plane: memory stays small
                self.write(
                    name, (slice(plane, plane + 1),), np.full((1, *shape[1:]), start, np.float32)
                )
        self._save()

    def read(self, name: str, place: tuple[slice, ...]) -> Volume:
        """Read a region of an array; in memory it is a view that can be changed in place."""
        values = self._open(name)[place]
        return values if self._arrays is not None else np.array(values)

    def write(self, name: str, place: tuple[slice, ...], values: Volume) -> None:
        """Write a region of an array."""
        wanted = self._open(name)[place]
        if not np.shares_memory(wanted, values):
            wanted[...] = values

    def advance(self) -> None:
        """Take what follows for the estimate; one more iteration is made."""
        names = self._names
        free = names["estimate"] if self._arrays is not None else names["previous"]
        names["previous"], names["estimate"] = names["estimate"], names["following"]
        names["following"] = free
        self.iterations += 1
        self._save()

    def remove(self) -> None:
        """Remove the files."""
        self._arrays = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self, name: str) -> Volume:
        key = self._names[name]
        if self._arrays is not None:
            return self._arrays[key]
        # A mapping that stays open counts as memory of this process.
        return np.memmap(self._folder / key, np.float32, "r+", shape=self._shape)

    def _save(self) -> None:
        if self._arrays is not None:
            return
        text = json.dumps({"run": self._known, "names": self._names, "iterations": self.iterations})
        partial = self._folder / "state.json.tmp"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, self._folder / "state.json")

    def _found(self) -> bool:
        """Go on with the files of an earlier run, if there are some of the same run."""
        try:
            state = json.loads((self._folder / "state.json").read_text(encoding="utf-8"))
            sizes = {(self._folder / name).stat().st_size for name in self._names.values()}
        except (OSError, ValueError):
            return False
        if state.get("run") != self._known or sizes != {4 * prod(self._shape)}:
            return False
        self._names, self.iterations = state["names"], state["iterations"]
        return True
