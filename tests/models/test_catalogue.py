"""The catalogue finds models by name and path, and survives damaged files."""

from __future__ import annotations

import gc
import importlib
import io
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import torch

from helpers.tiny import tiny_card
from napari_swintormer.errors import ModelNotFoundError, OutputError, SettingsError, WeightsError
from napari_swintormer.events import ChunkFinished, Substitution
from napari_swintormer.models import catalogue
from napari_swintormer.models.catalogue import (
    describe_model,
    find_model,
    free_name,
    list_models,
    load_model,
    replacement,
)
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.models.own_models import (
    delete_model,
    export_model,
    import_model,
    rename_model,
)
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import models_folder


@pytest.fixture(autouse=True)
def built_in(tmp_path, monkeypatch, tiny_weights):
    """Replace the folder of built-in models by one with a single model."""
    folder = tmp_path / "built-in"
    folder.mkdir()
    shutil.copy(tiny_weights, folder / "swintormer.safetensors")
    monkeypatch.setattr(catalogue, "BUILT_IN_FOLDER", folder)
    return folder


@pytest.fixture
def user_folder():
    models_folder().mkdir(parents=True)
    return models_folder()


def test_a_copied_file_is_a_model(user_folder, tiny_weights):
    shutil.copy(tiny_weights, user_folder / "mine.safetensors")
    listed = [(info.name, info.source, info.problem) for info in list_models()]
    assert listed == [("mine", "user", None), ("swintormer", "built-in", None)]
    assert load_model("mine").sha256 == file_sha256(tiny_weights)
    assert describe_model("mine").source == "user"
    assert describe_model().name == "swintormer"
    assert describe_model(tiny_weights).source == "path"


def test_no_file_of_the_user_hides_a_built_in_model(user_folder, built_in, make_weights):
    """It keeps working under the next free name, and can be renamed and deleted."""
    for name in ("Swintormer", "swintormer-2"):
        shutil.copy(make_weights("own"), user_folder / f"{name}.safetensors")
    assert find_model("swintormer").parent == built_in
    assert prepare(np.zeros((40, 40), "u2")).model.path.parent == built_in
    names = {info.name: info.path.stem for info in list_models() if info.source == "user"}
    assert names == {
        "Swintormer-3": "Swintormer",
        "swintormer-2": "swintormer-2",
    }
    assert describe_model("Swintormer-3").name == "Swintormer-3"
    for taken in ("swintormer", "SWINTORMER-2"):
        with pytest.raises(OutputError, match=r"already\. Another name is free"):
            rename_model("Swintormer-3", taken)
    with pytest.raises(OutputError, match="built-in model 'swintormer' already"):
        import_model(built_in / "swintormer.safetensors", overwrite=True)
    assert import_model(built_in / "swintormer.safetensors", name="copy").stem == "copy"
    assert rename_model("Swintormer-3", "mine") == user_folder / "mine.safetensors"
    assert free_name("Mine") == "Mine-2"
    assert free_name("unused") == "unused"


def test_a_damaged_file_does_not_break_the_list(user_folder):
    (user_folder / "broken.safetensors").write_bytes(b"not weights")
    (user_folder / "notes.txt").write_text("no model")
    broken, small = list_models()
    assert broken.name == "broken"
    assert broken.card is None
    assert "broken.safetensors" in broken.problem
    assert small.problem is None
    with pytest.raises(WeightsError, match=r"broken\.safetensors"):
        load_model("broken")


