"""Long work in a thread: what it reports, and how it ends."""

from __future__ import annotations

import threading
import time

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject

from helpers.widgets import PATIENCE
from napari_swintormer.errors import ImageError
from napari_swintormer.events import Notice, Progress
from napari_swintormer.plugin.shared.work import Work, in_one_step


@pytest.fixture
def work(qapp):
    """Make a Work that records what it says."""
    owner = QObject()
    work = Work(owner, on_cancel="Stopped.")
    work.owner, work.heard = owner, []
    work.said.connect(lambda text, error: work.heard.append((text, error)))
    return work


def result_of(work, qtbot, make_events, **reactions):
    with qtbot.waitSignal(work.ended, timeout=PATIENCE) as ended:
        work.begin(make_events, **reactions)
        assert work.running
    assert not work.running
    return ended.args[0]


def test_events_and_the_result_reach_the_gui_thread(work, qtbot):
    def events():
        yield Notice("Halfway.")
        yield "picture"
        return 20, threading.current_thread()

    threads, others = [], []

    def take(result):
        threads.extend((result[1], threading.current_thread()))
        return result[0] + 1

    assert result_of(work, qtbot, events, take=take, hear=others.append) == 21
    assert others == ["picture"]
    assert work.heard == [("", False), ("Halfway.", False)]
    assert threads[0] is not threads[1] is threading.main_thread()
    assert result_of(work, qtbot, in_one_step(lambda: "again")) == "again"


def test_progress_arrives_at_most_ten_times_a_second_and_in_the_end(work, qtbot):
    arrived = []
    work.progressed.connect(lambda event: arrived.append(event.done))
    started = time.monotonic()
    result_of(work, qtbot, lambda: (Progress(n, 5000, "tiles", 0.0) for n in range(1, 5001)))
    assert arrived[0] == 1
    assert arrived[-1] == 5000
    assert len(arrived) <= 2 + (time.monotonic() - started) / 0.1


def test_cancel_closes_the_generator_in_its_thread(work, qtbot):
    began, closed_in = threading.Event(), []

    def events():
        try:
            while True:
                began.set()
                yield Progress(1, 2, "tiles", 0.0)
        finally:
            closed_in.append(threading.current_thread())

    with qtbot.waitSignal(work.ended, timeout=PATIENCE) as ended:
        work.begin(events, take=lambda _: pytest.fail("there is no result"))
        assert began.wait(PATIENCE / 1000)
        work.cancel()
        assert work.stopping
    assert ended.args == [None]
    assert closed_in != [threading.main_thread()]
    assert len(closed_in) == 1
    assert work.heard[-1] == ("Stopped.", False)


@pytest.mark.parametrize("mistake", [ImageError("No such axis."), RuntimeError("broken")])
def test_an_error_becomes_a_sentence_and_an_unexpected_one_keeps_its_traceback(
    work, qtbot, monkeypatch, mistake
):
    received = []
    monkeypatch.setattr(notification_manager, "receive_error", lambda *a: received.append(a))

    def fail():
        raise mistake

    assert result_of(work, qtbot, in_one_step(fail)) is None
    expected = isinstance(mistake, ImageError)
    assert work.heard[-1] == (str(mistake) if expected else "RuntimeError: broken", True)
    assert [error for _, error, _ in received] == ([] if expected else [mistake])
