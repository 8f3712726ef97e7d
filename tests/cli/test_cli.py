"""The command line: what it does, and that every mistake of the user ends in one sentence."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import tifffile
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from napari_swintormer.api import deblur_file
from napari_swintormer.cli import app
from napari_swintormer.errors import SwintormerError
from napari_swintormer.evaluation.residual import residual_map
from napari_swintormer.imaging.views import Ordered
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.models.files.weights import read_card
from napari_swintormer.models.own_models import import_model
from napari_swintormer.settings.preferences import models_folder

if TYPE_CHECKING:
    from pathlib import Path

DEMO_FILES = [
    "circuit_board_deblurred.png",
    "circuit_board_before_after.png",
    "shaken_board_deblurred.png",
    "shaken_board_before_after.png",
    "actin_deblurred.tif",
    "actin_before_after.png",
]
COMMAND = [sys.executable, "-W", "error", "-m", "napari_swintormer"]


def swintormer(*args: object) -> tuple[int, str, str]:
    """Run the command line in this process; give exit code, output and errors."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def photo(tmp_path) -> Path:
    """An RGB image of three tiles and a half."""
    path = tmp_path / "photo.tif"
    image = np.random.default_rng(0).integers(0, 256, (70, 150, 3), np.uint8)
    tifffile.imwrite(path, image, photometric="rgb")
    return path


