"""Exclusive locks of open files, `flock(2)`, with a bound on the time spent waiting."""

import fcntl
import os
from threading import Thread

__all__ = ["is_locked", "lock", "try_lock", "unlock"]


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder if it is free; return whether it was."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(descriptor: int, seconds: float | None) -> bool:
    """Lock an open file; return whether it was free within `seconds`, which may be `None`.

    After `False`, close the descriptor: a second call would be disturbed by the first one's thread.

    Those who wait are in a queue of the kernel: about in the order in which they came, if each
    holder pauses before it locks again. A thread waits, because it can be abandoned.
    """
    return try_lock(descriptor) or _wait(descriptor, seconds)


def unlock(descriptor: int) -> None:
    """Release the lock of an open file, also if a process was forked meanwhile."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_locked(descriptor: int) -> bool:
    """Return whether a lock of the same file is held by another open file, also of this process.

    An open file that holds a lock itself loses it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _wait(descriptor: int, seconds: float | None) -> bool:
    from concurrent.futures import Future  # slow to import

    waiting: Future[None] = Future()
    copy = os.dup(descriptor)  # has the same lock, and stays open if this function stops waiting

    def lock_copy() -> None:
        try:
            fcntl.flock(copy, fcntl.LOCK_EX)
            if waiting.set_running_or_notify_cancel():
                waiting.set_result(None)
            else:
                fcntl.flock(copy, fcntl.LOCK_UN)
        except OSError as error:
            waiting.set_exception(error)
        finally:
            os.close(copy)

    Thread(target=lock_copy, daemon=True).start()
    try:
        waiting.result(timeout=seconds)
    except TimeoutError:
        return not waiting.cancel()  # locked meanwhile
    except BaseException:
        waiting.cancel()
        raise
    return True
