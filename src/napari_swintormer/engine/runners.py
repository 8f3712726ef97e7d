"""From a model and the user's choices to a runner, in the process that does the work."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from napari_swintormer.engine import devices
from napari_swintormer.engine.calibration import batch_size_that_fits
from napari_swintormer.engine.devices import is_out_of_memory, processor_for
from napari_swintormer.engine.kept_tiles import KeptTiles, TakingOver
from napari_swintormer.engine.side_by_side import cpu_processor
from napari_swintormer.engine.team import RunnerTeam
from napari_swintormer.engine.tile_runner import TileRunner
from napari_swintormer.engine.trust import fault_of
from napari_swintormer.errors import WeightsError
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.restorer import PriorUse
from napari_swintormer.models.scaled import ScaledRestorer

if TYPE_CHECKING:
    from napari_swintormer.engine.devices import Processor
    from napari_swintormer.models.tile_restorer import TileRestorer

RESTORER_LOCK = Lock()
"""Held while the shared restorer of a process is loaded or used: two blocks at once would compete
for the device and its memory."""


_DEFAULT_PRIOR_USE = PriorUse()


@dataclass(frozen=True)
class RunnerRecipe:
    """How to make a runner; small enough to send to the processes of a cluster.

    Attributes
    ----------
    restorer
        A restorer, or the weights file to load where the work is done.
    name
        Name that differs between restorers; the SHA-256 of a weights file.
    device, precision
        Names that the user chose, resolved where the work is done. All methods but `make_team` take
        the first of several devices.
    batch_size
        Tiles in one forward pass; None for as many as suit the device.
    tile
        (C, h, w) of the tiles, to find out how many of them suit the device; None takes the usual
        number.
    prior
        How the prior is sampled, if the model has one.
    scale
        Pixels of the image per pixel that the model sees.
    n_tiles
        Tiles of the whole run; a CPU restores several of them at once.
    kept_as
        Name under which tiles are kept, where restorers of several names give the same ones.
    """

    restorer: TileRestorer | Path = field(compare=False)
    name: str
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    tile: tuple[int, int, int] | None = None
    prior: PriorUse = _DEFAULT_PRIOR_USE
    scale: int = 1
    n_tiles: int = 1
    kept_as: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the restorer as it is on the CPU: another computer may have no such device."""
        state, restorer = dict(self.__dict__), self.restorer
        if not isinstance(restorer, Path):
            tensors = chain(restorer.parameters(), restorer.buffers())
            if any(tensor.device.type != "cpu" for tensor in tensors):
                state["restorer"] = copy.deepcopy(restorer).to("cpu")
        return state

    def load(self) -> RunnerRecipe:
        """Load the restorer, unless it is loaded; refuse another file than the planned one."""
        if not isinstance(self.restorer, Path):
            return self
        restorer = load_model(self.restorer)
        if restorer.sha256 != self.name:
            raise WeightsError(
                f"{self.restorer} holds other weights than when the work was planned (it has "
                f"SHA-256 {restorer.sha256[:12]}…, planned was {self.name[:12]}…). Put the same "
                "file there on every computer, or give a restorer that load_model returned."
            )
        return replace(self, restorer=restorer)

    def make(self, kept: KeptTiles | None = None) -> TileRunner:
        """Make the runner, and move the restorer to its device; it keeps tiles in `kept`."""
        device, *_ = devices.resolve_devices(self.device)
        runner = self._make_on(device, self._restorer())
        runner.taking_over = self._taking_over(kept, adds=True)
        return runner

    def make_team(self, kept: KeptTiles | None = None) -> TileRunner | RunnerTeam:
        """Make a runner on every device that the user named; they take over tiles of `kept`."""
        first, *others = devices.resolve_devices(self.device)
        restorer = self._restorer()
        copies = [copy.deepcopy(restorer) for _ in others]
        runners = [self._make_on(first, restorer), *map(self._make_on, others, copies)]
        for runner in runners:
            runner.taking_over = self._taking_over(kept, adds=False)
        return RunnerTeam(runners) if others else runners[0]

    def _taking_over(self, kept: KeptTiles | None, *, adds: bool) -> TakingOver | None:
        name = f"{self.kept_as or self.name}, {self.prior}, 1/{self.scale}, {self.precision}"
        return None if kept is None else TakingOver(kept, name, adds)

    def _restorer(self) -> TileRestorer:
        restorer = self.load().restorer
        assert not isinstance(restorer, Path)
        restorer = restorer.with_prior(self.prior)
        return restorer if self.scale == 1 else ScaledRestorer(restorer, self.scale)

    def _make_on(self, device: torch.device, restorer: TileRestorer) -> TileRunner:
        dtype = devices.resolve_precision(self.precision, device)
        batch_size = self.batch_size or devices.default_batch_size(device)
        tf32 = self.precision == "tf32"
        if device.type == "cpu":
            processor = cpu_processor(restorer, -(-self.n_tiles // batch_size))
        else:
            processor = processor_for(device, tf32=tf32)
        runner = TileRunner(restorer, device, dtype, batch_size, processor, self.n_tiles)
        try:
            fault = fault_of(processor, restorer, dtype, tf32=tf32)
            if fault and (tf32 or dtype != torch.float32):
                processor = processor_for(device)
                name = "tf32" if tf32 else devices.precision_name(dtype)
                runner.move_to_fp32(processor, f"{processor.name} {fault} in {name}")
                fault = fault_of(processor, restorer, runner.dtype)
        except (RuntimeError, MemoryError) as error:
            if device.type == "cpu" or not is_out_of_memory(error):
                raise
            reason = None
        else:
            if not fault:
                self._fit_batch(runner, processor)
                return runner
            reason = f"{processor.name} {fault} in fp32"
        runner.move_to_cpu(reason)  # not in the `except`: the error holds memory of the device
        return runner

    def _fit_batch(self, runner: TileRunner, processor: Processor) -> None:
        """Take as many tiles at once as suit the device, and tell why it computes in fp32."""
        if self.precision == "auto" and runner.substitution is None:
            for sentence in devices.why_fp32(runner.device):
                runner.tell(sentence)
        if self.batch_size is None and self.tile is not None:
            fits = batch_size_that_fits(processor, runner.restorer, runner.dtype, self.tile)
            runner.batch_size = fits or runner.batch_size


@lru_cache(maxsize=2)
def shared_runner(recipe: RunnerRecipe) -> TileRunner:
    """Return the runner of this process, made once; call it with `RESTORER_LOCK` held.

    The last two stay loaded.
    """
    return recipe.make()
