"""A planned run over stacks as volumes, and the numbers of the microscope that it needs."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.engine.remembered import remembering_speed
from napari_swintormer.events import Substitution
from napari_swintormer.imaging.intensity import measure_ranges
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.openmp import import_torch
from napari_swintormer.optics.stack_psf import psf_shape, stack_psf
from napari_swintormer.runs.job import Job, software, versions
from napari_swintormer.runs.stack_inputs import read_psf, unused_choices
from napari_swintormer.tiling.plan import duration_text, size_text
from napari_swintormer.tiling.stack_regions import divide, object_shape, step_voxels

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import dask.array as da
    from numpy.typing import NDArray

    from napari_swintormer.engine.kept_tiles import KeptTiles
    from napari_swintormer.engine.protocol import RunJournal
    from napari_swintormer.engine.region import RestoredRegion
    from napari_swintormer.engine.stack_work import StackFit
    from napari_swintormer.engine.volume import StackSample
    from napari_swintormer.events import Event, Notice
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.optics.stack_optics import StackOptics
    from napari_swintormer.settings.deblur_settings import DeblurSettings
    from napari_swintormer.tiling.grid import Region

    Volume = NDArray[np.float32]

METHOD = "Richardson-Lucy 3-D"
CHUNK = 512  # pixels: side of the chunks of the result


@dataclass(frozen=True)
class StackJob(Job):
    """A planned run that restores every stack along Z as one volume.

    Attributes
    ----------
    optics
        The microscope of every channel; empty where a PSF file is given.
    given_fits
        What was measured of every channel; None measures it when first asked for.
    """

    optics: Sequence[StackOptics] = field(default=())
    given_fits: Mapping[int, StackFit] | None = None

    @property
    def keeps_changes(self) -> bool:
        """A volume keeps no changes."""
        return False

    @property
    def model_name(self) -> str:
        """Name of the method, for people."""
        return METHOD

    @property
    def short_name(self) -> str:
        """Name of the method in the name of a result."""
        return "volume"

    @property
    def counts_tiles(self) -> bool:
        """Whether the progress of the job counts tiles; it counts iterations."""
        return False

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the point-spread functions."""
        digest = hashlib.sha256()
        for psf in self.psfs.values():
            digest.update(psf.tobytes())
        return digest.hexdigest()

    @cached_property
    def n_planes(self) -> int:
        """Planes of a stack."""
        size: int = self.planes.data.shape[self.planes.axes.index("Z")]
        return size

    @cached_property
    def psfs(self) -> Mapping[int, Volume]:
        """PSF of every index of C; computed or read when first asked for."""
        if self.settings.psf is not None:
            psf = read_psf(Path(self.settings.psf), self.n_planes)
            return dict.fromkeys(range(self._n_channels), psf)
        return {c: stack_psf(o, psf_shape(o, self.n_planes)) for c, o in enumerate(self.optics)}

    @property
    def _n_channels(self) -> int:
        whole = self.planes.whole
        return int(whole.data.shape[whole.axes.index("C")]) if "C" in whole.axes else 1

    def _measure_ranges(self) -> list[IntensityRange]:
        """Tell what may change in every plane, in counts, and the strength."""
        measured = measure_ranges(self.planes, self.convention)
        return [replace(r, low=0.0, high=1.0, strength=self.settings.strength) for r in measured]

    @cached_property
    def fits(self) -> Mapping[int, StackFit]:
        """What is measured once per channel: offset, noise, iterations; imports torch."""
        if self.given_fits is not None:
            return self.given_fits
        return self._measure_fits(lambda function, *arguments: function(*arguments))

    def _measure_fits(self, call: Callable[..., Any]) -> dict[int, StackFit]:
        """Measure every channel; samples are read here, iterations are made where `call` does."""
        stacks = self._stacks()
        from napari_swintormer.engine.volume import sample_stack

        fits: dict[int, StackFit] = {}
        for stack in stacks:
            channel = self._channel(stack)
            if channel not in fits:
                sample = sample_stack(self.planes, stack, self.ranges[stack[0]])
                told = self.settings.device, self.settings.iterations
                fits[channel] = call(_fit, sample, self.psfs[channel], *told)
        return fits

    def measured_by(self, call: Callable[..., Any]) -> StackJob:
        """Return this job with its fits; see `Job.measured_by`."""
        return replace(self, given_ranges=self.ranges, given_fits=self._measure_fits(call))

    @property
    def precision(self) -> str:
        """A volume is restored in fp32, whatever was chosen for planes."""
        return "fp32"

    @property
    def volume_steps(self) -> Mapping[tuple[int, ...], int]:
        """Iterations of all regions of the volume at every index along T and C."""
        steps: dict[tuple[int, ...], int] = {}
        for stack in self._stacks():
            channel = self._channel(stack)
            depth, height, width = self.psfs[channel].shape
            whole = object_shape((depth, height, width), len(stack), self.planes.shape)
            regions = prod(divide(whole, (depth, height, width)))
            at = self.planes.position(stack[0])
            index = tuple(i for axis, i in at.items() if axis != "Z")
            more = self.fits[channel].iterations * regions
            steps[index] = steps.get(index, 0) + more  # colours are volumes of their own
        return steps

    def describe(self) -> str:
        """Say the plan in one line."""
        shape = self.planes.shape
        count = len(self.planes) // self.n_planes
        size = f"{self.n_planes} × {shape[0]} × {shape[1]} voxels"
        volumes = f"{count} volume{'s' * (count != 1)} of {size}"
        lens = (
            f"PSF of {self.settings.psf}"
            if self.settings.psf
            else "PSF of " + "; ".join(dict.fromkeys(optics.describe() for optics in self.optics))
        )
        device = "" if self.settings.device == "auto" else f", on {self.settings.device}"
        memory, disk = size_text(self.plan.host_bytes), size_text(self.plan.disk_bytes)
        seconds = self.plan.seconds
        time = "" if seconds is None else f", about {duration_text(seconds)}"
        sizes = f"{memory} of memory, {disk} on disk"
        return f"{METHOD}, {volumes}, {lens}{device}, {sizes}{time}"

    def count_text(self, jobs: Sequence[Job]) -> tuple[str, str]:
        """Return how many volumes `jobs` have, and how many planes a volume has."""
        count = sum(len(job.planes) for job in jobs) // self.n_planes
        return f"{count:,}", f"volume{'s' * (count != 1)} of {self.n_planes} planes"

    def fingerprint(self, name: str, second_name: str | None = None) -> dict[str, Any]:
        """Return what tells one input from another; see `Job.fingerprint`."""
        fits = hashlib.sha256(repr(sorted(self.fits.items())).encode()).hexdigest()[:16]
        return super().fingerprint(name, second_name) | {"intensities": fits}

    def load(self) -> StackJob:
        """Return the job; there is no model to load."""
        return self

    def notices(self) -> list[Notice]:
        """Say in a sentence each which choices a volume does not follow."""
        return [Substitution(told) for told in unused_choices(self.settings)]

    def run(
        self,
        out: Any,
        journal: RunJournal | None = None,
        deviation: Any = None,
        scratch: Path | None = None,
        changes: Any = None,
        kept: KeptTiles | None = None,
    ) -> Generator[Event, None, None]:
        """Restore the stacks; see `Job.run` and `napari_swintormer.engine.volume.run`.

        Changes of volumes are not kept, nor are there tiles.
        """
        assert changes is None
        import_torch()
        from napari_swintormer.engine import volume

        yield from self.notices()
        if journal is not None and journal.batch_size is None:
            journal.batch_size = 1
        events = volume.run(
            self.plan.grid,
            self.planes,
            self.ranges,
            self.psfs,
            self._device(),
            out,
            fits=self.fits,
            journal=journal,
            scratch=scratch,
        )
        depth, height, width = self.psfs[0].shape
        voxels = step_voxels((depth, height, width), self.n_planes, self.planes.shape)
        yield from remembering_speed(events, self.plan, speed_key(self.settings), voxels)

    def preview(
        self, position: Mapping[str, int], region: Region, kept: KeptTiles | None = None
    ) -> Generator[Event, None, RestoredRegion]:
        """Restore a region of one plane, with all planes of its stack and a margin around it.

        Where the margin is cut off the result differs a little from that of `run`.
        """
        import_torch()
        from napari_swintormer.engine import volume
        from napari_swintormer.engine.region import RestoredRegion

        changes = []
        numbers = self.planes.numbers_at(position)
        for number in numbers:
            stack = next(s for s in volume.stacks_of(self.planes) if number in s)
            channel = self._channel(stack)
            change = yield from volume.preview(
                self.planes,
                stack,
                region,
                self.ranges[number],
                self.psfs[channel],
                self.fits[channel],
                self._device(),
            )
            changes.append(change[stack.index(number)][np.newaxis])
        cut = self.planes.cut(position, *region.slices)
        image = Planes(cut, self.planes.axes, 1)
        return RestoredRegion(region, image, changes, [self.ranges[n] for n in numbers])

    def lazy(
        self, planes: Planes | None = None, resources: Mapping[str, float] | None = None
    ) -> tuple[da.Array, None]:
        """Make a dask array of the result: one task per volume, which is held in memory.

        Offset, noise and the number of iterations are measured now, unless they are given.
        """
        fits = self.fits
        from napari_swintormer.engine import stack_graph

        result = stack_graph.lazy(
            self.plan.grid,
            planes or self.planes,
            self.ranges,
            {channel: self.psfs[channel] for channel in fits},
            fits,
            self.settings.device,
            resources,
        )
        return result, None

    def provenance(self, resolved: tuple[str, str] | None = None) -> dict[str, Any]:
        """Say how the result is made; imports torch. Holds no time."""
        import_torch()
        device, precision = resolved or (self._device().type, self.precision)
        return {
            **software(),
            "model": METHOD,
            "weights_sha256": self.weights_sha256,
            "settings": {
                "depth": "volume",
                "strength": self.settings.strength,
                "axes": self.settings.axes,
                "device": device,
                "precision": precision,
                **({"psf": self.settings.psf} if self.settings.psf else {}),
            },
            "optics": [optics.to_dict() for optics in self.optics],
            "fits": {str(channel): asdict(fit) for channel, fit in self.fits.items()},
            "versions": versions(),
            **({"substituted": told} if (told := unused_choices(self.settings)) else {}),
        }

    def _channel(self, stack: Sequence[int]) -> int:
        from napari_swintormer.engine.volume import channel_of

        return channel_of(self.planes, stack[0])

    def _stacks(self) -> list[list[int]]:
        import_torch()
        from napari_swintormer.engine.volume import stacks_of

        return stacks_of(self.planes)

    def _device(self) -> Any:
        from napari_swintormer.engine import devices

        return devices.resolve_devices(self.settings.device)[0]


def _fit(sample: StackSample, psf: Volume, device: str, iterations: int | None) -> StackFit:
    """Measure the sample of a volume on a device of this process."""
    import_torch()
    from napari_swintormer.engine import devices, volume

    return volume.fit_stack(sample, psf, devices.resolve_devices(device)[0], iterations)


def speed_key(settings: DeblurSettings) -> str:
    """Name the devices that have one speed for volumes."""
    return f"{METHOD} {settings.device}"
