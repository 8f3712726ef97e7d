import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import zarr
import zarr.storage
from skimage.measure import block_reduce

from helpers.store import BLOCK, PIXEL_SIZE, RUN, UNIT, begin, copy_chunks, image_of
from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.formats import npy
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import write_image
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.imaging.sample import identify
from napari_swintormer.imaging.store import pyramid, sharding
from napari_swintormer.imaging.store.result import ResultStore, partial_folder

TESTS = Path(__file__).parents[1]


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
    copy_chunks(image, axes, store)
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
    copy_chunks(image, "ZYXS", store)
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
    copy_chunks(image, "ZYX", store)
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
    copy_chunks(image, "YX", begin(tmp_path / "a.zarr", image), limit=1)
    store = ResultStore.resume(tmp_path / "a.zarr", RUN)
    copy_chunks(image, "YX", store)
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
            copy_chunks(image, "ZYXS", store, limit)
        store.finish()
    assert files_of(stopped) == files_of(at_once)


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif", "a.npy"])
def test_finishing_tells_its_progress_and_can_be_stopped(tmp_path, name, monkeypatch):
    monkeypatch.setattr(sharding, "_MANY_CHUNKS", 4)
    monkeypatch.setattr(sharding, "_SIDE", 1)
    monkeypatch.setattr(sharding, "_CHUNKS", 1)
    monkeypatch.setattr(pyramid, "_COARSEST", 20)
    monkeypatch.setattr(npy, "_BAND_BYTES", 4000)
    image = image_of("ZYXS", "uint8")
    at_once, stopped = tmp_path / "at once", tmp_path / "stopped"
    for folder in (at_once, stopped):
        folder.mkdir()
        store = begin(folder / name, image, "ZYXS")
        copy_chunks(image, "ZYXS", store)
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


def in_blocks_of(side, monkeypatch, coarsest=20):
    """Work in chunks of `side` pixels, with levels down to `coarsest` pixels."""
    monkeypatch.setattr("helpers.store.BLOCK", side)
    monkeypatch.setattr(pyramid, "_COARSEST", coarsest)


def in_shards(monkeypatch, side, chunks):
    """Pack every result into shards of `side` x `side` chunks, `chunks` where planes are small."""
    monkeypatch.setattr(sharding, "_MANY_CHUNKS", 1)
    monkeypatch.setattr(sharding, "_SIDE", side)
    monkeypatch.setattr(sharding, "_CHUNKS", chunks)


@pytest.mark.parametrize(
    ("axes", "shape", "shards", "n_files"),
    [
        # chunks 7 x 9, 4 x 5, 2 x 3: shards of 2 x 2
        ("YX", (50, 71), (16, 16), 4 * 5 + 2 * 3 + 1 * 2),
        # 3 x 5 planes of one chunk: shards of 4 planes along Z
        ("TZYX", (3, 5, 8, 7), (1, 4, 8, 7), 3 * 2),
        ("YXS", (17, 30, 3), (3, 16, 16), 2 * 2 + 1),
    ],
)
def test_many_chunks_become_few_files(tmp_path, monkeypatch, axes, shape, shards, n_files):
    in_blocks_of(8, monkeypatch)
    image = np.random.default_rng(0).integers(0, 255, shape).astype("uint16")
    for name in ("loose.zarr", "packed.zarr"):
        store = begin(tmp_path / name, image, axes)
        copy_chunks(image, axes, store)
        store.finish()
        in_shards(monkeypatch, side=2, chunks=4)
    loose, packed = (zarr.open_group(tmp_path / f"{n}.zarr", mode="r") for n in ("loose", "packed"))
    assert sorted(loose.array_keys()) == sorted(packed.array_keys())
    for level in loose.array_keys():
        assert np.array_equal(loose[level][...], packed[level][...])
        assert loose[level].chunks == packed[level].chunks
        assert loose[level].shards is None
    assert packed["0"].shards == shards
    files = [path for path in files_of(tmp_path / "packed.zarr") if "c" in path.parts]
    assert len(files) == n_files
    with open_image(tmp_path / "packed.zarr") as result:
        assert np.array_equal(result.data[...], image)
        assert result.data[...].dtype == image.dtype


class Killed(BaseException):
    """Stands for the end of the process: nothing is cleaned up."""


