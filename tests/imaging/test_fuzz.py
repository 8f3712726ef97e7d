"""Damaged and hostile files open right, or end in a sentence, within limits of time and memory.

``SWINTORMER_FUZZ=20000`` tries 20,000 files of each kind instead of a few; that takes an hour.
"""

from __future__ import annotations

import json
import os
import re
import struct
import time
import warnings
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.tiny import tiny_prior_card
from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import write_image
from napari_swintormer.models.catalogue import describe_model
from napari_swintormer.models.files.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 10  # of the processor, for one file
BYTES = 3 * 2**30  # of address space, on top of what is in use

fuzz = settings(
    max_examples=int(os.environ.get("SWINTORMER_FUZZ", "25")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, 0.5, float("nan"), float("inf")]),
    st.sampled_from(["", "x", "0", "../..", "\x00", "ü" * 300, [], {}, [[]], {"a": 1}, [1, 2, 3]]),
)
numbers = st.sampled_from([0, 1, 2, 255, 65535, 2**31 - 1, 2**32 - 1])


@contextmanager
def within_limits() -> Iterator[None]:
    """Let an error of the package pass; hold the time and, on Linux, the memory."""
    resource, limits = None, (0, 0)
    if os.path.exists("/proc/self/statm"):
        import resource

        limits = resource.getrlimit(resource.RLIMIT_AS)
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, limits[1]))
    begun, said = time.process_time(), "opened"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # users see them, and the work goes on
            yield
    except SwintormerError as error:
        said = str(error)
    finally:
        if resource is not None:
            resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - begun < SECONDS
    assert said.strip()
    assert "\n" not in said


def open_and_read(path: Path) -> None:
    """Open an image, and read its first and its last pixels."""
    with within_limits(), open_image(path) as image:
        image.data[tuple(slice(0, 8) for _ in image.data.shape)]
        image.data[tuple(slice(max(0, n - 8), n) for n in image.data.shape)]
        for level in image.levels:
            level[tuple(slice(0, 8) for _ in level.shape)]


