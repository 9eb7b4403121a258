"""Faults of a network and of an object store, and schedules that choose among them."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import Enum
from itertools import count
from typing import NamedTuple

__all__ = [
    "READ_FAULTS",
    "WRITE_FAULTS",
    "Choice",
    "Fault",
    "Request",
    "Schedule",
    "at_request",
    "every",
    "faults_of",
    "no_faults",
]


class Fault(Enum):
    """A fault that a proxy injects into one request; the value is its name in the output of tests.

    "Before": the server does not receive the request. "After": the server has handled it.
    """

    REFUSED = "reset before"
    UNANSWERED = "no answer, and no effect"
    CUT_REQUEST = "half of the request"
    LATE_REQUEST = "takes effect after the next request"
    LAST_REQUEST = "takes effect last"
    LOST_ANSWER = "closed after"
    RESET_ANSWER = "reset after"
    LATE_ANSWER = "no answer"
    HALF_ANSWER = "half of the answer"
    ERROR_BEFORE = "500 before"
    UNAVAILABLE_BEFORE = "503 before"
    SLOW_DOWN_BEFORE = "SlowDown before"
    CONDITION_BEFORE = "412 before"
    ERROR_AFTER = "500 after"
    UNAVAILABLE_AFTER = "503 after"
    SLOW_DOWN_AFTER = "SlowDown after"
    CONFLICT_AFTER = "409 after"
    CONDITION_AFTER = "412 after"

    @property
    def answer(self) -> tuple[int, str] | None:
        """The status and the code of the error that is sent as the answer; `None` if none is."""
        return _ANSWERS.get(self.value.partition(" ")[0])

    @property
    def is_before(self) -> bool:
        """Whether the server does not see the request."""
        return self in (Fault.REFUSED, Fault.UNANSWERED) or self.value.endswith(" before")

    @property
    def is_timeout(self) -> bool:
        """Whether the client waits for an answer until its own time limit."""
        return self in (Fault.UNANSWERED, Fault.LATE_ANSWER)


_ANSWERS = {
    "409": (409, "ConditionalRequestConflict"),
    "412": (412, "PreconditionFailed"),
    "500": (500, "InternalError"),
    "503": (503, "ServiceUnavailable"),
    "SlowDown": (503, "SlowDown"),
}

# Of a request that only reads, a client sees no difference between "before" and "after".
READ_FAULTS = (
    Fault.REFUSED,
    Fault.UNANSWERED,
    Fault.LOST_ANSWER,
    Fault.RESET_ANSWER,
    Fault.LATE_ANSWER,
    Fault.HALF_ANSWER,
    Fault.ERROR_BEFORE,
    Fault.UNAVAILABLE_BEFORE,
    Fault.SLOW_DOWN_BEFORE,
)
CONDITION_FAULTS = (Fault.CONFLICT_AFTER, Fault.CONDITION_AFTER)
# A server that refuses a write whose condition holds is faulty: the probe must find that.
WRITE_FAULTS = tuple(each for each in Fault if each is not Fault.CONDITION_BEFORE)
UNCONDITIONAL_FAULTS = tuple(each for each in WRITE_FAULTS if each not in CONDITION_FAULTS)


class Request(NamedTuple):
    """A request that arrived at a proxy.

    Attributes:
        number: 1 for the first request since the proxy was started or its log cleared.
        method: `GET`, `PUT`, ...
        path: The path with the query: `/bucket/key?list-type=2`.
        condition: The value of `If-Match` or `If-None-Match`; empty if there is none.
    """

    number: int
    method: str
    path: str
    condition: str

    @property
    def is_write(self) -> bool:
        """Whether the request changes something."""
        return self.method in ("PUT", "POST", "DELETE")


Choice = Fault | None
Schedule = Callable[[Request], "Choice | Future[Choice]"]
"""Returns the fault of a request; a future holds the request until the future has a result."""


def no_faults(request: Request) -> Choice:
    """Return no fault for any request."""
    return None


def at_request(number: int, fault: Fault, *, times: int = 1) -> Schedule:
    """Return a schedule with a fault at a request, and at those that follow it.

    Args:
        number: The first request with the fault.
        fault: The fault; a request to which it cannot happen has none.
        times: The number of such requests.
    """

    def choose(request: Request) -> Choice:
        is_chosen = number <= request.number < number + times
        return fault if is_chosen and fault in faults_of(request) else None

    return choose


def every(requests: int, faults: Sequence[Fault], seed: int = 0) -> Schedule:
    """Return a schedule with one random fault in every `requests` requests, at a random one."""
    draw, numbers = random.Random(seed), count()
    chosen = 0

    def choose(request: Request) -> Choice:
        nonlocal chosen
        place = next(numbers) % requests
        if place == 0:
            chosen = draw.randrange(requests)
        possible = [fault for fault in faults if fault in faults_of(request)]
        return draw.choice(possible) if place == chosen and possible else None

    return choose


def faults_of(request: Request) -> tuple[Fault, ...]:
    """Return the faults that can happen to a request."""
    if not request.is_write:
        return READ_FAULTS
    return WRITE_FAULTS if request.condition else UNCONDITIONAL_FAULTS
