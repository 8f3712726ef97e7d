"""Plans a run over stacks as volumes, or decides that planes are restored instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from napari_swintormer.engine.remembered import recall_speed
from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.optics.stack_psf import psf_shape
from napari_swintormer.runs.job import chosen_planes
from napari_swintormer.runs.stack_inputs import read_psf
from napari_swintormer.runs.stack_job import CHUNK, StackJob, speed_key
from napari_swintormer.settings.deblur_settings import (
    AUTOMATIC_MODEL,
    MEASURED,
    STRENGTH_MAX,
    DeblurSettings,
    Depth,
)
from napari_swintormer.tiling.blending import Blending
from napari_swintormer.tiling.grid import TileGrid
from napari_swintormer.tiling.plan import Plan
from napari_swintormer.tiling.stack_regions import (
    divide,
    object_shape,
    stack_bytes,
    state_bytes,
    step_voxels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_swintormer.imaging.carried import SampleMeaning
    from napari_swintormer.optics.file_optics import FileOptics

# Options that only the restoration of planes understands, with the values that leave it open.
_OF_PLANES: dict[str, tuple[Any, ...]] = {
    "scale": (1,),
    "uncertainty": (False,),
    "prior": (None,),
    "blur": (None, *MEASURED),  # a volume has the PSF of its microscope
}
_TYPICAL_ITERATIONS = 40


def wants_volume(
    settings: DeblurSettings, axes: str, shape: Sequence[int], known: FileOptics, *, alone: bool
) -> bool:
    """Decide whether a stack is restored as a volume.

    ``depth="auto"`` takes the volume where nobody named a model or a restorer, the image has planes
    along Z, and the microscope is known from the options and the file. `alone` says that there is
    neither a restorer nor a second view.

    Raises
    ------
    SettingsError
        ``depth`` is no known word.
    """
    if settings.depth not in get_args(Depth):
        raise SettingsError(
            f"There is no such depth (got depth={settings.depth!r}). "
            "Use 'auto', 'volume' or 'planes'."
        )
    if settings.depth != "auto":
        return settings.depth == "volume"
    planes = dict(zip(axes, shape, strict=True)).get("Z", 1)
    named = settings.model not in (None, AUTOMATIC_MODEL)
    if (
        planes < 2
        or named
        or not alone
        or any(getattr(settings, name) not in open_ for name, open_ in _OF_PLANES.items())
    ):
        return False
    return settings.psf is not None or not known.completed(settings).missing()


def prepare_stack(
    image: Any, settings: DeblurSettings, axes: str, known: FileOptics, meaning: SampleMeaning
) -> StackJob:
    """Plan a run over volumes; reads no pixel and imports no torch.

    Parameters
    ----------
    image
        Array-like with `shape`, `dtype` and slicing.
    settings
        The user's choices.
    axes
        Axes of the image.
    known
        What the file says of the microscope.
    meaning
        What the numbers of the image mean.

    Raises
    ------
    SettingsError
        The image has no planes along Z, a number of the microscope is missing or impossible, or an
        option belongs to the network.
    """
    size = dict(zip(axes, image.shape, strict=True))
    _check_options(settings, axes, size.get("Z", 1))
    planes = chosen_planes(Planes(image, axes, 1, meaning=meaning), settings.planes)
    stack = planes.data.shape[planes.axes.index("Z")]
    if stack < 2:
        raise SettingsError(
            f"A volume needs two planes along Z or more (got planes={settings.planes!r}). Choose "
            "more planes, or use depth='planes'."
        )
    if settings.psf is not None:
        optics, shape = [], read_psf(Path(settings.psf), stack).shape
    else:
        optics = known.completed(settings).for_channels(size.get("C", 1))
        shapes = [psf_shape(each, stack) for each in optics]
        shape = max(shapes, key=lambda s: s[0] * s[1])
    whole = (shape[0], shape[1], shape[2]), stack, planes.shape
    grid = TileGrid(planes.shape, CHUNK, 0, CHUNK)
    disk = planes.shape[0] * planes.shape[1] * len(planes) * planes.dtype.itemsize * 4 // 3
    plan = Plan(
        blending=Blending(grid, "uniform"),
        n_planes=len(planes),
        channels=1,
        batch_size=1,
        host_bytes=stack_bytes(*whole),
        device_bytes=None,
        disk_bytes=disk + state_bytes(*whole),
        seconds=_seconds(settings, *whole, volumes=len(planes) // stack),
    )
    settings = replace(settings, axes=axes, tile_size=CHUNK, overlap=0, blend="uniform")
    return StackJob(planes, plan, settings, None, IntensityConvention(), optics=optics)


def _seconds(
    settings: DeblurSettings,
    psf: tuple[int, int, int],
    n_planes: int,
    shape: tuple[int, int],
    *,
    volumes: int,
) -> float | None:
    """Estimate the duration of all iterations from the speed of earlier runs, if there were some.

    Where the number of iterations is found on the image, 40 are assumed.
    """
    voxels = step_voxels(psf, n_planes, shape)
    rate = recall_speed(speed_key(settings), voxels)
    if rate is None:
        return None
    rows, columns = divide(object_shape(psf, n_planes, shape), psf)
    iterations = settings.iterations or _TYPICAL_ITERATIONS
    return volumes * iterations * rows * columns * voxels / rate


def _check_options(settings: DeblurSettings, axes: str, n_planes: int) -> None:
    """Refuse an image without planes along Z, and options that a volume does not take."""
    if n_planes < 2:
        raise SettingsError(
            f"A volume needs two planes along Z or more (got axes={axes!r} with "
            f"{n_planes}). Use depth='planes', or say which axis is Z."
        )
    for name, open_ in _OF_PLANES.items():
        if getattr(settings, name) not in open_:
            raise SettingsError(
                "A volume is restored without the network (got "
                f"{name}={getattr(settings, name)!r}). Leave {name} out, or use depth='planes'."
            )
    if not 0 <= settings.strength <= STRENGTH_MAX:
        raise SettingsError(
            f"strength must be between 0 and {STRENGTH_MAX:g} (got strength={settings.strength:g})."
        )
