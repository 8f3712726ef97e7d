"""A run of the widget as a line of Python or of the command line, with the same pixels."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

from napari.layers import Image

from napari_swintormer.config import DeblurSettings, with_preferences
from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.files import open_image
from napari_swintormer.plugin.layers import full_resolution


def run_record(
    layer: Image, settings: DeblurSettings, spans: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """Write down what a run works on and how.

    Parameters
    ----------
    layer
        The input.
    settings
        Of the run.
    spans
        First plane and the one after the last along T, C or Z; axes of which all planes are
        deblurred are absent.

    Returns
    -------
    dict
        For `as_python` and `as_command`; a JSON object.
    """
    return {
        "layer": layer.name,
        "path": layer.source.path,
        "multiscale": bool(layer.multiscale),
        "shape": list(full_resolution(layer).shape),
        "planes": {axis: list(span) for axis, span in spans.items()},
        "settings": _chosen(dataclasses.asdict(settings)),
    }


def as_python(record: Mapping[str, Any]) -> str:
    """Write a run as Python for the console of napari, or a script that has the viewer.

    Parameters
    ----------
    record
        Of `run_record`.
    """
    image = f"viewer.layers[{record['layer']!r}].data" + "[0]" * record["multiscale"]
    settings = record["settings"]
    if spans := record["planes"]:
        index = ", ".join(
            "{}:{}".format(*spans[axis]) if axis in spans else ":" for axis in settings["axes"]
        )
        image += f"[{index}]"
    arguments = "".join(f", {key}={value!r}" for key, value in settings.items())
    return (
        "from napari_swintormer import deblur\n\n"
        f"result = deblur({image}{arguments})\n"
        f"viewer.add_image(result, name={record['layer'] + ' deblurred'!r})\n"
    )


def as_command(record: Mapping[str, Any]) -> str:
    """Write a run as a command line.

    Parameters
    ----------
    record
        Of `run_record`.

    Raises
    ------
    ImageError
        When the image comes from no file, or only some planes of it are deblurred.
    """
    path = record["path"]
    if path is None or not os.path.exists(path):
        raise ImageError(
            f"{record['layer']} comes from no file; copy as Python, or save the layer first."
        )
    if record["planes"]:
        raise ImageError(
            "The command line deblurs whole files, not some of their planes; copy as Python."
        )
    settings = dict(record["settings"])
    with open_image(path) as image:
        same = list(image.data.shape) == record["shape"]
        if not same or image.axes == settings["axes"]:
            del settings["axes"]  # the file knows them, in its own order
    folder, name = os.path.split(path)
    stem = name.split(".")[0] + "-deblurred.ome.zarr"
    words = ["swintormer", "deblur", path, os.path.join(folder, stem)]
    for key, value in settings.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is the default anyway, of the API and of the command line."""
    defaults = dataclasses.asdict(DeblurSettings())
    preferred = dataclasses.asdict(with_preferences(DeblurSettings()))
    return {
        key: value
        for key, value in settings.items()
        if value is not None and not value == defaults[key] == preferred[key]
    }