def test_help_and_version_import_no_torch():
    program = """
import sys
from napari_swintormer.cli import main

for words in (["--help"], ["--version"], ["deblur", "--help"], ["models"]):
    sys.argv = ["swintormer", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code
    assert not {"torch", "zarr"} & sys.modules.keys(), words
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_deblur_equals_the_api(photo, tiny_weights, tmp_path):
    from napari_swintormer import deblur

    out = tmp_path / "out.tif"
    code, printed, told = swintormer(
        "deblur", photo, out, "--model", tiny_weights, "--precision", "fp32"
    )
    assert code == 0
    assert printed.strip() == str(out)
    assert "6/6 tiles" in told
    assert "Writing the result" in told
    expected = deblur(tifffile.imread(photo), tiny_weights, precision="fp32")
    np.testing.assert_array_equal(tifffile.imread(out), expected)
    assert (expected != tifffile.imread(photo)).any()


def test_dry_run_shows_the_plan_and_writes_nothing(photo, tiny_weights, tmp_path):
    out = tmp_path / "out.ome.zarr"
    code, printed, _ = swintormer("deblur", photo, out, "--model", tiny_weights, "--dry-run")
    assert code == 0
    assert "6 tiles of 64 px" in printed
    assert sorted(path.name for path in tmp_path.glob("*out*")) == []


def test_models_list_show_and_import(tiny_weights, tmp_path):
    code, _, _ = swintormer("models", "import", tiny_weights)
    assert code == 0
    assert [info.source for info in list_models() if info.name == "tiny"] == ["user"]
    _, table, _ = swintormer("models")
    assert "tiny" in table
    _, card, _ = swintormer("models", "show", "tiny")
    assert "tile size              64" in card
    code, _, error = swintormer("models", "import", tiny_weights)
    assert code == 2
    assert "--overwrite" in error


def test_models_are_renamed_exported_and_deleted_after_a_question(tiny_weights, tmp_path):
    import_model(tiny_weights)
    assert swintormer("models", "rename", "tiny", "mine")[0] == 0
    assert swintormer("models", "export", "mine", tmp_path / "copy.safetensors")[0] == 0
    assert (tmp_path / "copy.safetensors").read_bytes() == tiny_weights.read_bytes()
    own = models_folder() / "mine.safetensors"
    refused = CliRunner().invoke(app, ["models", "delete", "mine"], input="n\n")
    assert refused.exit_code == 1
    assert own.exists()
    code, printed, _ = swintormer("models", "delete", "mine", "--yes")
    assert (code, printed) == (0, f"{own}\n")
    assert not own.exists()
    code, _, error = swintormer("models", "delete", "swintormer", "--yes")
    assert code == 2
    assert "built in" in error


def test_info_tells_what_a_file_holds(photo, tiny_weights):
    _, printed, _ = swintormer("info", photo)
    assert "Y 70 × X 150 × S 3" in printed
    assert "uint8" in printed
    _, printed, _ = swintormer("info", tiny_weights)
    assert "name                   tiny" in printed
    assert "  window size          2" in printed


def test_info_without_a_file_lists_the_devices():
    code, printed, _ = swintormer("info")
    assert code == 0
    assert re.search(r"^cpu +CPU, .*(fp32|bf16) by default$", printed, re.MULTILINE)


# ---- bad input: one sentence, exit code 2, the same as in the API ------------------------------


def missing_file(folder):
    return [folder / "nothing.tif", folder / "out.tif"], {}, "nothing.tif does not exist"


def truncated_tiff(folder):
    path = folder / "cut.tif"
    tifffile.imwrite(path, np.ones((200, 200), np.uint16))
    path.write_bytes(path.read_bytes()[:5000])
    return [path, folder / "out.tif"], {}, "cut.tif"


def save(folder, array):
    np.save(folder / "image.npy", array)
    return [folder / "image.npy", folder / "out.tif"]


def five_dimensions(folder):
    return save(folder, np.zeros((2, 2, 2, 20, 20), np.uint8)), {}, "5 dimensions cannot be guessed"


def complex_data(folder):
    return save(folder, np.zeros((20, 20), np.complex64)), {}, "data type complex64"


def empty_array(folder):
    return save(folder, np.zeros((0, 20), np.uint8)), {}, "is empty: its shape is (0, 20)"


def small_tiles(folder):
    return save(folder, np.zeros((20, 20), np.uint8)), {"tile_size": 8}, "Use tile_size >= 32"


def large_overlap(folder):
    settings = {"tile_size": 64, "overlap": 64}
    return save(folder, np.zeros((20, 20), np.uint8)), settings, "Use overlap <= 63"


def unknown_model(folder):
    image = save(folder, np.zeros((20, 20), np.uint8))
    return image, {"model": "tinny"}, "Did you mean 'tiny'?"


def weights_with_a_missing_key(folder):
    tensors = load_file(models_folder() / "tiny.safetensors")
    del tensors["embed.weight"]
    card = read_card(models_folder() / "tiny.safetensors").model_dump_json()
    save_file(tensors, models_folder() / "broken.safetensors", {"swintormer": card})
    image = save(folder, np.zeros((20, 20), np.uint8))
    return image, {"model": "broken"}, "broken.safetensors lack the key 'embed.weight'"


def full_disk(folder):
    return save(folder, np.zeros((20, 20), np.uint8)), {}, "The disk is too full for"


def existing_output(folder):
    (folder / "out.tif").write_bytes(b"precious")
    return save(folder, np.zeros((20, 20), np.uint8)), {}, "out.tif exists already"


def output_is_the_input(folder):
    image = save(folder, np.zeros((20, 20), np.uint8))[0]
    return [image, image], {"overwrite": True}, "is the input itself"


def no_device(folder):
    image = save(folder, np.zeros((20, 20), np.uint8))
    return image, {"device": "abacus"}, "device='abacus'"


def no_blend(folder):
    image = save(folder, np.zeros((20, 20), np.uint8))
    return image, {"blend": "feather"}, "blend='feather'"


def no_compression(folder):
    image = save(folder, np.zeros((20, 20), np.uint8))
    return image, {"compression": "rar"}, "compression='rar'"


BAD = [
    missing_file,
    truncated_tiff,
    five_dimensions,
    complex_data,
    empty_array,
    small_tiles,
    large_overlap,
    unknown_model,
    weights_with_a_missing_key,
    full_disk,
    existing_output,
    output_is_the_input,
    no_device,
    no_blend,
    no_compression,
]


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_one_sentence_everywhere(bad, tmp_path, tiny_weights, monkeypatch):
    import_model(tiny_weights)
    paths, settings, says = bad(tmp_path)
    settings = {"model": "tiny"} | settings
    if bad is full_disk:
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SwintormerError) as caught:
        deblur_file(*paths, **settings)
    options = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    options = [option.removesuffix("=True") for option in options]
    code, printed, errors = swintormer("deblur", *paths, *options)
    assert code == 2
    assert printed == ""
    assert errors.splitlines()[-1] == f"error: {caught.value}"
    assert says in errors
    assert sorted(tmp_path.rglob("*")) == before  # nothing is left behind


def test_bad_input_in_a_real_process(tmp_path, tiny_weights):
    import_model(tiny_weights)
    paths, settings, says = unknown_model(tmp_path)
    options = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    done = subprocess.run(
        [*COMMAND, "deblur", *paths, *options], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


# ---- stop and go -------------------------------------------------------------------------------


@pytest.fixture
def stack(tmp_path) -> Path:
    """Nine planes, each a chunk of the result."""
    path = tmp_path / "stack.npy"
    np.save(path, np.random.default_rng(0).integers(0, 4000, (9, 60, 60), np.uint16))
    return path


def content(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_run_on_a_disk_that_fills_up_can_be_resumed(stack, tiny_weights, tmp_path, monkeypatch):
    out, whole = tmp_path / "out.ome.zarr", tmp_path / "whole" / "out.ome.zarr"
    whole.parent.mkdir()
    options = ["--model", tiny_weights, "--precision", "fp32"]
    assert swintormer("deblur", stack, whole, *options)[0] == 0
    room, write = iter(range(7)), Ordered.__setitem__

    def write_while_there_is_room(array, index, value):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(array, index, value)

    with monkeypatch.context() as patch:
        patch.setattr(Ordered, "__setitem__", write_while_there_is_room)
        code, _, errors = swintormer("deblur", stack, out, *options)
    assert code == 2
    assert "error: The disk is full" in errors
    assert not out.exists()
    code, _, errors = swintormer("deblur", stack, out, *options)
    assert code == 2
    assert "unfinished run" in errors
    code, _, errors = swintormer("deblur", stack, out, *options, "--resume", "--overlap", 20)
    assert code == 2
    assert "settings.overlap" in errors
    assert swintormer("deblur", stack, out, *options, "--resume")[0] == 0
    assert content(out) == content(whole)
    assert [path.name for path in tmp_path.glob(".*")] == []


# The command, in which no tile is restored between the first finished chunk and a signal.
HELD = """
import signal, sys, time
from pathlib import Path
from napari_swintormer.cli import main
from napari_swintormer.models.restorer import Restorer

