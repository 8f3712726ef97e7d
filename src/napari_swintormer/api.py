"""The public interface: deblur an array, deblur a file, train a model."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from napari_swintormer.events import Notice, PlanNotice, stoppable
from napari_swintormer.imaging.array_likes import as_array_like
from napari_swintormer.imaging.spans import parse_planes
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.planning import prepare
from napari_swintormer.runs.result_names import result_file
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.options import documents_options
from napari_swintormer.training.data.pairs import are_arrays, array_pairs
from napari_swintormer.training.loop.train import iter_train
from napari_swintormer.training.train_presets import named_network, named_prior
from napari_swintormer.training.train_settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from napari_swintormer.events import Event
    from napari_swintormer.imaging.formats.writing import Compression
    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.models.prior.prior_settings import (
        CompactPriorSettings,
        LdmPriorSettings,
    )
    from napari_swintormer.settings.deblur_settings import DeblurOptions
    from napari_swintormer.training.train_settings import TrainOptions

__all__ = ["Job", "deblur", "deblur_file", "prepare", "train"]

_TITLE = "Deblurring"
_LOGGER = logging.getLogger(__name__)  # without a progress bar, notices have no other way


@documents_options(DeblurSettings, without=["model"])
def deblur(
    image: Any,
    model: str | Path | Callable[..., Any] | None = None,
    *,
    second_view: Any = None,
    progress: bool = False,
    **options: Unpack[DeblurOptions],
) -> Any:
    """Deblur an image.

    Parameters
    ----------
    image
        Array of integers or floats, with any intensities. Pixels under the mask of a masked array
        are not measured and stay as they are, like NaN. A dask array may have any chunks; only a
        fixed sample of small regions is computed now, to measure the range of intensities, or the
        noise of a volume. Names of dimensions, as xarray has them, tell the axes.
    model
        Name of a model, path of a weights file, or a restorer that `load_model` returned. None
        takes the built-in model. ``"filter"`` undoes the blur by a filter, without a network.
    second_view
        The other image of the scene, with the same shape, axes and data type. It is for models that
        were trained on both views of a dual-pixel camera. `image` is the view that the model card
        names first, and the result is that view, deblurred.
    progress
        Show a progress bar. For dask arrays, use the one of `dask.diagnostics`.
    **options
        Fields of `DeblurSettings`, such as ``tile_size=512``; ``help(deblur)`` explains each one.

    Returns
    -------
    numpy.ndarray, dask.array.Array, or what `image` is
        The deblurred image, or the planes of it that were chosen: same data type, intensities in
        the same units. For a dask array it is a dask array, which restores blocks when they are
        computed, in threads or on a cluster. A weights file must then lie at the same path on every
        computer; a restorer from `load_model` is sent along. With ``uncertainty`` it is a tuple of
        the image and the standard deviation of the samples at every pixel: same shape, float32,
        in the units of the image. The deviation is 0 in alpha and where pixels are kept.

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
    settings, restorer = _settings_and_restorer(model, options)
    taken = as_array_like(image)
    other = None if second_view is None else as_array_like(second_view).data
    settings = replace(settings, axes=settings.axes or taken.axes)
    job = prepare(taken.data, settings, restorer, other, meaning=taken.meaning)
    out: Any
    deviation: Any
    if hasattr(taken.data, "dask"):
        _log(job.notices())
        out, deviation = job.lazy()
    else:
        shape = job.planes.data.shape
        out = np.empty(shape, taken.data.dtype)
        deviation = np.zeros(shape, np.float32) if settings.uncertainty else None
        _run_to_end(job.run(out, deviation=deviation), _TITLE, progress)
    axes, chosen = job.planes.axes, settings.planes
    spans = {} if chosen is None else parse_planes(chosen, axes, taken.data.shape)
    out = taken.wrap(out, axes, spans)
    if deviation is None:
        return out
    return out, taken.wrap(deviation, axes, spans, deviation=True)


