"""What a run will do, known before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.tiling.blending import Blending
from napari_swintormer.tiling.grid import TileGrid, check_tiling
from napari_swintormer.tiling.side_by_side import share_threads

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from napari_swintormer.settings.deblur_settings import Blend

_FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class DeviceMemory:
    """Memory that the restorer needs while it works, as measured on small batches."""

    fixed: float  # bytes for the weights
    per_pixel: float  # bytes per pixel of a batch, of all channels together
    on_host: bool = False  # whether the device uses the computer's main memory, as a CPU does


@dataclass(frozen=True)
class RestorerProfile:
    """What a plan knows of the restorer and its devices; None while it is not measured."""

    minimum_tile_size: int = 1  # pixels
    margin: int = 0  # pixels around a tile that the restorer reads
    device_memory: DeviceMemory | None = None
    rate: float | None = None  # pixels of tiles per second, for one sample
    n_devices: int = 1
    threads: int = 1  # of a CPU that restores tiles side by side


@dataclass(frozen=True)
class Plan:
    """Everything a run does, before it runs; made by `make_plan`."""

    blending: Blending  # the tile grid of a plane, and how tiles are blended
    n_planes: int
    channels: int  # of a plane
    batch_size: int  # tiles in one forward pass
    host_bytes: int  # most main memory that the run takes beside the interpreter and its libraries
    device_bytes: int | None  # memory on the device; None while unknown or part of `host_bytes`
    disk_bytes: int  # of the result with its coarser levels, uncompressed
    seconds: float | None  # expected duration; None while the speed is unknown
    samples: int = 1  # how often every tile is restored
    depth: int = 1  # images that are summed up for a plane: 1, or `samples` with uncertainty

    @property
    def grid(self) -> TileGrid:
        """The tiles of every plane."""
        return self.blending.grid

    @property
    def n_tiles(self) -> int:
        """Tiles of all planes together."""
        return self.n_planes * self.grid.n_tiles

    def describe(self, device_name: str | None = None) -> str:
        """Describe the plan in one line; without a name the device is not known yet.

        Examples
        --------
        >>> profile = RestorerProfile(rate=400_000)
        >>> plan = make_plan(
        ...     (6000, 4000), dtype="uint16", tile_size=512, overlap=64, profile=profile
        ... )
        >>> plan.describe("CPU")
        '126 tiles of 512 px, about 83 s on CPU, 0.1 GB of memory, 0.1 GB on disk'
        """
        height, width = self.grid.tile_shape
        size = f"{width}" if height == width else f"{width} × {height}"
        tiles = f"{self.n_tiles:,} tile{'s' * (self.n_tiles != 1)} of {size} px"
        if self.grid.margin:
            tiles += f" and {self.grid.margin} px around"
        time = "" if self.seconds is None else f", about {duration_text(self.seconds)}"
        where = "" if device_name is None else f" on {device_name}"
        parts = [f"{tiles}{time}{where}", f"{size_text(self.host_bytes)} of memory"]
        if self.device_bytes is not None:
            parts.append(f"{size_text(self.device_bytes)} on the device")
        parts.append(f"{size_text(self.disk_bytes)} on disk")
        return ", ".join(parts)


def make_plan(
    shape: tuple[int, int],
    *,
    dtype: DTypeLike,
    tile_size: int,
    overlap: int,
    n_planes: int = 1,
    channels: int = 1,
    n_views: int = 1,
    blend: Blend = "uniform",
    batch_size: int = 1,
    samples: int = 1,
    uncertainty: bool = False,
    profile: RestorerProfile | None = None,
) -> Plan:
    """Plan a run over `n_planes` planes of `shape` (Y, X) pixels; nothing is computed or allocated.

    `n_views` is 2 with a second view, and `batch_size` the number of tiles in one forward pass of a
    device. A `TilingError` or `SettingsError` says which settings do not fit together.
    """
    profile = profile or RestorerProfile()
    check_tiling(tile_size, overlap, profile.minimum_tile_size)
    if batch_size < 1:
        raise SettingsError(
            f"batch_size must be at least 1 (got batch_size={batch_size}). "
            "Use 1 on a CPU, more on a GPU."
        )
    grid = TileGrid(shape, tile_size, overlap, margin=profile.margin)
    (height, width), (seen_height, seen_width) = grid.tile_shape, grid.seen_shape
    tile_pixels = seen_height * seen_width
    itemsize = np.dtype(dtype).itemsize
    depth = samples if uncertainty else 1
    tiles = _FLOAT * channels * tile_pixels * batch_size
    batch = (n_views + 2 * depth) * tiles
    host = _engine_bytes(grid, channels, n_views, itemsize, depth) + batch
    if profile.n_devices > 1:
        block = _block_bytes(grid, channels, n_views, itemsize, depth)
        host += (profile.n_devices - 1) * (2 * block + batch)
    at_once, _ = share_threads(profile.threads, -(-n_planes * grid.n_tiles // batch_size))
    if at_once > 1:  # one more batch waits; the batches may lie in several blocks
        blocks = -(-at_once * batch_size // grid.count_tiles((0, 0)))
        block = _block_bytes(grid, channels, n_views, itemsize, depth)
        host += at_once * batch + min(blocks, grid.n_blocks[0] * grid.n_blocks[1] - 1) * block
    device, memory = None, profile.device_memory
    if memory is not None:
        per_pixel = memory.per_pixel * tile_pixels * batch_size
        device = int(memory.fixed + per_pixel + depth * tiles * (samples > 1))
        if memory.on_host:
            host, device = host + int(memory.fixed + at_once * (device - memory.fixed)), None
    on_disk = itemsize + _FLOAT * uncertainty
    restored = n_planes * grid.n_tiles * height * width * samples
    return Plan(
        blending=Blending(grid, blend),
        n_planes=n_planes,
        channels=channels,
        batch_size=batch_size,
        host_bytes=host,
        device_bytes=device,
        # each coarser level has a quarter of the pixels: 1 + 1/4 + 1/16 + … = 4/3
        disk_bytes=n_planes * channels * shape[0] * shape[1] * on_disk * 4 // 3,
        seconds=None if profile.rate is None else restored / profile.rate,
        samples=samples,
        depth=depth,
    )


def _engine_bytes(grid: TileGrid, channels: int, n_views: int, itemsize: int, depth: int) -> int:
    """Count the bytes of main memory that the engine takes beside its batch.

    There are C channels, V views, rows of X pixels, blocks of B pixels, and sums of the depth D.
    The tiles of a block reach over an area S, and m rows below the block::

        4·C·D·m·(X + margins)          sums of one row of blocks that reach into the next row
        C·S·V·(itemsize + 12)          the next block: as read, on its way to unit intensities
        C·S·(V·(itemsize + 4) + 4·D)   the current block, with its sums
        C·S·(V·itemsize + 4·D)         the block before, as read and its sums, while
        C·B·(2·itemsize + 16 + 4·D)    its chunk is finished and written

    With uncertainty a finished chunk takes 4·C·B·D more while the samples are compared.
    """
    rows, columns = grid.n_blocks
    down = [(grid.source((row, 0)), grid.chunk((row, 0))) for row in range(rows)]
    across = [grid.source((0, column)).shape[1] for column in range(columns)]
    source = max(region.shape[0] for region, _ in down) * max(across)
    below = max(region.y1 - chunk.y1 for region, chunk in down)
    chunk = grid.chunk((0, 0))
    chunk_pixels = chunk.shape[0] * chunk.shape[1]
    return channels * (
        _FLOAT * depth * below * (sum(across) + max(across))
        + source * (n_views * (3 * itemsize + 4 * _FLOAT) + 2 * depth * _FLOAT)
        + chunk_pixels * (2 * itemsize + (4 + depth + depth * (depth > 1)) * _FLOAT)
    )


def _block_bytes(grid: TileGrid, channels: int, n_views: int, itemsize: int, depth: int) -> int:
    """Bytes of a block on a further device, with its sums and the changes of its tiles."""
    rows, columns = grid.n_blocks
    height = max(grid.source((row, 0)).shape[0] for row in range(rows))
    width = max(grid.source((0, column)).shape[1] for column in range(columns))
    tiles = grid.count_tiles((0, 0)) * grid.tile_shape[0] * grid.tile_shape[1]
    per_pixel = n_views * (itemsize + _FLOAT) + depth * _FLOAT
    return channels * (height * width * per_pixel + tiles * depth * _FLOAT)


def duration_text(seconds: float) -> str:
    """Write an estimated duration, rounded as estimates should be.

    >>> duration_text(83.4), duration_text(200)
    ('83 s', '3 min')
    """
    for unit, length, limit in (("s", 1, 90), ("min", 60, 90), ("hours", 3600, 48)):
        if seconds < limit * length:
            return f"{max(1, round(seconds / length))} {unit}"
    return f"{round(seconds / 86400)} days"


def size_text(count: int) -> str:
    """Write a number of bytes.

    >>> size_text(1_240_000_000), size_text(8_000_000)
    ('1.2 GB', '8 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 0.5e8 else f"{max(1, round(count / 1e6))} MB"
