"""Locks of open files, between open files of one process and between processes."""

import fcntl
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from src.storage import locking
from src.storage.locking import lock, unlock


@pytest.fixture
def opened(tmp_path):
    """Open one file again and again; return the descriptors."""
    descriptors = []

    def opened():
        descriptors.append(os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT))
        return descriptors[-1]

    yield opened
    for descriptor in descriptors:
        os.close(descriptor)


def is_locked(descriptor):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def test_a_lock_of_another_open_file_is_seen_and_left_as_it_is(opened):
    one, two = opened(), opened()
    assert not locking.is_locked(two)
    assert lock(one, 0)
    assert locking.is_locked(two)
    assert is_locked(two)
    unlock(one)
    assert not locking.is_locked(two)
    assert lock(one, 0)


def test_a_free_lock_is_taken_and_released(opened):
    one, two = opened(), opened()
    assert lock(one, 0)
    assert is_locked(two)
    unlock(one)
    assert not is_locked(two)


def test_a_lock_that_is_held_for_too_long_is_not_taken_and_not_taken_later(opened):
    one, two, three = opened(), opened(), opened()
    assert lock(one, 0)
    assert not lock(two, 0.01)
    unlock(one)
    assert lock(three, 60)  # the one that gave up may hold it for a moment


def test_a_lock_that_is_released_in_time_is_taken(opened):
    one, two, three = opened(), opened(), opened()
    assert lock(one, 0)
    threading.Timer(0.05, unlock, [one]).start()
    assert lock(two, 60)
    assert is_locked(three)
    unlock(two)
    assert not is_locked(three)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not list who waits")
def test_those_who_wait_are_served_in_the_order_in_which_they_came(opened):
    first = opened()
    assert lock(first, 0)
    served, threads = [], []
    for number, each in enumerate([opened() for _ in range(8)]):

        def wait(number=number, descriptor=each):
            assert lock(descriptor, 60)
            served.append(number)
            unlock(descriptor)

        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        while waiting(first) == number:
            time.sleep(0.001)
    unlock(first)
    for thread in threads:
        thread.join()
    assert served == list(range(8))


def waiting(descriptor):
    """Return how many wait for the lock of an open file; see proc(5), /proc/locks."""
    inode = os.fstat(descriptor).st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return sum(" -> " in line and f":{inode} " in line for line in lines)


def test_an_error_of_the_lock_is_raised(tmp_path, monkeypatch):
    def fail(_, operation):
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with (tmp_path / "f").open("w") as file, pytest.raises(OSError, match="No locks available"):
        lock(file.fileno(), 60)
