"""Runs with a known blur: told, estimated once, stored, shared, and refused in one sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from helpers.images import texture
from helpers.tiny import FINDING_NETWORK, tiny_card
from napari_swintormer import deblur, deblur_file
from napari_swintormer.engine.kept_tiles import KeptTiles
from napari_swintormer.errors import SettingsError
from napari_swintormer.events import ChunkFinished, Notice, PlanNotice
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.imaging.store.result import ResultStore
from napari_swintormer.models.blur_filter import KnownBlurRestorer
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.models.stepwise import run_to_end
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.estimation.blur_places import FieldOfBlur
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane
from napari_swintormer.runs import blur_finding, blur_job
from napari_swintormer.runs.blur_finding import measured_planes
from napari_swintormer.runs.blur_job import METHOD as BLUR_METHOD
from napari_swintormer.runs.blur_job import BlurJob
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.folder import FolderRun
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL, DeblurSettings, ImageKind
from napari_swintormer.tiling.grid import Region

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = get_args(ImageKind)
FAST = {"device": "cpu", "precision": "fp32"}
ALONE: dict[str, Any] = FAST | {"model": "filter"}
IMAGE = (1000 + 30000 * gaussian_filter(texture(90, 120), 1.2)).astype(np.uint16)


class Estimator:
    """Stands for the estimation: counts its calls, and finds a Gaussian or nothing."""

    def __init__(self, blur: Blur) -> None:
        self.blur, self.calls, self.windows = blur, 0, [0]
        self.unclear = self.varies = False

    def __call__(
        self, windows: list[np.ndarray], field: str, varies: bool | None = None
    ) -> FoundBlur:
        assert all(w.ndim == 2 and w.dtype == np.float32 for w in windows)
        assert (field, varies) in [("micrograph", None), ("photo", True)]
        self.calls += 1
        self.windows.append(len(windows))
        said = f"It has {self.blur.sentence()}."
        return FoundBlur(self.blur, 0.7, said, self.unclear, self.varies)


@pytest.fixture
def finding(make_weights: Callable[..., Path]) -> str:
    """Weights of a network that is told the blur, or finds it."""
    return str(make_weights("finding", network=FINDING_NETWORK))


@pytest.fixture
def estimator(monkeypatch: pytest.MonkeyPatch) -> Estimator:
    found = Estimator(Blur.gaussian(1.2))
    monkeypatch.setattr(blur_finding, "estimate_blur", found)
    return found


def test_every_way_to_tell_a_blur_gives_the_same(tmp_path: Path) -> None:
    blur = Blur.kernel(Blur.gaussian(1.2).psf())
    tifffile.imwrite(tmp_path / "psf.tif", blur.psf())
    told: list[dict[str, Any]] = [
        {"blur": blur},
        {"blur": str(tmp_path / "psf.tif")},
        {"psf": str(tmp_path / "psf.tif")},
    ]
    results = [deblur(IMAGE, **ALONE, **each) for each in told]
    for result in results:
        np.testing.assert_allclose(result, results[0], atol=5)
    assert np.abs(results[0].astype(int) - IMAGE).max() > 100
    np.testing.assert_array_equal(deblur(IMAGE, **ALONE, blur="none"), IMAGE)


def test_a_blur_is_estimated_once_and_said(estimator: Estimator) -> None:
    stack = np.stack([IMAGE] * 30)
    job = prepare(stack, DeblurSettings(axes="TYX", blur="auto", **ALONE))
    out = np.empty_like(stack)
    said = [e for e in job.run(out) if isinstance(e, Notice)]
    assert estimator.calls == 12  # of 30 planes
    assert said == [PlanNotice("It has Gaussian blur with a sigma of 1.2 pixels.")]
    np.testing.assert_array_equal(out[3], out[7])
    assert np.abs(out[3].astype(float) - IMAGE).mean() > 100
    part = prepare(stack, DeblurSettings(axes="TYX", planes="T=7:8", blur="auto", **ALONE))
    one = np.empty_like(stack[:1])
    for _ in part.run(one):
        pass
    np.testing.assert_array_equal(one[0], out[7])
    job = prepare(stack, DeblurSettings(axes="TYX", blur="auto-shared", **ALONE))
    estimator.calls, estimator.windows = 0, []
    assert len({id(found) for found in job.found_blurs.values()}) == 1  # type: ignore[attr-defined]
    assert (estimator.calls, estimator.windows) == (1, [9])


def test_a_told_size_that_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, str]] = []

    def doubt(windows: list[np.ndarray], told: Blur, field: str) -> str:
        asked.append((windows[0].ndim, field))
        return "Another size fits."

    monkeypatch.setattr(blur_finding, "doubt", doubt)
    for told, said in ((Blur.disk(3), [Notice("Another size fits.")]), (Blur.motion(9, 0), [])):
        job = prepare(np.stack([IMAGE] * 3), DeblurSettings(axes="TYX", blur=told, **FAST))
        assert [e for e in job.run(np.empty((3, *IMAGE.shape))) if isinstance(e, Notice)] == said
    assert asked == [(2, "micrograph")]


def test_planes_that_are_measured_depend_on_the_shape_alone() -> None:
    planes = Planes(np.zeros((2, 40, 8, 8), np.uint8), "CZYX", 1)
    measured = measured_planes(planes)
    assert sorted(measured) == list(range(80))
    assert len(set(measured.values())) == 24
    assert all(
        abs(number - of) <= 2 and number // 40 == of // 40 for number, of in measured.items()
    )


def test_what_is_not_recognised_stays_or_goes_through_the_named_model(
    estimator: Estimator, tiny_weights: Path
) -> None:
    estimator.blur = Blur.none()
    job = prepare(IMAGE, DeblurSettings(blur="auto", **ALONE))
    out = np.empty_like(IMAGE)
    said = [e for e in job.run(out) if isinstance(e, Notice)]
    assert said == [Notice("It has no blur. The image stays as it is.")]
    np.testing.assert_array_equal(out, IMAGE)
    named = deblur(IMAGE, str(tiny_weights), blur="auto", **FAST)
    np.testing.assert_array_equal(named, deblur(IMAGE, str(tiny_weights), **FAST))
    assert not np.array_equal(named, IMAGE)


def test_where_the_blur_is_unclear_the_network_finds_it(estimator: Estimator, finding: str) -> None:
    estimator.blur, estimator.unclear = Blur.none(), True
    job = prepare(IMAGE, DeblurSettings(model=finding, **FAST))
    out = np.empty_like(IMAGE)
    said = [e for e in job.run(out) if isinstance(e, Notice)]
    assert said == [Notice("It has no blur. The model finding restores it place by place.")]
    np.testing.assert_array_equal(out, deblur(IMAGE, finding, blur="unknown", **FAST))
    assert not np.array_equal(out, IMAGE)
    estimator.unclear = False
    np.testing.assert_array_equal(deblur(IMAGE, finding, **FAST), IMAGE)


def test_at_a_smaller_scale_the_network_finds_the_blur(finding: str) -> None:
    job = prepare(IMAGE, DeblurSettings(model=finding, scale=2, **FAST))
    assert not isinstance(job, BlurJob)
    assert not np.array_equal(deblur(IMAGE, finding, scale=2, **FAST), IMAGE)


def test_a_preview_equals_the_run_and_another_blur_measures_nothing_again() -> None:
    job = prepare(IMAGE, DeblurSettings(blur="2px", **ALONE))
    region = Region(10, 50, 30, 100)
    shown = run_to_end(job.preview({}, region)).at_strength(1)  # type: ignore[arg-type]
    np.testing.assert_array_equal(shown, deblur(IMAGE, blur="2px", **ALONE)[region.slices])
    other = job.with_blur(Blur.motion(5, 0))  # type: ignore[attr-defined]
    assert other.measured_powers is job.measured_powers  # type: ignore[attr-defined]
    shown = run_to_end(other.preview({}, region)).at_strength(1)
    np.testing.assert_array_equal(shown, deblur(IMAGE, blur="motion:5@0", **ALONE)[region.slices])


def test_a_resumed_run_takes_the_blur_of_its_first_part(
    tmp_path: Path, estimator: Estimator
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.tile(IMAGE, (14, 10)))  # two chunks
    settings = DeblurSettings(blur="auto", **ALONE)
    run = FileRun(tmp_path / "a.tif", tmp_path / "b.ome.zarr", settings)
    for event in (events := run.events()):
        if isinstance(event, ChunkFinished):
            events.close()
            break
    stored = ResultStore.run_of(run.dst)["blur"]
    assert stored["told"] == "auto"
    assert Blur.from_json(stored["found"]["0"]["blur"]) == Blur.gaussian(1.2)
    assert estimator.calls == 1
    estimator.blur = Blur.disk(5)
    deblur_file(run.src, run.dst, blur="auto", resume=True, **ALONE)
    assert estimator.calls == 1
    estimator.blur = Blur.gaussian(1.2)
    whole = tmp_path / "again" / run.dst.name
    whole.parent.mkdir()
    deblur_file(run.src, whole, blur="auto", **ALONE)
    for path in whole.rglob("*"):
        if path.is_file():
            other = run.dst / path.relative_to(whole)
            assert other.read_bytes() == path.read_bytes()


def test_the_images_of_a_folder_may_share_a_blur(tmp_path: Path, estimator: Estimator) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for n in range(3):
        tifffile.imwrite(source / f"{n}.tif", IMAGE + 10 * n)
    run = FolderRun(source, tmp_path / "out", DeblurSettings(blur="auto-shared", **ALONE))
    said = [e.message for e in run.events() if isinstance(e, Notice)]
    assert (estimator.calls, estimator.windows[1:]) == (1, [3])
    assert "All images share one blur. It has Gaussian blur with a sigma of 1.2 pixels." in said
    made = tifffile.imread(tmp_path / "out" / "1.tif")
    np.testing.assert_array_equal(made, deblur(IMAGE + 10, blur="gaussian:1.2", **ALONE))


def test_without_a_blur_the_provenance_is_that_of_before(tiny_weights: Path) -> None:
    job = prepare(IMAGE, DeblurSettings(model=str(tiny_weights), **FAST))
    provenance = job.provenance()
    assert "blur" not in provenance
    assert "blur" not in provenance["settings"]
    known = prepare(IMAGE, DeblurSettings(blur=Blur.disk(2), **ALONE)).provenance()
    assert json.loads(json.dumps(known)) == known
    assert known["model"] == "filter for a known blur"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blur": -1}, "got radius=-1"),
        ({"blur": 2, "kind": "drawing"}, "photo or microscopy (got kind='drawing')"),
        ({"blur": "fog"}, "This is no blur (got 'fog')"),
        ({"blur": "motion:1@0"}, "longer than one pixel"),
        ({"blur": "2px", "psf": "a.tif"}, "A blur is told once"),
        ({"blur": "2px", "scale": 2}, "at full size, however wide it is (got scale=2)"),
        ({"blur": "2px", "model": "ALONE"}, "'tiny' finds the blur by itself"),
        (
            {"blur": "2px", "model": "filter", "samples": 2},
            "Without a prior all samples are the same",
        ),
        (
            {"blur": "unknown", "model": "filter"},
            "'filter' needs a known blur (got blur='unknown')",
        ),
    ],
)
def test_a_mistake_gets_one_sentence(
    options: dict[str, Any], said: str, tiny_weights: Path
) -> None:
    if options.get("model") == "ALONE":
        options = options | {"model": str(tiny_weights)}
    with pytest.raises(SettingsError) as caught:
        deblur(IMAGE, **FAST | options)
    assert said in str(caught.value)


def test_a_volume_takes_no_blur() -> None:
    with pytest.raises(SettingsError, match="got blur='2px'"):
        deblur(np.stack([IMAGE] * 3), axes="ZYX", depth="volume", blur="2px", **FAST)


def test_a_second_view_has_no_known_blur() -> None:
    with pytest.raises(SettingsError, match="in one view of a scene"):
        deblur(IMAGE, second_view=IMAGE, blur="2px", **FAST)
    with pytest.raises(SettingsError, match="restores a single image"):
        deblur(IMAGE, second_view=IMAGE, **FAST)


def test_a_measured_blur_leaves_a_volume_to_its_optics() -> None:
    stack = np.stack([IMAGE[:40, :40]] * 4)
    known: dict[str, Any] = {"na": 1.2, "immersion": "water", "wavelength": 520.0}
    known |= {"pixel_size": 0.1, "z_step": 0.3, "axes": "ZYX"}
    job = prepare(stack, DeblurSettings(blur="auto", **known))
    assert job.model_name == prepare(stack, DeblurSettings(**known)).model_name
    for blur in ("3px", "unknown"):
        planes = prepare(stack, DeblurSettings(blur=blur, **known))
        assert planes.model_name != job.model_name


@pytest.mark.parametrize(
    ("options", "model", "wish"),
    [
        ({}, "shipped", "auto"),
        ({"model": "auto"}, "shipped", "auto"),
        ({"blur": "2px"}, "shipped", Blur.disk(2)),
        ({"blur": "auto-shared"}, "shipped", "auto-shared"),
        ({"model": "finds"}, "finds", "auto"),
        ({"model": "finds", "blur": "unknown"}, "finds", "unknown"),
        ({"model": "paired"}, "paired", "unknown"),
        ({"model": "paired", "blur": "auto"}, "paired", "auto"),
        ({"model": "filter"}, BLUR_METHOD, "auto"),
        ({"model": "filter", "blur": "2px"}, BLUR_METHOD, Blur.disk(2)),
        ({"model": "alone"}, "alone", None),
        ({"model": "alone", "blur": "unknown"}, "alone", None),
        ({"model": "alone", "blur": "auto"}, "alone", "auto"),
    ],
)
def test_model_and_blur_decide_how_an_image_is_restored(
    options: dict[str, Any], model: str, wish: object, home: Path, make_weights: Callable[..., Path]
) -> None:
    """Where neither is named, the blur is measured; a model that finds it is left alone."""
    (home / "models").mkdir(parents=True)
    cards = {"alone": {}, "finds": {"network": FINDING_NETWORK}}
    cards["paired"] = cards["finds"] | {"blur": "unknown"}
    for name, changes in cards.items():
        shutil.copy(make_weights(name, **changes), home / "models")
    job = prepare(IMAGE, DeblurSettings(**options, **FAST))
    assert job.model_name == (DEFAULT_MODEL if model == "shipped" else model)
    assert getattr(job, "wish", None) == wish
    if wish == "unknown":
        assert "blur unknown" in job.describe()
        assert not np.array_equal(deblur(IMAGE, **options, **FAST), IMAGE)


def test_a_dask_array_gets_the_same_pixels() -> None:
    lazy = deblur(da.from_array(IMAGE, 50), blur="2px", **ALONE)
    result = lazy.compute(scheduler="synchronous")
    np.testing.assert_array_equal(result, deblur(IMAGE, blur="2px", **ALONE))


def test_a_network_for_a_known_blur_continues_and_needs_one(
    make_weights: Callable[..., Path],
) -> None:
    card = tiny_card(3)
    network = card.network.model_copy(update={"known_blur": True})
    weights = str(make_weights("continues", network=network))
    told = deblur(IMAGE, weights, blur="gaussian:1.2", **FAST)
    assert not np.array_equal(told, deblur(IMAGE, blur="gaussian:1.2", **ALONE))
    tiles = deblur(IMAGE, weights, blur="gaussian:1.2", tile_size=64, overlap=16, **FAST)
    assert tiles.shape == told.shape
    job = prepare(IMAGE, DeblurSettings(model=weights, blur="gaussian:1.2", **FAST))
    assert job.provenance()["model"] == "continues"
    np.testing.assert_array_equal(deblur(IMAGE, weights, blur="none", **FAST), IMAGE)
    with pytest.raises(SettingsError, match="'continues' needs a known blur"):
        deblur(IMAGE, weights, blur="unknown", **FAST)
    first = job.ready_at({})  # the next preview does not load the model again
    second = prepare(IMAGE, replace(job.settings, blur="2px")).keeping(first)
    assert second.restorer is first.restorer is not None
    np.testing.assert_array_equal(
        run_to_end(second.preview({}, Region(0, 90, 0, 120))).at_strength(1),
        deblur(IMAGE, weights, blur="2px", **FAST),
    )


def test_a_run_takes_over_the_tiles_of_a_preview_with_the_same_blur(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restored: list[int] = []
    restore = KnownBlurRestorer.in_steps

    def counting(self: KnownBlurRestorer, tiles: Any, origins: Any = None) -> Any:
        restored.append(len(tiles))
        return restore(self, tiles, origins)

    monkeypatch.setattr(KnownBlurRestorer, "in_steps", counting)
    kept = KeptTiles()
    told = {"axes": "YX", "tile_size": 64, "overlap": 16, **ALONE}
    job = prepare(IMAGE, DeblurSettings(blur="2px", **told))
    run_to_end(job.preview({}, Region(0, 50, 0, 50), kept))
    n_previewed = len(restored)
    for blur, other, taken in (("2px", job, n_previewed), ("2.5px", None, 0)):
        planned = prepare(IMAGE, DeblurSettings(blur=blur, **told)).keeping(other)
        results = []
        for tiles in (None, kept):
            restored.clear()
            results.append(np.empty_like(IMAGE))
            run_to_end(planned.run(results[-1], kept=tiles))
        np.testing.assert_array_equal(*results)
        assert planned.plan.n_tiles - sum(restored) == taken
    assert n_previewed > 0


@pytest.mark.parametrize("blur", ["2px", "auto"])
def test_what_the_image_is_decides_how_a_known_blur_is_undone(
    blur: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def estimator(windows: list[np.ndarray], field: str, varies: bool | None) -> FoundBlur:
        seen.append(field)
        return FoundBlur(Blur.disk(2), 0.7, "It has a blur.")

    monkeypatch.setattr(blur_finding, "estimate_blur", estimator)
    image = np.stack([IMAGE // 256] * 3, -1).astype(np.uint8)
    made = {kind: deblur(image, blur=blur, kind=kind, **ALONE) for kind in KINDS}
    for looks in (True, False):  # an 8-bit colour image that nobody names is looked at
        monkeypatch.setattr(blur_job, "looks_like_photo", lambda windows, looks=looks: looks)
        unnamed = deblur(image, blur=blur, **ALONE)
        assert np.array_equal(unnamed, made["photo"]) == looks
    assert not np.array_equal(made["photo"], made["microscopy"])
    assert seen == ["photo", "micrograph", "photo", "micrograph"] * (blur == "auto")
    grey = [deblur(IMAGE, blur=blur, kind=kind, **ALONE) for kind in (None, "microscopy", "photo")]
    np.testing.assert_array_equal(*grey[:2])
    assert not np.array_equal(*grey[1:])


def test_a_blur_that_changes_gets_its_field_once(
    estimator: Estimator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[int, ...]] = []

    def field(bands: Any, shape: tuple[int, int], windows: Any, kind: str) -> FieldOfBlur:
        asked.append(np.stack(list(bands)).shape)
        assert all(window.ndim == 2 for window in windows)
        shares = np.zeros((2, 2, 3))
        shares[0, :, 0], shares[1, :, 1:] = 1, 1
        blurs = Blur.none(), Blur.gaussian(1.2)
        places = (31.5, 31.5), (26.0, 28.0)
        return FieldOfBlur(BlurField.of(blurs, *places, shares, 2 * shares[1]), plain=False)

    estimator.blur, estimator.unclear, estimator.varies = Blur.none(), True, True
    monkeypatch.setattr(blur_finding, "field_of_blur", field)
    options = {"blur": "auto", "axes": "YX", "kind": "photo", **ALONE}
    job = prepare(IMAGE, DeblurSettings(**options))
    out = np.empty_like(IMAGE)
    said = [e for e in job.run(out) if isinstance(e, Notice)]
    assert asked == [(2, 64, 120)]  # whole rows of the places
    assert said[0].message.startswith(
        "The blur changes from place to place, from sharp to about 2 p"
    )
    np.testing.assert_array_equal(out[:, :31], IMAGE[:, :31])
    assert np.abs(out.astype(float) - IMAGE)[:, 60:].mean() > 100
    lazy = deblur(da.from_array(IMAGE, 50), **options)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), out)
    region = run_to_end(job.preview({}, Region(10, 60, 20, 90))).at_strength(1)
    np.testing.assert_array_equal(region, out[10:60, 20:90])
    stored = json.loads(json.dumps(job.provenance()["blur"]))
    asked.clear()
    again = np.empty_like(IMAGE)
    run_to_end(job.with_found(stored).run(again))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(again, out)
    assert not asked


def test_a_model_for_each_place_works_as_far_as_a_place_is_blurred() -> None:
    shares = np.stack([np.ones((1, 2)), np.zeros((1, 2))])
    shares[:, 0, 1] = 0.25, 0.75
    blurs = Blur.none(), Blur.gaussian(1.2)
    found = FoundBlur.of_field(BlurField.of(blurs, (0.0, 20.0), (1.0, 1.0), shares, shares[0]))
    power = PowerOfPlane.measured([texture(32, 48)[None]], photo=False)
    brighter = IdentityRestorer(1)
    brighter.forward = lambda tiles: tiles + 1  # type: ignore[method-assign]
    plane = PlaneBlur(found, power, None, (power,))
    restorer = KnownBlurRestorer({0: plane}, (32, 48), 1, otherwise=brighter)
    made = restorer(torch.zeros(1, 1, 32 + 2 * REACH, 48 + 2 * REACH))[0, 0]
    np.testing.assert_allclose(made[:, :20], 0, atol=1e-6)
    np.testing.assert_allclose(made[:, 22:], 0.75, atol=0.01)
