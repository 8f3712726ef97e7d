"""The public interface: deblur an array, deblur a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.job import Job, prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.terminal import finish

if TYPE_CHECKING:
    from napari_swintormer.engine.blocks import TileRestorer
    from napari_swintormer.imaging.formats.writing import Compression
    from napari_swintormer.settings.deblur_settings import Blend, Device, Precision, Preset

__all__ = ["Job", "deblur", "deblur_file", "prepare"]

_TITLE = "Deblurring"


def deblur(
    image: Any,
    model: str | Path | TileRestorer | None = None,
    *,
    second_view: Any = None,
    axes: str | None = None,
    planes: str | None = None,
    preset: Preset | None = None,
    tile_size: int | None = None,
    overlap: int | None = None,
    blend: Blend | None = None,
    batch_size: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    num_inference_steps: int | None = None,
    samples: int | None = None,
    uncertainty: bool = False,
    prior: str | None = None,
    strength: float = 1.0,
    scale: int = 1,
    progress: bool = False,
) -> Any:
    """Deblur an image.

    Parameters
    ----------
    image
        Array of integers or floats, any intensities. Of a dask array, in any chunks, no more is
        computed now than a fixed sample of small regions, to measure its intensity range.
    model
        Name in the catalogue, path of a weights file, or a restorer that `load_model` gave; None
        for the built-in model that gains most on this kind of image (8-bit RGB images may be photos
        or micrographs, all others are microscopy).
    second_view
        The other image of the scene, of the same shape, axes and data type: for a model that was
        trained on both views of a dual-pixel camera. `image` is the view that its card names first
        (the right one, where we trained it), and the result is that view, deblurred.
    axes
        One letter of ``TCZYXS`` per dimension (S: colours of a pixel); None to guess from the
        shape. Planes of a stack are deblurred one by one.
    planes
        Planes to deblur, such as ``"Z=2:5"`` or ``"T=0, Z=3:"``; None for all. The result holds no
        others, and they are what they are in the result of the whole image.
    preset
        ``"fast"``, ``"balanced"`` or ``"best"`` fills in `overlap`, `num_inference_steps` and
        `samples` where they are None.
    tile_size, overlap
        Side of the tiles and overlap of neighbours in pixels; None as the model says.
    blend
        ``"uniform"`` or ``"smooth"`` weights where tiles overlap; None as the model says.
    batch_size
        Tiles at once; None chooses by device.
    device
        ``"auto"`` (CUDA, then MPS, then the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``,
        or several GPUs: ``"cuda:0,cuda:1"``; of the computer that does the work.
    precision
        ``"auto"``, ``"fp32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``.
    seed
        Seed of everything that is sampled; not negative.
    num_inference_steps
        Steps in which the prior of a model is sampled; None as the model says.
    samples
        How many priors are drawn; the result is the mean of what they lead to. None draws one, and
        four with `uncertainty`.
    uncertainty
        Also return how much the samples differ, which tells what the model knows and what it made
        up.
    prior
        ``"off"`` deblurs without the model's prior. For models with the paper's prior also where
        its parameters are: an id on the Hugging Face hub, a folder, or a ``.ckpt`` file.
    strength
        How much of what the model changes is put into the result: 0 nothing, 1 what the model says;
        up to 2, which goes further the same way, where the result is still soft.
    scale
        1, 2 or 4: the image is restored at ``1 / scale`` of its size, for blur that is too wide for
        the model at full size; finer detail stays as it is.
    progress
        Show a progress bar; for dask arrays `dask.diagnostics` has one.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        The deblurred image, or the chosen planes of it: same shape and data type, intensities in
        the same units. Dask in, dask out: a lazy array with the same values, which computes what is
        asked of it, block by block, with dask's threads or on a cluster. A weights file must then
        lie at the same path on every computer; a restorer that `load_model` gave is sent along.
        With `uncertainty` a tuple of the image and the standard deviation of the samples at every
        pixel: same shape, float32, in the units of the image; 0 where that keeps its pixels, and
        for alpha.

    Raises
    ------
    SwintormerError
        Image, model and settings do not fit; the message says what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_swintormer import deblur
    >>> image = np.zeros((64, 64), np.uint16)
    >>> deblur(image).dtype  # doctest: +SKIP
    dtype('uint16')
    """
    settings, restorer = _choose(
        model,
        axes=axes,
        planes=planes,
        preset=preset,
        tile_size=tile_size,
        overlap=overlap,
        blend=blend,
        batch_size=batch_size,
        device=device,
        precision=precision,
        seed=seed,
        num_inference_steps=num_inference_steps,
        samples=samples,
        uncertainty=uncertainty,
        prior=prior,
        strength=strength,
        scale=scale,
    )
    image, second_view = _array_like(image), _array_like(second_view)
    job = prepare(image, settings, restorer, second_view)
    if hasattr(image, "dask"):
        return job.lazy_with_deviation() if uncertainty else job.lazy()
    shape = job.planes.data.shape
    out = np.empty(shape, image.dtype)
    deviation = np.zeros(shape, np.float32) if uncertainty else None
    finish(job.run(out, deviation=deviation), _TITLE, show=progress)
    return out if deviation is None else (out, deviation)


def deblur_file(
    src: str | Path,
    dst: str | Path,
    model: str | Path | TileRestorer | None = None,
    *,
    second_view: str | Path | None = None,
    axes: str | None = None,
    planes: str | None = None,
    preset: Preset | None = None,
    tile_size: int | None = None,
    overlap: int | None = None,
    blend: Blend | None = None,
    batch_size: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    num_inference_steps: int | None = None,
    samples: int | None = None,
    uncertainty: bool = False,
    prior: str | None = None,
    strength: float = 1.0,
    scale: int = 1,
    compression: Compression | None = None,
    overwrite: bool = False,
    resume: bool = False,
    scheduler: str | None = None,
    progress: bool = False,
) -> Path:
    """Deblur an image file of any size; neither the image nor the result is held in memory.

    The run writes into the folder ``.<name>.partial`` beside `dst`, a Zarr store that holds every
    finished chunk. In the end it becomes the OME-Zarr image, or is streamed into the format of
    `dst` and removed. A run that was stopped, or killed, leaves it to be completed by `resume`.

    With `uncertainty` a second file beside `dst` holds the standard deviation of the samples, in
    float32 and in the units of the image: ``sharp-deviation.tif`` beside ``sharp.tif``.

    Parameters
    ----------
    src
        TIFF, OME-TIFF, BigTIFF, Zarr, OME-Zarr, NPY, PNG or JPEG.
    dst
        ``.ome.zarr`` for images of any size; ``.tif``, ``.ome.tif``, ``.npy``, ``.png``, ``.jpg``.
    model, axes, planes, preset, tile_size, overlap, blend, batch_size, device, precision
        As in `deblur`; `axes` of None takes those of the file.
    second_view
        File of the other image of the scene, as in `deblur`; read tile by tile like `src`.
    seed, num_inference_steps, samples, uncertainty, prior, strength, scale
        As in `deblur`.
    compression
        Of a TIFF: ``"deflate"``, ``"zstd"`` or None.
    overwrite
        Replace `dst`, and throw an interrupted run away unless `resume` is asked for.
    resume
        Go on with the interrupted run of `dst`; starts from the beginning if there is none. The
        result has the same bytes as that of an uninterrupted run.
    scheduler
        Address of a dask cluster that does the work, such as ``"tcp://10.0.0.1:8786"``; None works
        here. `src`, and the weights file, must lie at the same path on its computers; `dst` is
        written from here. The result has the same bytes, where the computers compute alike.
    progress
        Show the plan and a progress bar.

    Returns
    -------
    Path
        `dst`, with axes, pixel sizes and data type of `src`.

    Raises
    ------
    SwintormerError
        File, model and settings do not fit, or the disk is too small; says what would work.

    Examples
    --------
    >>> from napari_swintormer import deblur_file
    >>> deblur_file("stack.tif", "sharp.ome.zarr", axes="ZYX")  # doctest: +SKIP
    """
    settings, restorer = _choose(
        model,
        axes=axes,
        planes=planes,
        preset=preset,
        tile_size=tile_size,
        overlap=overlap,
        blend=blend,
        batch_size=batch_size,
        device=device,
        precision=precision,
        seed=seed,
        num_inference_steps=num_inference_steps,
        samples=samples,
        uncertainty=uncertainty,
        prior=prior,
        strength=strength,
        scale=scale,
    )
    run = FileRun(
        Path(src),
        Path(dst),
        settings,
        restorer,
        second_view=None if second_view is None else Path(second_view),
        compression=compression,
        overwrite=overwrite,
        resume=resume,
        scheduler=scheduler,
    )
    finish(run.events(), _TITLE, show=progress)
    return run.dst


def _array_like(image: Any) -> Any:
    if image is None or all(hasattr(image, name) for name in ("shape", "dtype", "__getitem__")):
        return image
    return np.asarray(image)


def _choose(
    model: str | Path | TileRestorer | None, **settings: Any
) -> tuple[DeblurSettings, TileRestorer | None]:
    """Sort a model, which may be a name, a path or a restorer, into settings or beside them."""
    if model is None or isinstance(model, (str, Path)):
        return DeblurSettings(model=None if model is None else str(model), **settings), None
    return DeblurSettings(**settings), model