def test_an_earlier_name_loads_the_model_that_took_its_place_and_says_so(
    built_in, user_folder, make_weights, caplog, tmp_path
):
    """A file of that name comes first; results of an earlier model are not continued."""
    network = tiny_card().network.model_copy(update={"known_blur": True})
    shutil.copy(make_weights("heir", network=network), built_in / "swintormer.safetensors")
    image = tmp_path / "a.npy"
    np.save(image, np.zeros((600, 600), np.uint16))
    shutil.copy(make_weights("earlier", title="Earlier"), user_folder / "photo-motion.safetensors")
    assert replacement("photo-motion") is None

    def run(**options):
        settings = DeblurSettings(model="photo-motion", device="cpu", tile_size=64, overlap=0)
        return FileRun(image, tmp_path / "b.ome.zarr", settings, **options)

    for event in (events := run().events()):
        if isinstance(event, ChunkFinished):
            events.close()
            break
    (user_folder / "photo-motion.safetensors").unlink()
    with pytest.raises(
        OutputError, match=r"differs in model \(it has 'photo-motion', asked .*'swint"
    ):
        list(run(resume=True).events())
    sentence = "The model 'photo-motion' has become a part of 'swintormer', which is used instead."
    said = [e for e in run(overwrite=True).events() if isinstance(e, Substitution)]
    assert [each.message.startswith(sentence) for each in said] == [True]
    assert load_model("photo-motion").sha256 == load_model("swintormer").sha256
    assert caplog.messages == [said[0].message]
    assert prepare(np.load(image), DeblurSettings(model="photo-motion")).model_name == "swintormer"


def test_words_are_no_names_of_models(user_folder, tiny_weights):
    shutil.copy(tiny_weights, user_folder / "filter.safetensors")
    assert [info.name for info in list_models()] == ["filter-2", "swintormer"]
    with pytest.raises(SettingsError, match="The filter has no weights"):
        load_model("filter")
    for word in ("filter", "Auto"):
        with pytest.raises(OutputError, match="is a word for another choice"):
            rename_model("filter-2", word)


def test_an_unknown_name_tells_the_nearest(tmp_path):
    with pytest.raises(ModelNotFoundError) as caught:
        load_model("swintorme")
    assert "Did you mean 'swintormer'?" in str(caught.value)
    assert str(models_folder()) in str(caught.value)


def test_import_checks_and_converts(tmp_path, tiny_weights, user_folder):
    imported = import_model(tiny_weights)
    assert imported == user_folder / "tiny.safetensors"
    assert imported.read_bytes() == tiny_weights.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        import_model(tiny_weights)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_weights.read_bytes()[:-1])
    with pytest.raises(WeightsError):
        import_model(broken)
    assert [info.name for info in list_models()] == ["swintormer", "tiny"]


def test_a_pickle_in_the_folder_says_how_to_import_it(user_folder):
    torch.save({"params": {}}, user_folder / "GoPro.pth")
    info = list_models()[0]
    assert info.name == "GoPro"
    assert "swintormer models import" in info.problem


def test_an_own_model_is_renamed_and_deleted(user_folder, tiny_weights):
    import_model(tiny_weights)
    shutil.copy(tiny_weights, user_folder / "other.safetensors")
    renamed = rename_model("tiny", "liver-2.1")
    assert renamed == user_folder / "liver-2.1.safetensors"
    assert renamed.read_bytes() == tiny_weights.read_bytes()
    (user_folder / "liver-2.1.pth").write_bytes(b"listed behind the other")
    for taken_or_none in ("other", "OTHER", "../elsewhere", "", ".hidden", "a/b"):
        with pytest.raises(OutputError, match=r"already|cannot be called"):
            rename_model("liver-2.1", taken_or_none)
    assert [info.name for info in list_models()] == ["liver-2.1", "other", "swintormer"]
    assert delete_model("liver-2.1") == renamed
    assert delete_model("liver-2.1") == user_folder / "liver-2.1.pth"
    assert [info.name for info in list_models()] == ["other", "swintormer"]
    with pytest.raises(ModelNotFoundError):
        delete_model("liver-2.1")


def test_a_damaged_own_file_can_be_deleted(user_folder, built_in):
    (user_folder / "swintormer.safetensors").write_bytes(b"damaged")
    assert delete_model("swintormer-2").parent == user_folder
    assert list(user_folder.iterdir()) == []
    assert find_model().parent == built_in


