import time

import pytest

from src.progress import REPORT_SECONDS, Progress, Snapshot

# --- Snapshots -----------------------------------------------------------------------------------


def test_a_snapshot_has_a_rate_a_share_and_the_time_left():
    snapshot = Snapshot(done=30, total=120, seconds=10.0)
    assert snapshot.rate == 3.0
    assert snapshot.percent == 25.0
    assert snapshot.seconds_left == 30.0


def test_a_finished_operation_has_no_time_left():
    snapshot = Snapshot(done=120, total=120, seconds=10.0)
    assert (snapshot.percent, snapshot.seconds_left) == (100.0, 0.0)


@pytest.mark.parametrize(
    ("snapshot", "rate", "percent"),
    [
        (Snapshot(done=0, total=120, seconds=10.0), 0.0, 0.0),
        (Snapshot(done=30, total=120, seconds=0.0), 0.0, 25.0),
        (Snapshot(done=0, total=0, seconds=0.0), 0.0, 100.0),
    ],
    ids=["nothing done", "no time passed", "nothing to do"],
)
def test_without_a_rate_the_time_left_is_zero(snapshot, rate, percent):
    assert (snapshot.rate, snapshot.percent, snapshot.seconds_left) == (rate, percent, 0.0)


def test_the_rate_of_an_operation_that_continues_is_that_of_what_it_has_done_itself():
    snapshot = Snapshot(done=90, total=120, seconds=10.0, done_before=60)
    assert (snapshot.rate, snapshot.percent, snapshot.seconds_left) == (3.0, 75.0, 10.0)


@pytest.mark.parametrize(
    ("done", "text"), [(0, "0/s"), (25, "0.25/s"), (996, "10/s"), (123_400, "1,234/s")]
)
def test_a_rate_has_two_digits_or_is_a_whole_number(done, text):
    assert Snapshot(done=done, total=200_000, seconds=100.0).rate_text == text


# --- Reports -------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 1000.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def reports_of(clock, steps, **arguments):
    """Return the reports of an operation of steps, each a time since the start and a number."""
    reports = []
    progress = Progress(100, reports.append, **arguments)
    started = clock.now
    for seconds, units in steps:
        clock.now = started + seconds
        progress.advance(units)
    return reports


def test_the_interval_is_three_seconds_by_default(clock):
    assert REPORT_SECONDS == 3.0
    assert reports_of(clock, [(2.75, 10), (3.0, 20)]) == [Snapshot(30, 100, 3.0)]


def test_progress_is_reported_at_most_once_per_interval(clock):
    steps = [(0.25 * n, 1) for n in range(1, 41)]  # ten seconds
    assert reports_of(clock, steps, interval=2.0) == [
        Snapshot(8, 100, 2.0),
        Snapshot(16, 100, 4.0),
        Snapshot(24, 100, 6.0),
        Snapshot(32, 100, 8.0),
        Snapshot(40, 100, 10.0),
    ]


def test_the_interval_starts_at_the_last_report(clock):
    steps = [(3.0, 1), (4.5, 1), (5.0, 1), (8.0, 1)]
    assert reports_of(clock, steps, interval=2.0) == [
        Snapshot(1, 100, 3.0),
        Snapshot(3, 100, 5.0),
        Snapshot(4, 100, 8.0),
    ]


def test_a_short_operation_is_not_reported(clock):
    assert reports_of(clock, [(0.25, 50), (0.5, 50)]) == []


def test_the_end_is_reported_on_request(clock):
    assert reports_of(clock, [(0.25, 50), (0.5, 50)], report_end=True) == [Snapshot(100, 100, 0.5)]


def test_an_end_that_is_due_anyway_is_reported_once(clock):
    assert reports_of(clock, [(1.0, 50), (4.0, 50)], report_end=True) == [Snapshot(100, 100, 4.0)]


def test_an_operation_that_stops_before_its_end_has_no_report_of_the_end(clock):
    assert reports_of(clock, [(0.25, 50), (0.5, 49)], report_end=True) == []


def test_an_operation_that_continues_reports_what_was_done_before(clock):
    assert reports_of(clock, [(3.0, 20)], done_before=60) == [Snapshot(80, 100, 3.0, 60)]


def test_no_interval_means_a_report_of_every_step(clock):
    assert reports_of(clock, [(0.0, 50), (0.0, 25)], interval=0.0) == [
        Snapshot(50, 100, 0.0),
        Snapshot(75, 100, 0.0),
    ]