@documents_options(DeblurSettings, without=["model"])
def deblur_file(
    src: str | Path,
    dst: str | Path,
    model: str | Path | Callable[..., Any] | None = None,
    *,
    second_view: str | Path | None = None,
    compression: Compression | None = None,
    overwrite: bool = False,
    resume: bool = False,
    scheduler: str | None = None,
    image: int | None = None,
    progress: bool = False,
    **options: Unpack[DeblurOptions],
) -> Path:
    """Deblur an image file of any size; neither the image nor the result is held in memory.

    The run writes every finished chunk into a Zarr store, the folder ``.<name>.partial`` beside
    `dst`. At the end the store becomes the OME-Zarr image, or is copied into the format of `dst`
    and removed. A run that was stopped or killed leaves the store, and `resume` completes it.

    With ``uncertainty`` a second file beside `dst` holds the standard deviation of the samples, in
    float32 and in the units of the image: ``sharp-deviation.tif`` beside ``sharp.tif``.

    Parameters
    ----------
    src
        TIFF, OME-TIFF, BigTIFF, Zarr, OME-Zarr, NPY, PNG or JPEG.
    dst
        ``.ome.zarr`` for images of any size; ``.tif``, ``.ome.tif``, ``.npy``, ``.png``, ``.jpg``.
        Or an existing folder, for a file with the name of `src`.
    model
        Name of a model, path of a weights file, or a restorer that `load_model` returned. None
        takes the built-in model. ``"filter"`` undoes the blur by a filter, without a network.
    second_view
        File of the other image of the scene, for models of two views.
    compression
        Compression of a TIFF: ``"deflate"``, ``"zstd"`` or None.
    overwrite
        Replace `dst`, and discard its interrupted run unless `resume` is set.
    resume
        Continue the interrupted run of `dst`, or start if there is none. The result has the same
        bytes as that of an uninterrupted run.
    scheduler
        Address of a dask cluster that does the work, such as ``"tcp://10.0.0.1:8786"``; None works
        here. `src` and the weights file must lie at the same path on its computers; `dst` is
        written from here. The result has the same bytes if the computers compute alike.
    image
        Number of the image, from 1, in a file of several images or positions; None takes the
        largest, and a notice names the others.
    progress
        Show the plan and a progress bar.
    **options
        Fields of `DeblurSettings`, such as ``axes="ZYX"``; ``help(deblur_file)`` explains each one.

    Returns
    -------
    Path
        `dst`, with axes, pixel sizes, data type and all that is no pixel of `src`, as far as the
        format can hold it; a notice names what it cannot.

    Raises
    ------
    SwintormerError
        File, model and settings do not fit, or the disk is too small; says what would work.

    Examples
    --------
    >>> from napari_swintormer import deblur_file
    >>> deblur_file("stack.tif", "sharp.ome.zarr", axes="ZYX")  # doctest: +SKIP
    """
    settings, restorer = _settings_and_restorer(model, options)
    run = FileRun(
        Path(src),
        result_file(Path(src), Path(dst)),
        settings,
        restorer,
        second_view=_path(second_view),
        compression=compression,
        overwrite=overwrite,
        resume=resume,
        scheduler=scheduler,
        image=image,
    )
    _run_to_end(run.events(), _TITLE, progress)
    return run.dst


