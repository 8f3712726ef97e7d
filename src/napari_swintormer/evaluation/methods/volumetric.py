"""Methods that restore a stack as a volume: our engine, and 3-D Richardson-Lucy of other programs.

All get the same point-spread function, from the microscope of the pair. RedLionfish is offered
where it is installed. The other programs know no camera offset, so they get the counts above the
0.5th percentile, as our engine takes it. They give nothing for images that are no stacks.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.runs.planning import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.runs.stack_job import StackJob
    from napari_swintormer.settings.deblur_settings import DeblurSettings

    Volume = NDArray[np.float32]

ITERATIONS = 20
ORACLE_ITERATIONS = (10, 20, 40, 80)
"""The choice of the methods with the best number of iterations."""
_OFFSET_PERCENTILE = 0.5

OPTIONS: dict[str, dict[str, type]] = {
    "volume": {"iterations": int, "strength": float},
    "richardson-lucy-3d": {"iterations": int},
    "redlionfish": {"iterations": int},
}
"""Options that a user can set, with their types."""


def method(
    name: str, settings: DeblurSettings, options: dict[str, Any]
) -> Callable[..., Any | None]:
    """Give the function of a method, which takes a pair and the options of the method.

    Raises
    ------
    SettingsError
        The method needs a program that is not installed.
    """
    if name == "redlionfish" and importlib.util.find_spec("RedLionfishDeconv") is None:
        raise SettingsError(
            "The method redlionfish needs the package RedLionfish, which is not installed. Use "
            "pip install RedLionfish, or the method richardson-lucy-3d."
        )
    return partial(METHODS[name], settings, **options)


def _volume(settings: DeblurSettings, pair: PairImages, **options: Any) -> Any | None:
    """Restore with the stack engine of this package."""
    if not pair.protocol.volumes:
        return None
    job = _job(settings, pair, **options)
    out = np.empty(job.planes.data.shape, job.planes.dtype)
    for _ in job.run(out):
        pass
    return out


def _scikit_image(
    settings: DeblurSettings, pair: PairImages, iterations: int = ITERATIONS
) -> Any | None:
    """Restore with `skimage.restoration.richardson_lucy`, which starts from an even image."""
    from skimage.restoration import richardson_lucy

    def restore(counts: Volume, psf: Volume) -> Any:
        return richardson_lucy(counts, psf, num_iter=iterations, clip=False, filter_epsilon=1e-6)

    return _of_another_program(restore, settings, pair)


def _red_lionfish(
    settings: DeblurSettings, pair: PairImages, iterations: int = ITERATIONS
) -> Any | None:
    """Restore with RedLionfish on the CPU."""

    def restore(counts: Volume, psf: Volume) -> Any:
        program: Any = importlib.import_module("RedLionfishDeconv")
        with contextlib.redirect_stdout(io.StringIO()):
            return program.doRLDeconvolutionFromNpArrays(
                counts, psf, niter=iterations, method="cpu"
            )

    return _of_another_program(restore, settings, pair)


METHODS: dict[str, Callable[..., Any | None]] = {
    "volume": _volume,
    "richardson-lucy-3d": _scikit_image,
    "redlionfish": _red_lionfish,
}


def _of_another_program(
    restore: Callable[[Volume, Volume], Any], settings: DeblurSettings, pair: PairImages
) -> Any | None:
    """Restore counts without the camera's offset; the result is float32."""
    if not pair.protocol.volumes:
        return None
    psf = _job(settings, pair).psfs[0]
    image = np.asarray(pair.blurred).astype(np.float32)
    offset = np.float32(np.percentile(image, _OFFSET_PERCENTILE))
    restored = restore((image - offset).clip(0), psf)
    return np.asarray(restored, np.float32)[tuple(slice(0, n) for n in image.shape)] + offset


def _job(settings: DeblurSettings, pair: PairImages, **options: Any) -> StackJob:
    """Plan the restoration of a pair with the numbers of its microscope."""
    from napari_swintormer.runs.stack_job import StackJob

    image = np.asarray(pair.blurred).astype(np.float32)  # so that no bright voxel is cut off
    chosen = replace(
        settings, model=None, axes=pair.axes, depth="volume", **(pair.optics | options)
    )
    job = prepare(image, chosen)
    assert isinstance(job, StackJob)
    return job
