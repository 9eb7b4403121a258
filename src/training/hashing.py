"""Counting and hashing of a data.jsonl, and a memo of the result.

A memo is used only while the identity of the file is unchanged; see `Stat.identity`.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from src.progress import Progress, Snapshot
from src.storage import Stat, StorePath
from src.storage.memo import read_facts, write_facts

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = ["HashDataset", "count_and_hash", "count_and_hash_once"]

BLOCK_BYTES = 1 << 22
PIECE_BYTES = 1 << 18  # counting holds the interpreter lock, and the hashing thread waits for it
BUFFERS = 4

logger = logging.getLogger(__name__)

HashDataset = Callable[[StorePath], tuple[int, str]]
"""Receives the path of a data.jsonl; returns its number of lines and the SHA-256 of its bytes."""


def count_and_hash(
    path: StorePath, *, progress: Callable[[int], None] | None = None
) -> tuple[int, str]:
    """Read a data.jsonl in full, in constant memory; log the progress every few seconds.

    Args:
        path: The file.
        progress: Called after each read with its size in bytes, in place of the log.

    Returns:
        The number of lines, where the last line needs no line end; and the SHA-256 of the bytes.

    Raises:
        FileNotFoundError: There is no such file.
        FileChangedError: The file was written to meanwhile.
        OSError: The file cannot be read; names the file.
    """
    _, num_lines, digest = _read_through(path, progress)
    return num_lines, digest


def count_and_hash_once(path: StorePath) -> tuple[int, str]:
    """Return `count_and_hash(path)`, from a memo if the file is unchanged since it was hashed."""
    memo = path.memo()
    file = path.stat()
    known = read_facts(memo, file and file.identity)
    if len(known) == 2:
        return int(known[0]), known[1]
    file, num_lines, digest = _read_through(path, None)
    if file.identity is not None:
        write_facts(memo, file.identity, num_lines, digest)
    return num_lines, digest


def _read_through(path: StorePath, progress: Callable[[int], None] | None) -> tuple[Stat, int, str]:
    digest = hashlib.sha256()
    num_lines, last = 0, ord("\n")
    with ExitStack() as stack:
        file = stack.enter_context(path.open())
        size = file.stat.size
        if progress is None:
            progress = Progress(size, lambda snapshot: _log_progress(path, snapshot)).advance
        swap = stack.enter_context(_hasher(digest, in_thread=size > BLOCK_BYTES))
        buffer, filled = bytearray(min(BLOCK_BYTES, size + 1)), 0
        while read := file.readinto(memoryview(buffer)[filled : filled + PIECE_BYTES]):
            num_lines += buffer.count(b"\n", filled, filled + read)
            filled += read
            last = buffer[filled - 1]
            if filled == len(buffer):
                buffer, filled = swap(buffer, filled), 0
            progress(read)
        swap(buffer, filled)
    return file.stat, num_lines + (last != ord("\n")), digest.hexdigest()


@contextmanager
def _hasher(digest: "Hash", *, in_thread: bool) -> Iterator[Callable[[bytearray, int], bytearray]]:
    """Yield a function that hashes a partly filled buffer and returns a buffer to fill next.

    With `in_thread`, a thread hashes while the caller reads: hashlib releases the interpreter
    lock, and 1 GB takes 40 % less time. All buffers are hashed when the block ends.
    """

    def hash_buffer(buffer: bytearray, filled: int) -> bytearray:
        digest.update(memoryview(buffer)[:filled])
        return buffer

    if not in_thread:
        yield hash_buffer
        return
    from concurrent.futures import Future, ThreadPoolExecutor  # slow to import

    pending: deque[Future[bytearray]] = deque()

    def swap(buffer: bytearray, filled: int) -> bytearray:
        pending.append(pool.submit(hash_buffer, buffer, filled))
        return bytearray(len(buffer)) if len(pending) < BUFFERS else pending.popleft().result()

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield swap
        for each in pending:
            each.result()


def _log_progress(path: StorePath, snapshot: Snapshot) -> None:
    logger.info(
        "%s: %.0f %% read, %.0f MB/s, %.0f s left.",
        path,
        snapshot.percent,
        snapshot.rate / 1e6,
        snapshot.seconds_left,
    )
