from threading import Event

import pytest

from src.storage.objects.client import Backoff
from src.storage.stopping import is_stopped, stoppable_threads


def try_for_an_hour(has_begun):
    backoff = Backoff(3600)
    has_begun.set()
    while True:
        backoff.wait(TimeoutError("no answer"))


def test_a_thread_that_tries_again_ends_with_the_block():
    has_begun = Event()
    with stoppable_threads(1) as submit:
        running, waiting = (submit(try_for_an_hour, has_begun) for _ in range(2))
        has_begun.wait()
    assert str(running.exception()) == "no answer"
    assert waiting.cancelled()


def test_an_inner_thread_ends_with_the_outer_block():
    has_begun = Event()

    def outer():
        with stoppable_threads(1) as submit:
            submit(try_for_an_hour, has_begun).result()

    with stoppable_threads(1) as submit:
        running = submit(outer)
        has_begun.wait()
    assert str(running.exception()) == "no answer"


def test_a_thread_is_not_stopped_during_the_block():
    with stoppable_threads(1) as submit:
        assert submit(is_stopped).result() is False
    assert not is_stopped()


def test_an_error_of_the_block_stops_the_threads():
    has_begun = Event()
    with pytest.raises(KeyboardInterrupt), stoppable_threads(1) as submit:
        running = submit(try_for_an_hour, has_begun)
        has_begun.wait()
        raise KeyboardInterrupt
    assert str(running.exception()) == "no answer"
