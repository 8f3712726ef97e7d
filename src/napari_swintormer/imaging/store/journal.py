"""The journal of a run on disk: which chunk files are complete, and their checksums."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Mark = tuple[int, int, int]
"""Plane, row and column of blocks of a finished chunk."""

_READ_BYTES = 2**20


class Journal:
    """A text file with one line per complete chunk file.

    A line is appended when its chunk is on disk, and handed to the operating system at once: a
    killed process loses nothing. A last line that was cut off does not count. The lines::

        batch_size 4                      tiles at once
        planes_per_chunk 3                colours that are restored one by one
        chunk 1a2b3c4d 0/c/3/4 0 3 4      CRC-32 and name of a file; plane, row, column
        level 5e6f7a8b 1/c/1/2            CRC-32 and name of a file of a coarser level

    `path` is an existing file in the folder that the names begin in. `numbers` are known by their
    word, `checksums` by the name of a file, and `marks` tells the file of every finished chunk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.numbers: dict[str, int] = {}
        self.checksums: dict[str, int] = {}
        self.marks: dict[Mark, str] = {}
        for line in self._lines():
            self._take(line)

    def note_number(self, word: str, number: int) -> None:
        """Note a number under a word."""
        self._append(f"{word} {number}")

    def note_chunk(self, name: str, mark: Mark) -> None:
        """Note that the file `name` holds a chunk of the result."""
        self._append(f"chunk {self._checksum(name):08x} {name} {' '.join(map(str, mark))}")

    def note_level(self, name: str) -> None:
        """Note that the file `name` holds a chunk of a coarser level."""
        self._append(f"level {self._checksum(name):08x} {name}")

    def is_intact(self, name: str) -> bool:
        """Say whether a file still has the checksum of its line."""
        try:
            return self._checksum(name) == self.checksums.get(name)
        except FileNotFoundError:
            return False

    def forget(self, names: set[str]) -> None:
        """Count files as unwritten, until a new line notes them again."""
        self.checksums = {n: crc for n, crc in self.checksums.items() if n not in names}
        self.marks = {mark: n for mark, n in self.marks.items() if n not in names}

    def _append(self, line: str) -> None:
        # "r+b" creates no file: a new journal on another disk would begin empty
        with self._path.open("r+b", 0) as journal:
            journal.seek(0, os.SEEK_END)
            journal.write(f"{line}\n".encode("ascii"))
        self._take(line)

    def _take(self, line: str) -> None:
        word, first, *rest = line.split()
        if not rest:
            self.numbers[word] = int(first)
            return
        name, *numbers = rest
        self.checksums[name] = int(first, 16)
        if word == "chunk":
            plane, row, column = map(int, numbers)
            self.marks[plane, row, column] = name

    def _lines(self) -> list[str]:
        whole, _, torn = self._path.read_bytes().rpartition(b"\n")
        if torn:  # the next line would continue it
            os.truncate(self._path, len(whole) + 1 if whole else 0)
        return whole.decode("ascii").splitlines()

    def _checksum(self, name: str) -> int:
        crc = 0
        with (self._path.parent / name).open("rb") as file:
            while part := file.read(_READ_BYTES):
                crc = zlib.crc32(part, crc)
        return crc


def has_begun(path: Path) -> bool:
    """Say whether a journal exists and has a whole line; a loss of power may leave less."""
    if not path.is_file():
        return False
    with path.open("rb") as journal:
        return journal.readline(_READ_BYTES).endswith(b"\n")