@documents_options(
    TrainSettings,
    without=[
        "sharp",
        "out",
        "blurred",
        "dual_pixel",
        "annotations",
        "kinds",
        "vgg19",
        "network",
        "prior",
        "prior_cache",
    ],
)
def train(
    blurred: Any = None,
    sharp: Any = (),
    out: str | Path = "model.safetensors",
    *,
    dual_pixel: str | Path | None = None,
    annotations: Any = None,
    axes: str | None = None,
    kind: str | Sequence[str] = "auto",
    network: str | SwintormerSettings | None = None,
    prior: str | CompactPriorSettings | LdmPriorSettings | None = None,
    prior_cache: str | Path | None = None,
    vgg19: str | Path | None = None,
    progress: bool = False,
    **options: Unpack[TrainOptions],
) -> Path:
    """Train a network, or train a model further, on pairs of blurred and sharp images.

    The pairs are checked first, and bad ones are refused. Training writes the weights file `out`,
    and beside it the folder ``<out>.run`` with the checkpoint, the log ``log.jsonl``, the weights
    of the best validation and the last ones, and a picture of every validation. With
    ``resume=True`` an interrupted training continues, and gives the weights that it would have
    given without the interruption.

    Parameters
    ----------
    blurred
        Folder with the blurred partner of every sharp image: same name, any suffix. Or an array, or
        a list of arrays; the planes of a stack are pairs of their own. With `synthesize` they are
        the partners of the first folder in `sharp`, and an array may be None.
    sharp
        Folder of sharp images, or several; or as many arrays as `blurred` has.
    out
        Weights file to write, ending in ``.safetensors``.
    dual_pixel
        Folder of a dual-pixel camera with ``inputL``, ``inputR`` and ``target``, instead of both.
    annotations
        Masks, as a folder or as arrays: 1 where patches are taken, 2 what is left out. None takes
        patches everywhere.
    axes
        One letter of ``TCZYXS`` per dimension of the arrays; None guesses them.
    kind
        ``"photo"``, ``"microscopy"`` or ``"auto"`` (photo: 8-bit colour), for all folders or one
        per folder; blur is synthesized in linear light.
    network
        Network to train from nothing: ``"small"`` (1.3 M parameters, the default), ``"paper"``
        (25.2 M), or its sizes.
    prior
        Prior to train with: ``"ldm"``, that of the paper, or its settings. The stage
        ``"autoencoder"`` adds a compact prior to a model, which may be of other sizes.
    prior_cache
        Folder of the sampled priors of the training images; None takes one in the run folder.
    vgg19
        File with the parameters of VGG19, for the loss ``"perceptual"``; None fetches them once.
    progress
        Show a progress bar.
    **options
        Fields of `TrainSettings`, such as ``steps=5000``; ``help(train)`` explains each one.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    TrainingError
        Images, options or checkpoint cannot be used.
    ModelNotFoundError, WeightsError
        The model to start from cannot be found or used.

    Examples
    --------
    >>> from napari_swintormer import train
    >>> train("blurred", "sharp", "mine.safetensors", steps=5000)  # doctest: +SKIP
    >>> train(sharp="sharp", synthesize="defocus", out="mine.safetensors")  # doctest: +SKIP
    """
    images: dict[str, Any]
    if are_arrays(sharp):
        images = {"pairs": tuple(array_pairs(blurred, sharp, annotations, axes))}
    else:
        folders = [sharp] if isinstance(sharp, (str, Path)) else sharp
        images = {"sharp": tuple(map(Path, folders)), "blurred": _path(blurred)}
        images["annotations"] = _path(annotations)
    settings = TrainSettings(
        out=Path(out),
        dual_pixel=_path(dual_pixel),
        kinds=(kind,) if isinstance(kind, str) else tuple(kind),  # type: ignore[arg-type]
        network=named_network(network),
        prior=named_prior(prior),
        prior_cache=_path(prior_cache),
        vgg19=_path(vgg19),
        **images,
        **options,
    )
    _run_to_end(iter_train(settings), "Training", progress)
    return settings.out


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _run_to_end(events: Generator[Event, None, None], title: str, progress: bool) -> None:
    if progress:
        from napari_swintormer.terminal import finish

        finish(events, title)
        return
    with closing(stoppable(events)) as run:
        _log(run)


def _log(events: Iterable[Event]) -> None:
    """Log all notices but the plan."""
    for event in events:
        if isinstance(event, Notice) and not isinstance(event, PlanNotice):
            _LOGGER.warning(event.message)


def _settings_and_restorer(
    model: str | Path | Callable[..., Any] | None, options: DeblurOptions
) -> tuple[DeblurSettings, Callable[..., Any] | None]:
    """Split `model` into a name for the settings and a loaded restorer."""
    if model is None or isinstance(model, (str, Path)):
        return DeblurSettings(model=None if model is None else str(model), **options), None
    return DeblurSettings(**options), model
