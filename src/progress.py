"""Progress of a long operation: how much is done, at which rate, and the time left."""

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["REPORT_SECONDS", "Progress", "Snapshot", "ignore_progress"]

REPORT_SECONDS = 3.0


def ignore_progress(_: int) -> None:
    """Report nothing."""


class Snapshot(NamedTuple):
    """State of a long operation at one moment.

    Attributes:
        done: Number of units that are done, e.g. bytes or configs.
        total: Number of units in all.
        seconds: Time since the start.
        done_before: Number of units that were done at the start.
    """

    done: int
    total: int
    seconds: float
    done_before: int = 0

    @property
    def rate(self) -> float:
        """Units per second."""
        return (self.done - self.done_before) / self.seconds if self.seconds else 0.0

    @property
    def rate_text(self) -> str:
        """The rate in two digits, or as a whole number from 10, e.g. `0.25/s` and `1,234/s`."""
        return f"{self.rate:,.0f}/s" if self.rate >= 10 else f"{self.rate:.2g}/s"

    @property
    def percent(self) -> float:
        """Share that is done, from 0 to 100."""
        return 100 * self.done / self.total if self.total else 100.0

    @property
    def seconds_left(self) -> float:
        """Time to the end at the present rate."""
        return (self.total - self.done) / self.rate if self.rate else 0.0


class Progress:
    """Counter that reports at most once per interval.

    Args:
        total: Number of units in all.
        report: Called with the present state.
        interval: Least number of seconds before the first report and between two reports.
        report_end: Whether the last unit is always reported.
        done_before: Number of units that are done already, as in an operation that continues.
    """

    def __init__(
        self,
        total: int,
        report: Callable[[Snapshot], None],
        *,
        interval: float = REPORT_SECONDS,
        report_end: bool = False,
        done_before: int = 0,
    ) -> None:
        self._total, self._report, self._interval = total, report, interval
        self._report_end = report_end
        self._done = self._done_before = done_before
        self._started = self._reported = time.monotonic()

    def advance(self, units: int) -> None:
        """Count `units` more as done, and report if a report is due."""
        self._done += units
        now = time.monotonic()
        is_end = self._report_end and self._done == self._total
        if now - self._reported >= self._interval or is_end:
            self._reported = now
            self._report(self._snapshot(now))

    def snapshot(self) -> Snapshot:
        """Return the present state."""
        return self._snapshot(time.monotonic())

    def _snapshot(self, now: float) -> Snapshot:
        return Snapshot(self._done, self._total, now - self._started, self._done_before)
