"""The log of a training: one JSON object per line, and TensorBoard's files."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import OutputError, TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_swintormer.events import Trained

FILE_NAME = "log.jsonl"


class TrainingLog:
    """Writes the values of `Trained` events, and keeps the best validation.

    A run that was killed after step `done`, that of its checkpoint, may have logged later steps;
    these lines are dropped. `best` is the highest validation PSNR in dB, `since_best` the number of
    validations after it.
    """

    def __init__(self, folder: Path, done: int, *, tensorboard: bool = False) -> None:
        self._path = folder / FILE_NAME
        self.best = -math.inf
        self.since_best = 0
        kept = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if done and self._path.is_file():
                kept = [line for line in self._read() if line["step"] <= done]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            self._path.write_text(text, encoding="utf-8")
        except OSError as error:
            message = f"The log {self._path} cannot be written ({error.strerror})."
            raise OutputError(message) from error
        for line in kept:
            if "psnr" in line:
                self._count(line["psnr"])
        self._board = _open_board(folder / "tensorboard", done) if tensorboard else None

    def write(self, report: Trained, learning_rate: float) -> bool:
        """Add a line; return whether its validation is the best so far."""
        line = {
            "step": report.step,
            "steps": report.steps,
            "learning_rate": learning_rate,
            "time": round(time.time(), 1),
        }
        if not math.isnan(report.loss):
            line["loss"] = round(report.loss, 6)
        if report.psnr is not None and report.psnr_blurred is not None:
            line |= {"psnr": round(report.psnr, 4), "psnr_blurred": round(report.psnr_blurred, 4)}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(
                f"The log {self._path} cannot be written ({error.strerror}). Free some disk space, "
                "then resume the training."
            ) from error
        if self._board is not None:
            self._show(line, report.picture)
        return report.psnr is not None and self._count(line["psnr"])

    def close(self) -> None:
        """Close the files of TensorBoard."""
        if self._board is not None:
            self._board.close()

    def _show(self, line: dict[str, float], picture: Path | None) -> None:
        import numpy as np
        from PIL import Image

        assert self._board is not None
        for name in ("loss", "learning_rate", "psnr", "psnr_blurred"):
            if name in line:
                self._board.add_scalar(name, line[name], line["step"])
        if picture is not None:
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            name = "blurred, restored, sharp"
            self._board.add_image(name, pixels, line["step"], dataformats="HWC")

    def _count(self, psnr: float) -> bool:
        if not psnr > self.best:
            self.since_best += 1
            return False
        self.best, self.since_best = psnr, 0
        return True

    def _read(self) -> list[dict[str, float]]:
        lines = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:  # a killed run left half a line
                break
        return lines


def _open_board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            'TensorBoard is not installed. Install it with pip install "napari-swintormer'
            '[tensorboard]", or train without it.'
        ) from error
    return SummaryWriter(folder, purge_step=done + 1 if done else None)