@pytest.fixture
def two(tmp_path):
    """Two results of one name, so that their files can be compared."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    return tmp_path / "one/a.zarr", tmp_path / "other/a.zarr"


def test_packing_that_is_killed_anywhere_goes_on_to_the_same_bytes(two, monkeypatch):
    in_blocks_of(8, monkeypatch)
    in_shards(monkeypatch, side=2, chunks=4)
    image = np.random.default_rng(0).integers(0, 255, (30, 40)).astype("uint8")
    for path in two:
        copy_chunks(image, "YX", begin(path, image))
    whole, killed = two
    ResultStore.resume(whole, RUN).finish()
    steps = kills = 0

    def dying(work):
        def step(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == kills + 1:
                raise Killed
            return work(*args, **kwargs)

        return step

    with monkeypatch.context() as death:
        for owner, name in ((Path, "replace"), (Path, "unlink"), (shutil, "rmtree")):
            death.setattr(owner, name, dying(getattr(owner, name)))
        while not killed.exists():
            steps = 0
            try:  # each time, one step further
                store = ResultStore.resume(killed, RUN)
                assert store.damaged == 0
                assert len(store.finished()) == 20
                store.finish()
            except Killed:
                kills += 1
    assert kills > 20
    assert files_of(killed) == files_of(whole)


@pytest.mark.parametrize("name", ["a.zarr", "a.ome.tif"])
def test_a_finish_that_fails_anywhere_is_finished_by_resuming(tmp_path, monkeypatch, name):
    """The n-th step on the disk fails, for n = 1, 2, 3, … until a finish passes without failure."""
    in_blocks_of(16, monkeypatch)
    in_shards(monkeypatch, side=2, chunks=4)
    image = np.random.default_rng(0).integers(0, 255, (30, 40)).astype("uint8")
    made = tmp_path / "made" / name
    made.parent.mkdir()
    copy_chunks(image, "YX", begin(made, image))
    steps = n = 0

    def failing(work):
        def step(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == n:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return work(*args, **kwargs)

        return step

    def result_of_failing_at(number):
        nonlocal steps, n
        steps, n = 0, number
        destination = tmp_path / str(number) / name
        shutil.copytree(made.parent, destination.parent)
        for replaced in (destination, destination.with_name(f".{name}.old")):  # by a killed run
            replaced.mkdir() if name == "a.zarr" else replaced.touch()
        with monkeypatch.context() as disk:
            disk.setattr(shutil, "copyfileobj", failing(shutil.copyfileobj))
            for step in ("replace", "unlink", "rmdir", "fsync"):
                disk.setattr(os, step, failing(getattr(os, step)))
            store = ResultStore(destination)
            try:
                store.finish(overwrite=True)
            except OutputError:
                n = 0
                assert destination.exists()
                assert ResultStore.is_unfinished(destination)
                store = ResultStore.resume(destination, RUN)
                assert (len(store.finished()), store.damaged) == (6, 0)
                store.finish(overwrite=True)
        assert not ResultStore.is_unfinished(destination)
        return files_of(destination) if destination.is_dir() else destination.read_bytes()

    expected, failures = result_of_failing_at(0), 0
    while failures == 0 or n == 0 or steps >= n:
        failures += 1
        assert result_of_failing_at(failures) == expected
    assert failures > (20 if name == "a.zarr" else 2)


@pytest.mark.parametrize("when", ["in the run", "while it is packed"])
def test_a_chunk_that_is_damaged_on_disk_is_made_again(two, monkeypatch, when):
    in_blocks_of(8, monkeypatch)
    in_shards(monkeypatch, side=2, chunks=4)
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype("uint8")
    for path in two:
        copy_chunks(image, "YXS", begin(path, image, "YXS"))
    whole, damaged = two
    folder = partial_folder(damaged)
    store = ResultStore.resume(damaged, RUN)
    if when == "while it is packed":
        with closing(store.finishing()) as finishing:
            for _ in range(2 + 2):  # all of level 1, and two shards of six
                next(finishing)
        store = ResultStore.resume(damaged, RUN)
    else:
        (folder / "0/c/0/0/1").unlink()
        coarse = folder / "1/c/0/0/2"
        coarse.write_bytes(coarse.read_bytes() + b"x")
    victim = folder / "0/c/0/3/3"
    pixels = bytearray(victim.read_bytes())
    pixels[len(pixels) // 2] ^= 1  # a single bit
    victim.write_bytes(pixels)

    with pytest.raises(OutputError, match=r"damaged on disk .*Resume the run"):
        store.finish()
    store = ResultStore.resume(damaged, RUN)
    assert store.damaged == (3 if when == "in the run" else 1)
    assert copy_chunks(image, "YXS", store) == (2 if when == "in the run" else 1)
    store.finish()
    ResultStore.resume(whole, RUN).finish()
    assert files_of(damaged) == files_of(whole)


def test_colours_one_by_one_complete_a_chunk_together(two, monkeypatch):
    in_blocks_of(8, monkeypatch)
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype("uint8")
    for path, each in zip(two, (1, 3), strict=True):
        store = begin(path, image, "YXS", planes_per_position=each)
        n_chunks = copy_chunks(image, "YXS", store, channels=3 // each)
        store = ResultStore.resume(path, RUN)
        assert (len(store.finished()), store.damaged) == (n_chunks, 0)
        store.finish()
    assert files_of(two[0]) == files_of(two[1])


def test_the_coarser_levels_are_there_when_the_last_chunk_is(two, monkeypatch):
    in_blocks_of(8, monkeypatch)
    image = np.random.default_rng(0).integers(0, 255, (2, 30, 41)).astype("uint8")
    for path in two:
        store = begin(path, image, "ZYX")
        copy_chunks(image, "ZYX", store, shuffled=path == two[1])
        assert list(store.finishing()) == []
    assert files_of(two[0]) == files_of(two[1])


def test_the_batch_size_of_a_run_is_kept(tmp_path):
    store = begin(tmp_path / "a.zarr", image_of("YX"))
    assert store.batch_size is None
    store.batch_size = 6
    assert ResultStore.resume(tmp_path / "a.zarr", RUN).batch_size == 6


def test_a_torn_last_mark_is_none(tmp_path):
    image = image_of("YX")
    copy_chunks(image, "YX", begin(tmp_path / "a.zarr", image), limit=2)
    journal = partial_folder(tmp_path / "a.zarr") / "journal.txt"
    journal.write_bytes(journal.read_bytes()[:-2])  # of "0 0 1", or of "0 0 12"
    store = ResultStore.resume(tmp_path / "a.zarr", RUN)
    assert store.finished() == {(0, 0, 0)}
    assert copy_chunks(image, "YX", store, limit=1) == 1
    assert ResultStore.resume(tmp_path / "a.zarr", RUN).finished() == {(0, 0, 0), (0, 0, 1)}


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_a_killed_run_keeps_what_it_marked(tmp_path):
    image = image_of("YXS", "uint8")
    np.save(tmp_path / "image.npy", image)
    begin(tmp_path / "a.zarr", image, "YXS")
    script = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np
        from helpers.store import RUN, copy_chunks
        from napari_swintormer.imaging.store.result import ResultStore
        image = np.load(sys.argv[2] + "/image.npy")
        store = ResultStore.resume(sys.argv[2] + "/a.zarr", RUN)
        copy_chunks(image, "YXS", store, limit=4)
        print("written", flush=True)
        while True:
            store.array[:8, :8] = image[:8, :8]  # killed in the middle of a chunk
    """
    command = [sys.executable, "-c", textwrap.dedent(script), TESTS, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    store = ResultStore.resume(tmp_path / "a.zarr", RUN)
    assert len(store.finished()) == 4
    assert copy_chunks(image, "YXS", store) == 2
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
    copy_chunks(image, "YX", begin(tmp_path / "a.zarr", image), limit=1)
    assert ResultStore.is_unfinished(tmp_path / "a.zarr")
    with pytest.raises(OutputError, match=r"unfinished run of .* exists\. Resume it"):
        begin(tmp_path / "a.zarr", image)
    store = begin(tmp_path / "a.zarr", image, overwrite=True)
    assert store.finished() == set()
    store.discard()
    assert os.listdir(tmp_path) == []


def test_an_existing_result_is_replaced_on_purpose_only(tmp_path):
    image, destination = image_of("YX"), tmp_path / "a.zarr"
    for value in (1, 2):
        store = begin(destination, image)
        copy_chunks(np.full_like(image, value), "YX", store)
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
    copy_chunks(image, "YX", store, limit=2)

    async def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(zarr.storage.LocalStore, "set", full)
        with pytest.raises(OutputError, match=r"disk is full: .*a\.zarr"):
            copy_chunks(image, "YX", store)
    store = ResultStore.resume(destination, RUN)
    assert len(store.finished()) == 2
    copy_chunks(image, "YX", store)
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
            copy_chunks(opened.data, opened.axes, store)
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
