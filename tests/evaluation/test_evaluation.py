"""An evaluation can be stopped and resumed."""

import numpy as np

from helpers.images import dots
from napari_swintormer.evaluation.data.pair_images import most_detailed
from napari_swintormer.evaluation.evaluation import Evaluation, find_data_set
from napari_swintormer.evaluation.methods.methods import parse_method
from napari_swintormer.settings.deblur_settings import DeblurSettings


def test_a_resumed_evaluation_adds_the_missing_rows(pairs, evaluate, tmp_path, monkeypatch):
    whole = evaluate(tmp_path / "whole", "unsharp-mask")
    chosen = (parse_method("unsharp-mask", DeblurSettings()),)
    stopped = Evaluation((find_data_set(f"folders={pairs}"),), chosen, tmp_path / "out", ())
    events = stopped.events()
    for _ in range(3):
        next(events)
    events.close()
    journal = tmp_path / "out/.evaluation/rows.jsonl"
    with journal.open("a") as file:
        file.write('{"protocol": "fol')  # killed in the middle of a line
    made = []
    unsharp = parse_method("unsharp-mask", DeblurSettings())
    monkeypatch.setattr(
        type(unsharp), "restore", _counting(type(unsharp).restore, made), raising=True
    )
    resumed = evaluate(tmp_path / "out", "unsharp-mask", resume=True)
    assert len(made) == 2
    assert [(r.image, r.method, r.scores) for r in resumed] == [
        (r.image, r.method, r.scores) for r in whole
    ]
    made.clear()  # a changed image and a new method: only their rows are computed
    np.save(pairs / "blurred" / "two.npy", (dots(2) / 2).astype(np.uint16))
    evaluate(tmp_path / "out", "unsharp-mask", "unsharp-mask:sigma=2", resume=True)
    assert len(made) == 4


def _counting(restore, made):
    def counted(self, pair):
        if self.name != "blurred":
            made.append(self.name)
        return restore(self, pair)

    return counted


def test_the_most_detailed_region_is_found():
    sharp = np.zeros((300, 400))
    sharp[210:220, 300:310] = np.random.default_rng(0).random((10, 10))
    y, x = most_detailed(sharp)
    assert 0 <= y.start <= 210 < 220 <= y.stop <= 300
    assert 0 <= x.start <= 300 < 310 <= x.stop <= 400
    assert (y.stop - y.start, x.stop - x.start) == (128, 128)
