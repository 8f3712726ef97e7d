import errno
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing

import numpy as np
import pytest
import zarr
import zarr.storage
from skimage.measure import block_reduce

from napari_swintormer.errors import OutputError
from napari_swintormer.imaging import bitmap, pyramid
from napari_swintormer.imaging.files import open_image, write_image
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.imaging.sample import identify
from napari_swintormer.imaging.store import ResultStore, partial_folder

RUN = {"model": "tiny", "settings": {"tile_size": 64, "overlap": 16}}
SIZES = {"T": 2, "C": 2, "Z": 2, "Y": 50, "X": 71}
PIXEL_SIZE = {"T": 2.0, "Z": 0.5, "Y": 0.25, "X": 0.125}
UNIT = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}
BLOCK = 32


def image_of(axes, dtype="uint16", samples=3):
    shape = [SIZES.get(a, samples) for a in axes]
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def begin(destination, image, axes="YX", run=RUN, **options):
    size = {a: n for a, n in PIXEL_SIZE.items() if a in axes}
    unit = {a: UNIT[a] for a in size}
    return ResultStore.create(
        destination,
        image.shape,
        image.dtype,
        axes,
        BLOCK,
        run,
        pixel_size=size,
        unit=unit,
        **options,
    )


def chunks_of(planes):
    for plane in range(len(planes)):
        for row in range(-(-planes.shape[0] // BLOCK)):
            for column in range(-(-planes.shape[1] // BLOCK)):
                yield plane, row, column


def copy(image, axes, store, limit=None):
    """Stand in for a run that changes nothing: fill unfinished chunks, at most `limit`."""
    planes = Planes(image, axes, 3)
    done = store.finished()
    todo = [chunk for chunk in chunks_of(planes) if chunk not in done][:limit]
    for plane, row, column in todo:
        y = slice(row * BLOCK, min((row + 1) * BLOCK, planes.shape[0]))
        x = slice(column * BLOCK, min((column + 1) * BLOCK, planes.shape[1]))
        planes.write(store.array, plane, y, x, planes.read(plane, y, x))
        store.mark(plane, row, column)
    return len(todo)


def files_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("axes", "dtype", "samples"),
    [
        ("YX", "uint16", 0),
        ("ZYX", "float32", 0),
        ("CTZYX", ">i2", 0),
        ("XYC", "uint8", 0),
        ("YXS", "uint8", 3),
        ("SZYX", "uint16", 4),
        ("CYXS", "uint8", 2),
    ],
)
def test_a_finished_result_opens_as_the_image_it_was_made_from(tmp_path, axes, dtype, samples):
    image = image_of(axes, dtype, samples)
    store = begin(tmp_path / "a.ome.zarr", image, axes)
    copy(image, axes, store)
    store.finish()
    assert os.listdir(tmp_path) == ["a.ome.zarr"]
    with open_image(tmp_path / "a.ome.zarr") as result:
        assert (result.axes, result.data.shape) == (axes, image.shape)
        assert np.array_equal(result.data[...], image)
        assert result.pixel_size == {a: PIXEL_SIZE[a] for a in axes if a in PIXEL_SIZE}
        assert result.unit == {a: UNIT[a] for a in result.pixel_size}


def test_the_metadata_is_ome_zarr_and_tells_how_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "_COARSEST", 20)
    image = image_of("ZYXS", "uint8")
    store = begin(tmp_path / "a.ome.zarr", image, "ZYXS")
    copy(image, "ZYXS", store)
    store.finish()
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    (multiscale,) = group.attrs["ome"]["multiscales"]
    assert group.attrs["ome"]["version"] == "0.5"
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "z", "y", "x"]
    assert [axis["type"] for axis in multiscale["axes"]] == ["channel"] + ["space"] * 3
    assert [dataset["path"] for dataset in multiscale["datasets"]] == ["0", "1", "2"]
    scale, translation = multiscale["datasets"][2]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": [1, 0.5, 1, 0.5]}
    assert translation == {"type": "translation", "translation": [0, 0, 0.375, 0.1875]}
    assert group["0"].chunks == (3, 1, BLOCK, BLOCK)
    assert group["2"].metadata.dimension_names == ("c", "z", "y", "x")
    assert group.attrs["swintormer"]["run"] == RUN


@pytest.mark.parametrize("dtype", ["uint16", "int8", "float32"])
def test_levels_are_means_of_2_by_2_pixels(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(pyramid, "_COARSEST", 10)
    image = image_of("ZYX", dtype)
    store = begin(tmp_path / "a.zarr", image, "ZYX")
    copy(image, "ZYX", store)
    store.finish()
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    fine = image
    for level, shape in enumerate([(25, 36), (13, 18), (7, 9)], start=1):
        even = np.pad(fine, [(0, 0), (0, fine.shape[1] % 2), (0, fine.shape[2] % 2)], "edge")
        mean = block_reduce(even.astype(float), (1, 2, 2), np.mean)
        fine = (mean if dtype == "float32" else np.rint(mean)).astype(dtype)
        assert group[str(level)].shape == (2, *shape)
        assert np.allclose(group[str(level)][...], fine, rtol=1e-6)
    assert sorted(group.array_keys()) == ["0", "1", "2", "3"]


def test_negative_zeros_survive(tmp_path):
    image = np.full((40, 40), -0.0, np.float32)
    copy(image, "YX", begin(tmp_path / "a.zarr", image), limit=1)
    store = ResultStore.resume(tmp_path / "a.zarr", RUN)
    copy(image, "YX", store)
    store.finish()
    with open_image(tmp_path / "a.zarr") as result:
        assert np.signbit(result.data[...]).all()


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif"])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path, name):
    image = image_of("ZYXS", "uint8")
    at_once, stopped = tmp_path / "at once", tmp_path / "stopped"
    for folder, limits in ((at_once, [None]), (stopped, [3, 0, 5, None])):
        folder.mkdir()
        store = begin(folder / name, image, "ZYXS")
        for limit in limits:
            assert not (folder / name).exists()
            store = ResultStore.resume(folder / name, RUN)
            copy(image, "ZYXS", store, limit)
        store.finish()
    assert files_of(stopped) == files_of(at_once)


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif", "a.npy"])
def test_finishing_tells_its_progress_and_can_be_stopped(tmp_path, name, monkeypatch):
    monkeypatch.setattr(pyramid, "_COARSEST", 20)
    monkeypatch.setattr(bitmap, "_BAND_BYTES", 4000)
    image = image_of("ZYXS", "uint8")
    at_once, stopped = tmp_path / "at once", tmp_path / "stopped"
    for folder in (at_once, stopped):
        folder.mkdir()
        store = begin(folder / name, image, "ZYXS")
        copy(image, "ZYXS", store)
        if folder == stopped:
            for n in (1, 2):
                with closing(store.finishing()) as finishing:
                    for _ in range(n):
                        next(finishing)
                assert os.listdir(folder) == [partial_folder(folder / name).name]
                store = ResultStore.resume(folder / name, RUN)
        told = list(store.finishing())
        assert {event.unit for event in told} == {"chunks"}
        done = [event.done for event in told]
        assert len(done) > 1
        assert done == sorted(set(done))
        assert {event.total for event in told} == {done[-1]}
        assert (told[-1].eta, os.listdir(folder)) == (0, [name])
    assert files_of(stopped) == files_of(at_once)


def test_a_torn_last_mark_is_none(tmp_path):
    image = image_of("YX")
    store = begin(tmp_path / "a.zarr", image)
    store.mark(0, 0, 0)
    with (partial_folder(tmp_path / "a.zarr") / "journal.txt").open("ab") as journal:
        journal.write(b"0 0 1")  # of "0 0 12", or of "0 0 1"
    store = ResultStore.resume(tmp_path / "a.zarr", RUN)
    assert store.finished() == {(0, 0, 0)}
    store.mark(0, 1, 2)
    assert store.finished() == {(0, 0, 0), (0, 1, 2)}


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_a_killed_run_keeps_what_it_marked(tmp_path):
    image = image_of("YXS", "uint8")
    np.save(tmp_path / "image.npy", image)
    begin(tmp_path / "a.zarr", image, "YXS")
    script = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from test_store import RUN, copy, np
        from napari_swintormer.imaging.store import ResultStore
        image = np.load(sys.argv[2] + "/image.npy")
        store = ResultStore.resume(sys.argv[2] + "/a.zarr", RUN)
        copy(image, "YXS", store, limit=4)
        print("written", flush=True)
        while True:
            store.array[:8, :8] = image[:8, :8]  # killed in the middle of a chunk
    """
    command = [sys.executable, "-c", textwrap.dedent(script), os.path.dirname(__file__), tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    store = ResultStore.resume(tmp_path / "a.zarr", RUN)
    assert len(store.finished()) == 4
    assert copy(image, "YXS", store) == 2
    store.finish()
    with open_image(tmp_path / "a.zarr") as result:
        assert np.array_equal(result.data[...], image)
    assert not list((tmp_path / "a.zarr").rglob("*.partial"))


def test_a_run_that_differs_is_not_resumed(tmp_path):
    begin(tmp_path / "a.zarr", image_of("YX"))
    other = {"model": "tiny", "settings": {"tile_size": 128, "overlap": 16}}
    with pytest.raises(
        OutputError, match=r"differs in settings\.tile_size \(it has 64, .* is 128\)"
    ):
        ResultStore.resume(tmp_path / "a.zarr", other)
    with pytest.raises(OutputError, match="differs in input"):
        ResultStore.resume(tmp_path / "a.zarr", {**RUN, "input": "0af3"})
    with pytest.raises(OutputError, match=r"no unfinished run of .*b\.zarr"):
        ResultStore.resume(tmp_path / "b.zarr", RUN)


def test_an_unfinished_run_is_not_lost_by_accident(tmp_path):
    image = image_of("YX")
    begin(tmp_path / "a.zarr", image).mark(0, 0, 0)
    assert ResultStore.is_unfinished(tmp_path / "a.zarr")
    with pytest.raises(OutputError, match=r"unfinished run of .* exists; resume it"):
        begin(tmp_path / "a.zarr", image)
    store = begin(tmp_path / "a.zarr", image, overwrite=True)
    assert store.finished() == set()
    store.discard()
    assert os.listdir(tmp_path) == []


def test_an_existing_result_is_replaced_on_purpose_only(tmp_path):
    image, destination = image_of("YX"), tmp_path / "a.zarr"
    for value in (1, 2):
        store = begin(destination, image)
        copy(np.full_like(image, value), "YX", store)
        if value == 2:
            with pytest.raises(OutputError, match="exists already"):
                store.finish()
            store = ResultStore.resume(destination, RUN)
        store.finish(overwrite=value == 2)
    with open_image(destination) as result:
        assert (result.data[...] == 2).all()
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_a_full_disk_gets_a_sentence_and_the_run_can_be_resumed(tmp_path, monkeypatch):
    image, destination = image_of("YX"), tmp_path / "a.zarr"
    store = begin(destination, image)
    copy(image, "YX", store, limit=2)

    async def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(zarr.storage.LocalStore, "set", full)
        with pytest.raises(OutputError, match=r"disk is full: .*a\.zarr"):
            copy(image, "YX", store)
    store = ResultStore.resume(destination, RUN)
    assert len(store.finished()) == 2
    copy(image, "YX", store)
    with monkeypatch.context() as disk:
        disk.setattr(zarr.storage.LocalStore, "set", full)
        with pytest.raises(OutputError, match="disk is full"):
            store.finish()
    assert not destination.exists()
    ResultStore.resume(destination, RUN).finish()
    with open_image(destination) as result:
        assert np.array_equal(result.data[...], image)


def test_sizes_survive_from_tiff_to_ome_zarr_to_ome_tiff(tmp_path):
    image = image_of("TCZYX")
    write_image(tmp_path / "a.tif", image, "TCZYX", PIXEL_SIZE, UNIT)
    for source, target in (("a.tif", "b.ome.zarr"), ("b.ome.zarr", "c.ome.tif")):
        with open_image(tmp_path / source) as opened:
            store = ResultStore.create(
                tmp_path / target,
                opened.data.shape,
                opened.data.dtype,
                opened.axes,
                BLOCK,
                RUN,
                pixel_size=opened.pixel_size,
                unit=opened.unit,
            )
            copy(opened.data, opened.axes, store)
        store.finish(compression="zstd")
    with open_image(tmp_path / "c.ome.tif") as result:
        assert result.axes == "TCZYX"
        assert np.array_equal(result.data[...], image)
        assert result.pixel_size == pytest.approx(PIXEL_SIZE)
        assert result.unit == UNIT


def test_an_image_is_known_by_its_pixels_wherever_it_lies(tmp_path):
    image = image_of("ZYX")
    stored = zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(1, 9, 9))
    one = identify(Planes(image, "ZYX", 1))
    assert identify(Planes(stored, "ZYX", 1)) == one
    assert identify(Planes(image.astype(">u2"), "ZYX", 1)) == one
    assert identify(Planes(image, "TYX", 1)) != one
    image[1, 2, 3] += 1
    assert identify(Planes(image, "ZYX", 1)) != one
