from __future__ import annotations

import dataclasses
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from napari_swintormer.errors import FileError
from napari_swintormer.events import Trained
from napari_swintormer.training.loop import losses
from napari_swintormer.training.loop.losses import Perceptual, l1, make_loss, psnr
from napari_swintormer.training.loop.train import iter_train

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def test_psnr_is_the_mean_of_the_images():
    sharp = torch.zeros(2, 3, 4, 4)
    image = sharp.clone()
    image[0] += 0.1
    image[1] += 0.01
    assert psnr(image, sharp) == pytest.approx((20 + 40) / 2, abs=1e-3)
    assert psnr(sharp, sharp) == pytest.approx(60)


def test_l1_is_the_mean_absolute_difference():
    assert l1(torch.tensor([[-1.0, 3.0]]), torch.zeros(1, 2)).item() == 2


def test_a_decibel_counts_the_same_in_easy_and_hard_patches():
    loss, sharp = make_loss("decibel"), torch.zeros(2, 3, 8, 8)
    errors = torch.tensor([0.3, 0.06])

    def of(errors):
        return loss(sharp + errors[:, None, None, None], sharp)

    torch.testing.assert_close(of(errors), torch.tensor(-17.4), atol=0.2, rtol=0)
    for halved in (torch.tensor([0.15, 0.06]), torch.tensor([0.3, 0.03])):
        assert float(of(errors) - of(halved)) == pytest.approx(3, abs=0.3)
    # what is nearly equal wins nothing more
    assert float(of(errors * 0) - of(errors * 1e-6)) == pytest.approx(0, abs=1e-3)


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory):
    """A file as torchvision gives it, with random numbers; places are those of its layers."""
    torch.manual_seed(0)
    state, place, channels = {}, 0, 3
    for level in ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4):
        for wider in level:
            state[f"features.{place}.weight"] = (
                torch.randn(wider, channels, 3, 3) / (5 * channels) ** 0.5
            )
            state[f"features.{place}.bias"] = torch.randn(wider) / 9
            place, channels = place + 2, wider
        place += 1
    file = tmp_path_factory.mktemp("vgg19") / "vgg19.pth"
    torch.save(state | {"classifier.0.bias": torch.zeros(4096)}, file)
    return file


def test_the_perceptual_loss_compares_the_five_layers_of_the_paper(vgg19):
    """An oracle of plain layers, as torchvision puts them together."""
    loss = Perceptual(vgg19)
    state = torch.load(vgg19, weights_only=True)
    layers = []
    for level in (2, 2, 4, 4, 4):
        for _ in range(level):
            weight, bias = (state[f"features.{len(layers)}.{kind}"] for kind in ("weight", "bias"))
            conv = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            conv.load_state_dict({"weight": weight, "bias": bias})
            layers += [conv, torch.nn.ReLU()]
        layers.append(torch.nn.MaxPool2d(2))
    restored, sharp = torch.rand(2, 1, 3, 32, 32)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, DEVIATION))
    features = []
    for image in (restored, sharp):
        x, seen = (image - mean) / deviation, []
        for layer in layers:
            x = layer(x).detach()
            seen.append(x)
        features.append([seen[place] for place in (0, 5, 10, 19, 34)])
    wanted = sum(float((a - b).abs().mean()) for a, b in zip(*features, strict=True)) / 5
    assert float(loss(restored, sharp)) == pytest.approx(wanted, rel=1e-4)

    restored.requires_grad_()
    both = make_loss("l1 + 0.5 * perceptual", vgg19)(restored, sharp)
    whole = float(l1(restored.detach(), sharp)) + 0.5 * wanted
    assert float(both.detach()) == pytest.approx(whole, rel=1e-4)
    both.backward()
    assert restored.grad.abs().min() > 0
    assert not [p for p in loss.parameters() if p.requires_grad]

    part = sharp.clone()
    part[:, :, :, 16:] = float("nan")
    restored = restored.detach()
    assert 0 < float(loss(restored, part)) < wanted
    assert float(loss(restored, torch.full_like(sharp, float("nan")))) == 0


def test_a_file_without_the_parameters_of_vgg19_is_refused(vgg19, tmp_path):
    def says(file, message):
        with pytest.raises(FileError, match=message):
            Perceptual(file)

    says(tmp_path / "none.pth", "There is no file")
    state = torch.load(vgg19, weights_only=True)
    del state["features.34.bias"]
    torch.save(state, tmp_path / "less.pth")
    says(tmp_path / "less.pth", "does not hold the parameters of VGG19")
    torch.save({"features.0.weight": print}, tmp_path / "code.pth")
    says(tmp_path / "code.pth", "damaged, or holds more than plain weights")
    (tmp_path / "torn.pth").write_bytes(vgg19.read_bytes()[:1000])
    says(tmp_path / "torn.pth", "damaged, or holds more")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_vgg19_is_fetched_once_and_its_hash_is_checked(vgg19, monkeypatch):
    handler = partial(Quiet, directory=vgg19.parent)
    monkeypatch.setenv("NO_PROXY", "*")
    name = "napari_swintormer.training.loop.losses.VGG19"
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}/vgg19.pth"
        monkeypatch.setattr(name, published := dataclasses.replace(losses.VGG19, url=address))
        with pytest.raises(FileError, match="does not match the known hash"):
            Perceptual()
        sha256 = hashlib.sha256(vgg19.read_bytes()).hexdigest()
        monkeypatch.setattr(name, dataclasses.replace(published, sha256=sha256))
        fetched = Perceptual()
        server.shutdown()
    again = Perceptual()  # nobody serves it any more
    one, other = torch.rand(2, 1, 3, 16, 16)
    assert fetched(one, other) == again(one, other)


def test_the_perceptual_loss_trains(settings, vgg19):
    seen = dataclasses.replace(settings, loss="perceptual", vgg19=vgg19, steps=2)
    reported = [e.loss for e in iter_train(seen) if isinstance(e, Trained)]
    assert 0 < reported[-1] < 100
