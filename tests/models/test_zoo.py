"""Networks of others, from weights and from programs, through every interface."""

import sys

import dask.array as da
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from helpers.foreign import network_of
from napari_swintormer import deblur, list_models, load_model
from napari_swintormer.cli import app
from napari_swintormer.errors import OutputError, SettingsError, WeightsError
from napari_swintormer.models.catalogue import describe_model
from napari_swintormer.models.own_models import export_model, import_model
from napari_swintormer.settings.preferences import models_folder

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.meshgrid"),  # in spandrel
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
ARCHITECTURES = ["NAFNet", "SwinIR", "Restormer"]


@pytest.fixture(params=ARCHITECTURES)
def weights(request, spandrel, tmp_path):
    network = network_of(request.param)
    path = tmp_path / f"{request.param}.pth"
    torch.save({"params": network.state_dict()}, path)
    return network, path


class Halved(nn.Module):
    """A network for tiles whose sides are multiples of eight."""

    def __init__(self, channels=3):
        super().__init__()
        self.down = nn.Conv2d(channels, 4, 8, stride=8)
        self.up = nn.ConvTranspose2d(4, channels, 8, stride=8)

    def forward(self, x):
        return x * 0.9 + 0.1 * self.up(self.down(x)).sigmoid()


def _programs(folder):
    network = Halved().eval()
    script, exported = folder / "halved.pt", folder / "halved.pt2"
    torch.jit.script(network).save(script)
    sides = {
        2: 8 * torch.export.Dim("h", min=2, max=64),
        3: 8 * torch.export.Dim("w", min=2, max=64),
    }
    program = torch.export.export(network, (torch.rand(1, 3, 64, 80),), dynamic_shapes=(sides,))
    torch.export.save(program, exported)
    return network, script, exported


def _image(shape=(70, 90, 3)):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_a_restorer_returns_the_result_of_the_network(weights):
    network, path = weights
    restorer = load_model(path)
    tile = torch.rand(2, 3, 64, 72)
    with torch.inference_mode():
        expected = network(tile).clamp(0, 1)
        torch.testing.assert_close(restorer(tile), expected, rtol=1e-4, atol=1e-5)
        assert restorer(torch.rand(1, 1, 13, 41)).shape == (1, 1, 13, 41)


def test_networks_of_others_run_by_file_by_name_and_lazily(weights, tmp_path):
    _, path = weights
    image = _image()
    options = {"tile_size": 64, "overlap": 16, "device": "cpu", "axes": "YXS"}
    by_file = deblur(image, path, **options)
    assert (by_file != image).mean() > 0.5
    lazy = deblur(da.from_array(image, chunks=(30, 50, 3)), path, **options)
    np.testing.assert_array_equal(lazy.compute(), by_file)
    imported = import_model(path)
    assert imported.suffix == ".safetensors"
    assert {m.name: m.problem for m in list_models()}[path.stem] is None
    np.testing.assert_array_equal(deblur(image, path.stem, **options), by_file)
    copy = export_model(path.stem, tmp_path / "copy.safetensors")
    np.testing.assert_array_equal(deblur(image, copy, **options), by_file)


def test_networks_that_enlarge_are_refused(spandrel, tmp_path):
    from spandrel.architectures.SwinIR import SwinIR

    network = SwinIR(
        embed_dim=12, depths=[1], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffle"
    )
    torch.save(network.state_dict(), tmp_path / "x2.pth")
    with pytest.raises(WeightsError, match="scale 2"):
        load_model(tmp_path / "x2.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match="no network that this package or spandrel knows"):
        load_model(tmp_path / "nothing.pth")


def test_without_spandrel_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "foreign.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(WeightsError, match=r"napari-swintormer\[zoo\]"):
        load_model(tmp_path / "foreign.pth")


@pytest.mark.parametrize("kind", ["script", "exported"])
def test_programs_run_only_after_an_explicit_yes(tmp_path, kind):
    network, script, exported = _programs(tmp_path)
    path = script if kind == "script" else exported
    for use in (load_model, describe_model, import_model, lambda p: deblur(_image(), p)):
        with pytest.raises(SettingsError, match="--run-code"):
            use(path)
    refused = CliRunner().invoke(app, ["models", "import", str(path)])
    assert (refused.exit_code, "--run-code" in refused.output) == (2, True)
    assert "halved" not in {model.name for model in list_models()}
    done = CliRunner().invoke(app, ["models", "import", "--run-code", str(path)])
    assert done.exit_code == 0, done.output
    card = describe_model("halved").card
    assert (card.network.channels, card.network.multiple) == (3, 8)
    image = _image((64, 88, 3))
    restored = deblur(image, "halved", axes="YXS", tile_size=128, overlap=0, device="cpu")
    unit = (image - image.min()) / (float(image.max()) - image.min())
    with torch.inference_mode():
        tile = torch.from_numpy(np.float32(unit)).permute(2, 0, 1)[None]
        expected = network(tile)[0].permute(1, 2, 0).numpy()
    unsaturated = image < 255  # saturated pixels keep their values
    assert np.abs(restored - np.rint(expected * 255))[unsaturated].max() <= 1
    path.write_bytes(path.read_bytes() + b"\0")  # another file under that name is not trusted
    with pytest.raises((SettingsError, WeightsError)):
        load_model(path)


def test_a_program_whose_copy_failed_is_neither_kept_nor_trusted(tmp_path, monkeypatch):
    _, path, _ = _programs(tmp_path)

    def copy_half(_file, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", copy_half)
    with pytest.raises(OutputError, match="The disk is full"):
        import_model(path, run_code=True)
    assert list(models_folder().iterdir()) == []
    with pytest.raises(SettingsError, match="--run-code"):
        load_model(path)


def test_a_program_of_one_size_uses_tiles_of_that_size(tmp_path):
    network = Halved().eval()
    program = torch.export.export(network, (torch.rand(1, 3, 256, 256),))
    torch.export.save(program, tmp_path / "fixed.pt2")
    import_model(tmp_path / "fixed.pt2", run_code=True)
    assert describe_model("fixed").card.network.largest == 256
    image = _image((300, 100, 3))
    assert deblur(image, "fixed", axes="YXS", device="cpu").shape == image.shape
    with pytest.raises(SettingsError, match="tile_size=256"):
        deblur(_image((600, 600, 3)), "fixed", axes="YXS", tile_size=512, device="cpu")
