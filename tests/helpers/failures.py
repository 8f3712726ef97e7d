"""Disks and memory that fail at a chosen step."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate")
_FREEING = ("os.remove", "os.rmdir")
_PACKAGE = "napari_swintormer"


class Failures:
    """Counts the steps of a run that can fail, and lets the n-th one fail.

    A step opens a file to write, writes, syncs, renames, links, truncates or removes a file or
    folder in `folder`, or allocates an array of this package. With `full` every step from the n-th
    on fails as on a full disk, except removals. `steps` counts, and `failed` counts failures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.steps, self.failed = str(folder), 0, 0
        self._fail_at, self._full = 0, False

    @contextmanager
    def at(
        self, n: int, monkeypatch: pytest.MonkeyPatch, *, full: bool = False
    ) -> Iterator[Failures]:
        """Let step `n` fail inside the block; 0 lets none fail."""
        self.steps, self.failed, self._fail_at, self._full = 0, 0, n, full
        _hook_once()
        with monkeypatch.context() as broken:
            broken.setattr(Path, "open", self._open(Path.open))
            broken.setattr(os, "fsync", self._before(os.fsync, self._disk_step))
            for name in ("empty", "zeros"):
                allocate = getattr(np, name)
                broken.setattr(np, name, self._before(allocate, self._allocation))
            _ACTIVE.append(self)
            try:
                yield self
            finally:
                _ACTIVE.remove(self)

    def on_event(self, event: str, args: tuple[Any, ...]) -> None:
        """Count a step that the interpreter tells of, in any thread."""
        if event == "open":
            path, mode, flags = args
            opens = any(c in mode for c in "wxa+") if mode else flags & (os.O_RDWR | os.O_WRONLY)
            if opens and self._is_inside(path):
                self._disk_step()
        elif event in _CHANGES:
            relative = event in _FREEING and args[-1] not in (-1, None)  # of shutil.rmtree
            if relative or self._is_inside(args[0]):
                self._disk_step(frees=event in _FREEING)

    def _is_inside(self, path: Any) -> bool:
        return not isinstance(path, int) and os.fsdecode(path).startswith(self.folder)

    def _disk_step(self, *, frees: bool = False) -> None:
        self._step(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), spared=frees and self._full)

    def _allocation(self) -> None:
        if sys._getframe(2).f_globals.get("__name__", "").startswith(_PACKAGE) and not self._full:
            self._step(MemoryError("no memory is left"))

    def _step(self, error: Exception, *, spared: bool = False) -> None:
        self.steps += 1
        late = self._full and self.steps > self._fail_at > 0
        if (self.steps == self._fail_at or late) and not spared:
            self.failed += 1
            raise error

    def _before(self, work: Callable[..., Any], step: Callable[[], None]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            step()
            return work(*args, **kwargs)

        return stepping

    def _open(self, opened: Callable[..., Any]) -> Callable[..., Any]:
        def opening(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            file = opened(path, mode, *args, **kwargs)
            writes = any(c in mode for c in "wxa+") and self._is_inside(path)
            return _HalfWriter(file, self._disk_step) if writes else file

        return opening


class _HalfWriter:
    """A file whose write stops in the middle when its step fails."""

    def __init__(self, file: Any, step: Callable[[], None]) -> None:
        self._file, self._step = file, step

    def write(self, data: Any) -> int:
        try:
            self._step()
        except OSError:
            self._file.write(bytes(memoryview(data))[: len(data) // 2])
            raise
        written: int = self._file.write(data)
        return written

    def __enter__(self) -> _HalfWriter:
        self._file.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.__exit__(*raised)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


_ACTIVE: list[Failures] = []
_HOOKED: list[bool] = []


def _hook_once() -> None:
    """Listen to the interpreter; a hook can never be taken out."""
    if not _HOOKED:
        _HOOKED.append(True)
        sys.addaudithook(lambda event, args: _ACTIVE[-1].on_event(event, args) if _ACTIVE else None)
