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


def run_record(layer: Image, settings: DeblurSettings) -> dict[str, Any]:
    """Write down what a run works on and how.

    Parameters
    ----------
    layer
        The input.
    settings
        Of the run.

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
    arguments = "".join(f", {key}={value!r}" for key, value in settings.items())
    uncertainty = settings.get("uncertainty", False)
    names = "result, deviation" if uncertainty else "result"
    lines = [
        "from napari_swintormer import deblur\n",
        f"{names} = deblur({image}{arguments})",
        f"viewer.add_image(result, name={record['layer'] + ' deblurred'!r})",
    ]
    if uncertainty:
        lines.append(f"viewer.add_image(deviation, name={record['layer'] + ' deviation'!r})")
    return "\n".join(lines) + "\n"


def as_command(record: Mapping[str, Any]) -> str:
    """Write a run as a command line.

    Parameters
    ----------
    record
        Of `run_record`.

    Raises
    ------
    ImageError
        When the image comes from no file.
    """
    path = record["path"]
    if path is None or not os.path.exists(path):
        raise ImageError(
            f"{record['layer']} comes from no file; copy as Python, or save the layer first."
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
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
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
