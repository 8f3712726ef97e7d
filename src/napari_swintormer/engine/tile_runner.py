"""A runner for one device: restores tiles batch by batch, with smaller batches on little memory."""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_swintormer.engine.devices import (
    is_out_of_memory,
    precision_name,
    processor_for,
    resolve_precision,
    slow_precision,
)
from napari_swintormer.engine.protocol import Steps
from napari_swintormer.engine.side_by_side import cpu_processor
from napari_swintormer.errors import SettingsError
from napari_swintormer.events import Notice, Substitution
from napari_swintormer.models.stepwise import run_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.engine.devices import Processor
    from napari_swintormer.engine.kept_tiles import Key, TakingOver
    from napari_swintormer.engine.protocol import Tile
    from napari_swintormer.models.stepwise import Stepwise
    from napari_swintormer.models.tile_restorer import TileRestorer

    Wait = Callable[[], NDArray[np.float32]]
    Stepping = Generator[list[NDArray[np.float32]], None, Wait]

_CPU = torch.device("cpu")


class TileRunner:
    """A `Runner` for one device.

    When memory runs out, the batch is halved, and halved again; with a single tile the restorer
    moves to the CPU. The run continues with the tiles that failed. The batch never grows again:
    what ran out once would run out again.

    Parameters
    ----------
    restorer, device, dtype, batch_size
        The restorer, its device, the precision of its matrix products, and the tiles in one forward
        pass; they change when memory runs out. Tiles go in and come out as float32.
    processor
        Processor of the device; None makes the usual one.
    n_tiles
        Tiles of the whole run; should the CPU take over, it restores several of them at once.

    Attributes
    ----------
    taking_over
        Kept tiles that need not be restored again; None to restore all.
    n_taken
        Tiles that were taken over so far.
    substitution
        Says that the CPU, or fp32, has taken the place of what was asked for; None before.
    """

    def __init__(
        self,
        restorer: TileRestorer,
        device: torch.device,
        dtype: torch.dtype,
        batch_size: int,
        processor: Processor | None = None,
        n_tiles: int = 1,
    ) -> None:
        self.restorer, self.device, self.dtype = restorer, device, dtype
        self._home = next((p.device for p in restorer.parameters()), _CPU)
        self.batch_size, self._n_tiles = batch_size, n_tiles
        self._processor = processor or processor_for(device)
        self._ahead = self._processor.ahead
        self._notices: list[Notice] = [Notice(told) for told in slow_precision(dtype, device)]
        self.substitution: Substitution | None = None
        self.steps = Steps(0, 1, 0)
        self.taking_over: TakingOver | None = None
        self.n_taken = 0

    def take_notices(self) -> list[Notice]:
        """Return what is to be told of precision and memory since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def changes(self, groups: Iterable[list[Tile]]) -> Iterator[list[NDArray[np.float32]]]:
        """Restore tiles and give the change that the restorer makes to each, as `Runner` does."""
        waiting, started = deque[list["Tile"]](), deque[_Batch]()
        coming = filter(None, groups)
        while True:
            room = len(started) <= self._ahead
            if room and not waiting:
                waiting.extend(islice(coming, 1))
            failed, restored = False, None
            try:
                if room and waiting:
                    started.append((yield from self._start(waiting[0][: self.batch_size])))
                elif started:
                    restored = yield from self._finish(started[0])
                else:
                    return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = True
            # not in the `except`: the error holds memory of the device
            if failed:
                waiting.extendleft(batch.tiles for batch in reversed(started))
                started.clear()
                self._take_less(len(waiting[0]))
            elif restored is None:
                _drop(waiting, len(started[-1].tiles))
            else:
                tiles, _, _, keys = started.popleft()
                self._check(restored)
                if keys and self.taking_over is not None and self.taking_over.adds:
                    self.taking_over.kept.keep(keys, restored)
                # numpy: on busy cores, the threads of small torch operations cost more than they
                # gain
                yield [
                    _change(new, _first_view(tile, self.restorer.views))
                    for new, tile in zip(restored, tiles, strict=True)
                ]

    def _start(self, tiles: list[Tile]) -> Generator[list[NDArray[np.float32]], None, _Batch]:
        keys: list[Key] = []
        if self.taking_over is not None:
            keys = self.taking_over.keys(tiles, f"{self.device} {self.dtype}", self.restorer)
            kept = self.taking_over.kept.find(keys) if keys else None
            if kept is not None:
                self.n_taken += len(kept)
                return _Batch(tiles, partial(np.stack, kept), None)
        pixels, origins = np.stack([tile.pixels for tile in tiles]), [tile.origin for tile in tiles]
        total = self.restorer.count_steps(*pixels.shape[2:])
        starting = self._processor.start(self.restorer, self.dtype, pixels, origins)
        stepping = self._take_steps(starting, total, len(tiles))
        if self._processor.in_background:
            return _Batch(tiles, None, stepping, keys)
        return _Batch(tiles, (yield from stepping), None, keys)

    def _take_steps(self, starting: Stepwise[Wait], total: int, n_tiles: int) -> Stepping:
        """Tell the steps of a batch, and return the function that waits for its result."""
        for done in range(1, total + 1):
            next(starting)
            if total > 1:
                self.steps = Steps(done, total, n_tiles)
                yield []
        return run_to_end(starting)

    def _finish(
        self, batch: _Batch
    ) -> Generator[list[NDArray[np.float32]], None, NDArray[np.float32]]:
        """Wait for the result of a batch, and tell the steps that are still to come."""
        wait = batch.wait
        if wait is None:
            assert batch.stepping is not None
            wait = yield from batch.stepping
        return wait()

    def _take_less(self, n_tiles: int) -> None:
        """Use less memory from now on; it ran out with `n_tiles` waiting or started."""
        self._processor.release()
        size = min(n_tiles, self.batch_size)
        name = self._processor.name
        if size > 1:
            self.batch_size = size // 2
            self._notices.append(
                Notice(
                    f"Memory ran out on {name} with {size} tiles at once; going on with "
                    f"{self.batch_size}."
                )
            )
        elif self._ahead:
            self._ahead //= 2
            number = f"{self._ahead + 1} tiles" if self._ahead else "one tile"
            self._notices.append(
                Notice(f"Memory ran out on {name}; going on with {number} at a time.")
            )
        elif self.device != _CPU and self.restorer.movable:
            self.move_to_cpu()
        else:
            raise SettingsError(
                f"Memory is too small for a single tile (got {name}). Use a smaller tile_size, or "
                "close other programs."
            )

    def move_to_cpu(self, reason: str | None = None) -> None:
        """Continue on the CPU; results may differ in the last bits.

        `reason` says why, as the beginning of a sentence; None for too little memory.
        """
        advice = "" if reason else " A smaller tile_size may fit."
        reason = reason or f"The memory of {self._processor.name} is too small for a single tile"
        self.restorer = self.restorer.to(_CPU)
        self._processor.release()
        self.device, self.batch_size = _CPU, 1
        if self.dtype != torch.float32:
            self.dtype = resolve_precision("auto", _CPU)
        self._processor = cpu_processor(self.restorer, self._n_tiles)
        self._ahead = self._processor.ahead
        self.substitute(
            f"{reason}; going on with the CPU in {precision_name(self.dtype)}, which is "
            f"slower.{advice}"
        )

    def move_to_fp32(self, processor: Processor, reason: str) -> None:
        """Continue in fp32 with a processor of the same device."""
        self.dtype, self._processor = torch.float32, processor
        self.substitute(f"{reason}; going on in fp32, which is slower.")

    def substitute(self, message: str) -> None:
        """Say that something else is used than was asked for."""
        self.substitution = Substitution(message)
        self._notices.append(self.substitution)

    def tell(self, message: str) -> None:
        """Say something that the user should know."""
        self._notices.append(Notice(message))

    def close(self) -> None:
        """Bring the restorer back where it came from, and release the memory of its device."""
        self._processor.close()
        if self.device != self._home:
            self.restorer.to(self._home)
        del self.restorer
        if self.device != _CPU:
            self._processor.release()

    def _check(self, restored: NDArray[np.float32]) -> None:
        if not np.isfinite(restored).all():
            raise SettingsError(
                "The model returned values that are not finite "
                f"(got precision={precision_name(self.dtype)!r} on {self._processor.name}). "
                "Use precision='fp32'."
            )


class _Batch(NamedTuple):
    """Tiles that are started, and keys to keep them.

    `wait` waits for their result. In the background, `stepping` gives that function after the last
    step.
    """

    tiles: list[Tile]
    wait: Wait | None
    stepping: Stepping | None
    keys: Sequence[Key] = ()


def _first_view(tile: Tile, views: int) -> NDArray[np.float32]:
    """Give the first view of a tile, without its margin."""
    _, height, width = tile.pixels.shape
    m = tile.margin
    return tile.pixels[: len(tile.pixels) // views, m : height - m, m : width - m]


def _change(restored: NDArray[np.float32], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the first view of a tile; contrasts of samples stay behind the change."""
    channels = len(pixels)
    change = restored[:channels] - pixels
    contrasts = restored[channels:]
    return np.concatenate([change, contrasts]) if len(contrasts) else change


def _drop(waiting: deque[list[Tile]], n: int) -> None:
    """Remove the first `n` tiles from the first group."""
    waiting[0] = waiting[0][n:]
    if not waiting[0]:
        waiting.popleft()
