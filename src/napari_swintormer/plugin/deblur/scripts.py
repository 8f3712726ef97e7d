"""Writes a run of the widget as Python or as a command line, for the same pixels."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from napari.layers import Image

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.web_path import WebPath, as_path
from napari_swintormer.plugin.image_choice import IMAGE_NUMBER
from napari_swintormer.plugin.layers.layer_data import full_resolution
from napari_swintormer.runs.result_names import result_stem, result_title
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import with_preferences

_LOOK = (
    *("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels", "rgb"),
    *("colormap", "contrast_limits", "gamma", "blending"),
)


def run_record(
    layer: Image,
    settings: DeblurSettings,
    second_view: Image | None = None,
    translate: Sequence[float] | None = None,
    words: Sequence[str] = ("deblurred",),
) -> dict[str, Any]:
    """Return the input and the settings of a run, for `as_python` and `as_command`.

    The settings are complete. `translate` is that of the result, if it lies elsewhere than the
    image, and `words` are those of `result_words`. The dictionary can be stored as JSON.
    """
    moved = {} if translate is None else {"translate": [float(step) for step in translate]}
    second = {} if second_view is None else {"second_view": _where(second_view)}
    return {
        **_where(layer),
        **second,
        **moved,
        "words": list(words),
        "shape": list(full_resolution(layer).shape),
        "settings": _chosen(dataclasses.asdict(settings)),
    }


def as_python(record: Mapping[str, Any]) -> str:
    """Write a recorded run as Python, for the console of napari or a script with a viewer."""
    settings = record["settings"]
    image = "image.data[0]" if record["multiscale"] else "image.data"
    arguments = "".join(f", {key}={value!r}" for key, value in settings.items())
    if "second_view" in record:
        arguments = f", second_view={_expression(record['second_view'])}{arguments}"
    uncertainty = settings.get("uncertainty", False)
    names = "result, deviation" if uncertainty else "result"
    look = f"look = {{name: getattr(image, name) for name in {_LOOK!r}}}"
    if "translate" in record:
        look += f" | {{'translate': {record['translate']!r}}}"
    title = result_title(record["layer"], record["words"])
    lines = [
        "from napari_swintormer import deblur\n",
        f"image = viewer.layers[{record['layer']!r}]",
        f"{names} = deblur({image}{arguments})",
        look,
        f"viewer.add_image(result, name={title!r}, **look)",
    ]
    if uncertainty:
        lines += [
            "look |= {'rgb': False, 'colormap': 'magma', 'contrast_limits': None, 'gamma': 1}",
            "if image.rgb:  # one deviation for the colours of a pixel",
            "    deviation = (deviation[..., :3] ** 2).mean(axis=-1) ** 0.5",
            f"viewer.add_image(deviation, name={title + ', deviation'!r}, **look)",
        ]
    return "\n".join(lines) + "\n"


def as_command(record: Mapping[str, Any]) -> str:
    """Write a recorded run as a command line.

    Raises
    ------
    ImageError
        An image comes from no file.
    """
    path = _file(record)
    settings = dict(record["settings"])
    number = record.get(IMAGE_NUMBER)
    with open_image(path, image=number) as image:
        same = list(image.data.shape) == record["shape"]
        if not same or image.axes == settings["axes"]:
            del settings["axes"]  # the command reads them from the file
    folder, name = os.path.split(path)
    folder = "" if isinstance(as_path(path), WebPath) else folder
    result = result_stem(name.split(".")[0], record["words"]) + ".ome.zarr"
    words = ["swintormer", "deblur", path, os.path.join(folder, result)]
    if "second_view" in record:
        words += ["--second-view", _file(record["second_view"])]
    if number is not None:
        words += ["--image", str(number)]
    for key, value in settings.items():
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _where(layer: Image) -> dict[str, Any]:
    """Return the name and the file of a layer."""
    path, multiscale = layer.source.path, bool(layer.multiscale)
    number = {n: layer.metadata[n] for n in (IMAGE_NUMBER,) if n in layer.metadata}
    return {"layer": layer.name, "path": path, "multiscale": multiscale, **number}


def _expression(layer: Mapping[str, Any]) -> str:
    level = "[0]" if layer["multiscale"] else ""
    return f"viewer.layers[{layer['layer']!r}].data{level}"


def _file(layer: Mapping[str, Any]) -> str:
    path: str | None = layer["path"]
    if path is None or not (isinstance(as_path(path), WebPath) or os.path.exists(path)):
        raise ImageError(
            f"{layer['layer']} comes from no file; copy as Python, or save the layer first."
        )
    return path


def _chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Drop settings that equal the default of the API and of the command line."""
    defaults = dataclasses.asdict(DeblurSettings())
    preferred = dataclasses.asdict(with_preferences(DeblurSettings()))
    return {
        key: value
        for key, value in settings.items()
        if value is not None and not value == defaults[key] == preferred[key]
    }