@st.composite
def damages(draw: st.DrawFn, content: bytes, places: tuple[int, ...] = ()) -> bytes:
    """Flip, overwrite and cut bytes; some of them at `places`."""
    damaged = bytearray(content)
    anywhere = st.integers(0, len(content) - 8)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.sampled_from(places) | anywhere if places else anywhere)
        kind = draw(st.sampled_from(["flip", "set", "short", "long"]))
        if kind == "flip":
            damaged[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            damaged[at] = draw(st.integers(0, 255))
        elif kind == "short":
            struct.pack_into("<H", damaged, at, draw(numbers) & 65535)
        else:
            struct.pack_into("<I", damaged, at, draw(numbers))
    if draw(st.integers(0, 5)) == 0:
        del damaged[draw(st.integers(0, len(damaged))) :]
    return bytes(damaged)


@st.composite
def altered(draw: st.DrawFn, text: str) -> str:
    """Change values anywhere in a JSON text, or take them out."""
    content = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        inner, value = content, deepcopy(draw(values))
        while True:
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(inner[key], dict | list) and inner[key] and draw(st.integers(0, 3)):
                inner = inner[key]
                continue
            if draw(st.integers(0, 4)):
                inner[key] = value
            else:
                del inner[key]
            break
    return json.dumps(content)


@pytest.fixture(scope="module")
def tiffs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, tuple[int, ...]]]:
    """Give TIFF files of many forms, with the places of their tags."""
    folder, image = tmp_path_factory.mktemp("tiffs"), np.arange(3 * 40 * 48, dtype=np.uint16)
    image = image.reshape(3, 40, 48)
    rgb = image.reshape(40, 48, 3).astype(np.uint8)
    forms: list[tuple[Any, dict[str, Any]]] = [
        (image, {}),
        (image, {"imagej": True, "metadata": {"axes": "ZYX", "Info": "a = 1", "unit": "um"}}),
        (image, {"ome": True, "metadata": {"axes": "CYX", "PhysicalSizeX": 0.1}}),
        (image, {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        (image, {"bigtiff": True, "byteorder": ">"}),
        (rgb, {"photometric": "rgb", "rowsperstrip": 7, "resolution": (300, 300)}),
        (rgb[..., 0] > 9, {"extratags": [(274, 3, 1, 6, False), (42113, 2, 0, "-1", True)]}),
    ]
    made = []
    for number, (pixels, options) in enumerate(forms):
        path = folder / f"{number}.tif"
        tifffile.imwrite(path, pixels, **{"photometric": "minisblack"} | options)
        with tifffile.TiffFile(path) as file:
            tags = [tag.offset for page in file.pages for tag in page.tags]
        made.append((path.read_bytes(), tuple(at + part for at in tags for part in (0, 2, 4, 8))))
    return made


@fuzz
@given(data=st.data())
def test_damaged_tiffs(
    data: st.DataObject, tiffs: list[tuple[bytes, tuple[int, ...]]], tmp_path: Path
) -> None:
    content, places = data.draw(st.sampled_from(tiffs))
    (tmp_path / "a.tif").write_bytes(data.draw(damages(content, places)))
    open_and_read(tmp_path / "a.tif")


@fuzz
@given(data=st.data())
def test_odd_ome_xml(data: st.DataObject, tmp_path: Path) -> None:
    image = np.zeros((3, 40, 48), np.uint16)
    write_image(
        tmp_path / "b.ome.tif", image, "CYX", {"X": 0.1}, {"X": "micrometer"}, overwrite=True
    )
    text = tifffile.tiffcomment(tmp_path / "b.ome.tif")
    parts = re.split(r'("[^"]*"|<[^ >]*)', text)
    odd = st.sampled_from(['""', '"-1"', '"0"', '"99999999999"', '"nan"', '"x"', "<", "<Odd", "&"])
    for _ in range(data.draw(st.integers(1, 3))):
        parts[data.draw(st.integers(0, len(parts) - 1))] = data.draw(odd)
    text = "".join(parts)[: data.draw(st.sampled_from([None, None, None, len(text) // 2]))]
    options = {"photometric": "minisblack", "metadata": None}
    encoded = text.encode("utf-8")
    tifffile.imwrite(tmp_path / "a.ome.tif", image, description=encoded, **options)
    open_and_read(tmp_path / "a.ome.tif")


@fuzz
@given(data=st.data())
def test_odd_zarr_metadata(data: st.DataObject, tmp_path: Path) -> None:
    import zarr

    for name, version in (("old.zarr", 2), ("new.zarr", 3)):
        if not (tmp_path / name).exists():
            multiscales = {
                "version": "0.4",
                "axes": [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [{"type": "scale", "scale": [0.1, 0.1]}],
                    }
                ],
            }
            omero = {"channels": [{"label": "a", "color": "FF0000", "window": {"start": 0}}]}
            entries = {"multiscales": [multiscales], "omero": omero}
            group = zarr.open_group(tmp_path / name, mode="w", zarr_format=version)
            group.attrs.update(entries if version == 2 else {"ome": {"version": "0.5"} | entries})
            group.create_array("0", data=np.zeros((40, 48), np.uint16), chunks=(16, 16))
    name, files = data.draw(
        st.sampled_from(
            [
                ("old.zarr", (".zattrs", ".zgroup", "0/.zarray")),
                ("new.zarr", ("zarr.json", "0/zarr.json")),
            ]
        )
    )
    path = tmp_path / name / data.draw(st.sampled_from(files))
    before = path.read_bytes()
    by_value = data.draw(st.booleans())
    after = data.draw(altered(before.decode())).encode() if by_value else data.draw(damages(before))
    try:
        path.write_bytes(after)
        open_and_read(tmp_path / name)
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give a weights file with a card."""
    from helpers.tiny import random_network
    from napari_swintormer.models.files.weights import save_weights

    path, card = tmp_path_factory.mktemp("weights") / "a.safetensors", tiny_prior_card()
    save_weights(path, random_network(card).state_dict(), card)
    return path.read_bytes()


@fuzz
@given(data=st.data(), kind=st.sampled_from(["bytes", "header", "card"]))
def test_odd_weights_files(data: st.DataObject, kind: str, weights: bytes, tmp_path: Path) -> None:
    (length,) = struct.unpack_from("<Q", weights)
    head, tensors = weights[8 : 8 + length], weights[8 + length :]
    if kind == "bytes":
        content = data.draw(damages(weights[: 8 + length])) + tensors
    else:
        header = json.loads(head)
        if kind == "card":
            changed = data.draw(altered(header["__metadata__"]["swintormer"]))
            header["__metadata__"]["swintormer"] = changed
            head = json.dumps(header).encode()
        else:
            head = data.draw(altered(json.dumps(header))).encode()
        content = struct.pack("<Q", len(head)) + head + tensors
    (tmp_path / "a.safetensors").write_bytes(content)
    with within_limits():
        describe_model(str(tmp_path / "a.safetensors"))
    with within_limits():
        load_weights(tmp_path / "a.safetensors")


def test_nested_texts_end_in_a_sentence(tmp_path: Path) -> None:
    nested = b"[" * 100_000
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(nested)) + nested)
    with within_limits():
        load_weights(tmp_path / "a.safetensors")
    with within_limits():
        describe_model(str(tmp_path / "a.safetensors"))
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/zarr.json").write_bytes(nested)
    open_and_read(tmp_path / "a.zarr")