journal, restore = Path(sys.argv.pop(1)), Restorer.in_steps

def held(self, *tiles):
    while (
        journal.exists()
        and "\\nchunk " in journal.read_text()
        and signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        time.sleep(0.01)
    return restore(self, *tiles)

Restorer.in_steps = held
main()
"""


def has_chunks(journal):
    """Count the finished chunks."""
    return journal.read_text().count("\nchunk ") if journal.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_stopped_process_is_resumed_to_the_same_bytes(number, stack, tiny_weights, tmp_path):
    out, whole = tmp_path / "out.ome.zarr", tmp_path / "whole" / "out.ome.zarr"
    whole.parent.mkdir()
    options = ["--model", str(tiny_weights), "--precision", "fp32"]
    journal = tmp_path / ".out.ome.zarr.partial" / "journal.txt"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HELD, journal, "deblur", stack, out, *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not has_chunks(journal) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    if number == signal.SIGINT:
        assert "--resume" in errors
        assert "Traceback" not in errors
    assert not out.exists()
    assert 0 < has_chunks(journal) < 9
    assert swintormer("deblur", stack, out, *options, "--resume")[0] == 0
    assert swintormer("deblur", stack, whole, *options)[0] == 0
    assert content(out) == content(whole)


def test_unexpected_errors_keep_their_traceback(photo, tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("napari_swintormer.runs.file.prepare", fail)
    with pytest.raises(RuntimeError, match="of ours"):
        swintormer("deblur", photo, tmp_path / "out.tif")


def test_demo_draws_before_and_after(make_weights, tmp_path):
    out, weights = tmp_path / "demo", make_weights("wide", tile_size=256)
    code, printed, _ = swintormer("demo", "--out", out, "--model", weights)
    assert code == 0
    assert printed.split() == [str(out / name) for name in DEMO_FILES]
    with PIL.Image.open(out / "circuit_board_before_after.png") as picture:
        assert min(picture.size) > 600
    result = tifffile.imread(out / "actin_deblurred.tif")
    assert result.shape == (512, 512)
    assert result.dtype == np.uint16


def test_pairs_are_checked_in_a_table(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (64, 70)).astype(np.uint8)
    for folder in ("blurred", "sharp"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            part = image if folder == "sharp" else scipy.ndimage.gaussian_filter(image, 1.5)
            PIL.Image.fromarray(part).save(tmp_path / folder / f"{name}.png")
    folders = ("--blurred", tmp_path / "blurred", "--sharp", tmp_path / "sharp")
    code, told, _ = swintormer("pairs", *folders)
    assert code == 0
    assert "2 of 2 pairs can be trained on" in told
    PIL.Image.fromarray(image[5:]).save(tmp_path / "sharp" / "b.png")
    code, told, _ = swintormer("pairs", *folders)
    assert code == 2
    assert "must have the same" in told
    assert "1 of 2 pairs can be trained on" in told
    out = tmp_path / "mine.safetensors"
    code, _, told = swintormer("train", *folders, "--out", out, "--steps", 1)
    assert code == 2
    assert "error: 1 of 2 pairs cannot be trained on; the first: The images of a" in told
    assert not out.exists()


def test_the_residual_map_is_written_beside(photo, tmp_path):
    image = tifffile.imread(photo)
    wrong = np.where(np.arange(150)[:, None] < 40, image // 2, image)
    tifffile.imwrite(tmp_path / "wrong.tif", wrong, photometric="rgb")
    out = tmp_path / "left.tif"
    assert swintormer("residual", photo, tmp_path / "wrong.tif", out)[:2] == (0, f"{out}\n")
    left = tifffile.imread(out)
    np.testing.assert_allclose(left, residual_map(image, wrong), atol=1e-3)
    assert np.abs(left[:, :40]).mean() > 10 * np.abs(left[:, 110:]).mean()
    assert not list(tmp_path.glob(".*"))
    code, _, errors = swintormer("residual", photo, tmp_path / "wrong.tif", photo)
    assert code == 2
    assert "is the input itself" in errors


# ---- what people type ---------------------------------------------------------------------------


def test_a_folder_takes_the_result_of_one_file_and_of_several(photo, tiny_weights, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other.tif"
    out.mkdir()
    tifffile.imwrite(other, np.ones((40, 50), np.uint8))
    code, printed, _ = swintormer("deblur", photo, out, "--model", tiny_weights)
    assert (code, printed) == (0, f"{out / 'photo.tif'}\n")
    code, printed, told = swintormer("deblur", photo, other, out, "--model", tiny_weights)
    assert (code, printed) == (0, f"{out}\n")
    assert "1 of them done already" in told
    assert sorted(path.name for path in out.iterdir()) == ["other.tif", "photo.tif"]
    code, _, error = swintormer("deblur", photo, other, tmp_path / "new.tif")
    assert code == 2
    assert "Give a folder" in error


@pytest.mark.parametrize("words", [[], ["deblur"], ["info"], ["models"], ["models", "show"]])
def test_h_is_help(words):
    assert swintormer(*words, "-h") == swintormer(*words, "--help")
    assert swintormer(*words, "-h")[0] == 0


def test_info_lists_the_images_of_a_folder(photo, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "notes.txt").write_text("no image")
    code, printed, _ = swintormer("info", tmp_path)
    first, second = printed.splitlines()
    assert code == 0
    assert first == "photo.tif  Y 70 × X 150 × S 3  uint8"
    assert second.startswith("torn.png   cannot be opened: ")
    (tmp_path / "empty").mkdir()
    assert swintormer("info", tmp_path / "empty")[0] == 2


def test_library_log_lines_and_details_are_shown_with_debug_only(tmp_path):
    path = tmp_path / "torn.tif"
    tifffile.imwrite(path, np.ones((200, 200), np.uint16), compression="deflate")
    path.write_bytes(path.read_bytes()[:300])
    for words, details in [([], False), (["--debug"], True)]:
        command = [sys.executable, "-m", "napari_swintormer", "info", str(path), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert ("Traceback" in done.stderr) == details
        assert (len(done.stderr.splitlines()) == 1) == (not details)
        assert "torn.tif" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /dev/stdin")
def test_standard_input_works_as_a_file_and_is_refused_as_a_pipe(photo):
    command = [*COMMAND, "info", "/dev/stdin"]
    with photo.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)
    assert "Y 70 × X 150 × S 3" in done.stdout
    data = photo.read_bytes()
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"is a pipe or a device" in done.stderr


@pytest.mark.parametrize(
    ("planes", "words"),
    [
        ("Z=3", "has no axis Z: its axes are YXS"),
        ("c=0", "has no axis C"),
        ("Y=3", "must name planes along T, C or Z"),
    ],
)
def test_planes_of_a_missing_axis_end_in_a_sentence(photo, tmp_path, planes, words):
    code, _, error = swintormer("deblur", photo, tmp_path / "out.tif", "--planes", planes)
    assert code == 2
    assert words in error


@pytest.mark.parametrize("words", [["info", "{long}"], ["deblur", "{long}", "out.tif"],
                                   ["deblur", "{photo}", "{long}"],
                                   ["deblur", "{photo}", "{photo}", "{long}"]])  # fmt: skip
def test_a_name_that_is_too_long_ends_in_a_sentence(photo, tmp_path, words):
    paths = {"long": tmp_path / f"{'x' * 300}.tif", "photo": photo}
    code, _, error = swintormer(*(word.format(**paths) for word in words))
    assert code == 2
    assert "is too long" in error or "Give a folder" in error