def test_only_own_models_are_renamed_or_deleted(user_folder, built_in, tiny_weights):
    with pytest.raises(OutputError, match="built in"):
        delete_model("swintormer")
    with pytest.raises(OutputError, match="built in"):
        rename_model("swintormer", "mine")
    with pytest.raises(OutputError, match="elsewhere"):
        delete_model(str(tiny_weights))
    assert tiny_weights.exists()
    assert [file.name for file in built_in.iterdir()] == ["swintormer.safetensors"]


def test_an_exported_model_is_the_same_file(tmp_path, built_in):
    small = built_in / "swintormer.safetensors"
    target = tmp_path / "gift.safetensors"
    assert export_model("swintormer", target) == target
    assert target.read_bytes() == small.read_bytes()
    (tmp_path / "folder").mkdir()
    assert export_model("swintormer", tmp_path / "folder").name == small.name
    with pytest.raises(OutputError, match="--overwrite"):
        export_model("swintormer", target)
    assert export_model("swintormer", target, overwrite=True) == target
    with pytest.raises(OutputError, match="exists"):  # the target is the source
        export_model("swintormer", small, overwrite=True)


def test_a_model_is_exported_for_the_bioimage_model_zoo(tiny_weights, tmp_path):
    """The exported architecture and weights turn the test input into the test output."""
    spec = pytest.importorskip("bioimageio.spec")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library closes some files late
        target = export_model(tiny_weights, tmp_path / "tiny.zip")
        model = spec.load_description(target)
        assert isinstance(model, spec.model.v0_5.ModelDescr), model.validation_summary.format()
        architecture = model.weights.pytorch_state_dict.architecture
        (scaling,) = (p.kwargs for p in model.inputs[0].preprocessing if p.id == "scale_range")
        del model
        gc.collect()
    module = importlib.import_module(architecture.import_from)
    network = getattr(module, architecture.callable)(**architecture.kwargs)
    with zipfile.ZipFile(target) as files:
        images = {name: np.load(files.open(f"test_{name}.npy")) for name in ("input", "output")}
        with files.open("weights.pt") as weights:
            network.load_state_dict(torch.load(io.BytesIO(weights.read()), weights_only=True))
    low, high = np.percentile(images["input"], (scaling.min_percentile, scaling.max_percentile))
    unit = (images["input"] - low) / (high - low + scaling.eps)
    restored = network(torch.from_numpy(unit.astype(np.float32)))
    np.testing.assert_allclose(restored, images["output"], atol=1e-5)
    assert not np.allclose(images["output"], unit, atol=1e-3)
    with pytest.raises(OutputError, match="exists already"):
        export_model(tiny_weights, target)


def test_models_that_the_bioimage_model_zoo_cannot_hold_are_refused(
    make_weights, tmp_path, monkeypatch
):
    card = tiny_card()
    two = card.network.model_copy(update={"views": 2})
    weights = make_weights("two-views", network=two, views=("right", "left"))
    with pytest.raises(OutputError, match="more than one image"):
        export_model(weights, tmp_path / "two.zip")
    monkeypatch.setattr("napari_swintormer.models.foreign.bioimage.find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r"napari-swintormer\[bioimage\]"):
        export_model(weights, tmp_path / "two.zip")


def test_a_file_that_has_not_changed_is_read_once(home, make_weights, monkeypatch):
    (home / "models").mkdir(parents=True, exist_ok=True)
    shutil.copy(make_weights("mine", title="First"), home / "models")
    read, seen = catalogue.read_card, []
    monkeypatch.setattr(catalogue, "read_card", lambda path: seen.append(path) or read(path))

    def title():
        return next(info.card.title for info in list_models() if info.name == "mine")

    assert [title(), title()] == ["First", "First"]
    assert [path.stem for path in seen].count("mine") == 1
    shutil.copy(make_weights("mine", title="Second"), home / "models")
    assert title() == "Second"
