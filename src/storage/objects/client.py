"""Requests to an object store, by obstore.

A conditional write (`put`) is one request, which is never repeated here: only a read of the object
decides whether it took effect. All other requests have the same effect if they are repeated. They
are repeated until they succeed, an error is final, or a time limit is reached. The errors of
obstore are not `OSError`s and can contain signed addresses; in their place, this module raises
`OSError`s without credentials.
"""

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, PreconditionError

from src.errors import too_large, truncated_repr
from src.storage.objects.address import is_valid_key, parse_address
from src.storage.objects.errors import RefusedError, UnknownOutcomeError, code_of, translated
from src.storage.objects.opening import open_store, server_address
from src.storage.stopping import is_stopped
from src.storage.store import FileChangedError, Key

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["PART_BYTES", "Backoff", "ObjectClient", "ObjectInfo", "StoredObject"]

T = TypeVar("T")

RETRY_SECONDS = 90.0  # of one operation, while its requests fail
FIRST_RETRY_SECONDS = 10.0  # the same before the first answer, as the address may be wrong
MAX_WAIT_SECONDS = 0.5
PART_BYTES = 1 << 23
MAX_PARTS = 9_000  # of an upload; S3 has 10,000
PARALLEL_PARTS = 4


class ObjectInfo(NamedTuple):
    """An object without its bytes.

    Attributes:
        key: Its key.
        size: Its size in bytes.
        tag: The ETag of its bytes.
        identity: ETag, version, size and time of the last write (in seconds), as text; `None`
            if the server sent no ETag.
    """

    key: Key
    size: int
    tag: str
    identity: str | None


class StoredObject(NamedTuple):
    """An object with its bytes, or the first of them."""

    info: ObjectInfo
    data: bytes


class Backoff:
    """The waits between the tries of one operation: exponential, with full jitter.

    Args:
        seconds: From now to the deadline.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._longest = 0.01

    def wait(self, error: OSError) -> None:
        """Wait before the next try, for at most 0.5 s.

        Raises `error` after the deadline, or in a thread whose result nothing waits for.
        """
        if time.monotonic() > self._deadline or is_stopped():
            raise error
        time.sleep(random.uniform(0, self._longest))  # noqa: S311
        self._longest = min(MAX_WAIT_SECONDS, 2 * self._longest)


class ObjectClient:
    """The objects below one address.

    Methods that send a request raise `RefusedError` if the server would refuse again, and another
    `OSError` if it failed until the time limit; see `src.storage.objects.errors`.

    Args:
        url: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.

    Attributes:
        url: The address.
        bucket: The address of the bucket.
        qualified_url: The address of the server and `url`: two servers can have a bucket of the
            same name.
        qualified_bucket: The address of the server and `bucket`.

    Raises:
        ValueError: The address is not valid.
    """

    def __init__(self, url: str) -> None:
        self._address = parse_address(url)
        self.url = self._address.url
        self._server = server_address(self._address.scheme)
        self.bucket = f"{self._address.scheme}://{self._address.bucket}"
        self.qualified_url = f"{self._server or ''}|{self.url}"
        self.qualified_bucket = f"{self._server or ''}|{self.bucket}"
        self._stores: tuple[ObjectStore, ObjectStore] | None = None
        self._has_answered = self._is_checked = False

    def backoff(self) -> Backoff:
        """Return the backoff of an operation that begins now."""
        return Backoff(RETRY_SECONDS if self._has_answered else FIRST_RETRY_SECONDS)

    # --- Reading ---------------------------------------------------------------------------------

    def get(self, key: Key, limit: int) -> StoredObject | None:
        """Return an object; `None` if there is none.

        Raises:
            CorruptFileError: It is larger than `limit` bytes.
        """

        def get() -> StoredObject:
            found = obstore.get(self._single, self._checked(key))
            info = _info(key, found.meta)
            if info.size > limit:
                raise too_large(self._message(key), limit)
            return StoredObject(info, bytes(found.bytes()))

        return self._found(get, key)

    def head(self, key: Key) -> ObjectInfo | None:
        """Return size and ETag of an object; `None` if there is none."""
        return self._found(lambda: _info(key, obstore.head(self._single, self._checked(key))), key)

    def get_first_part(self, key: Key) -> StoredObject | None:
        """Return an object with its first `PART_BYTES` bytes; `None` if there is none."""

        def get() -> StoredObject:
            options: Any = {"range": (0, PART_BYTES)}
            found = obstore.get(self._single, self._checked(key), options=options)
            return StoredObject(_info(key, found.meta), bytes(found.bytes()))

        try:
            return self._found(get, key)
        except RefusedError:  # S3 refuses every range of an empty object
            info = self.head(key)
            if info is not None and info.size == 0:
                return StoredObject(info, b"")
            raise

    def get_part(self, info: ObjectInfo, start: int) -> bytes:
        """Return up to `PART_BYTES` bytes of an object from `start` on.

        Raises:
            FileChangedError: The object was written or deleted meanwhile.
        """

        def get() -> bytes:
            options: Any = {"range": (start, start + PART_BYTES), "if_match": info.tag}
            return bytes(obstore.get(self._single, info.key, options=options).bytes())

        try:
            return self._repeated(get, info.key)
        except (FileNotFoundError, PreconditionError) as error:
            raise FileChangedError(
                f"{self._message(info.key)}: written to while it was being read. Wait until the "
                "writer has finished, then run again."
            ) from error

    def list(self, prefix: Key) -> Sequence[ObjectInfo]:
        """Return all objects below a prefix, in the order of their keys.

        Raises:
            RefusedError: The server lists an object that is not below the prefix.
        """

        def found() -> list[ObjectInfo]:
            pages = obstore.list(self._single, prefix=prefix or None)
            return sorted(_info(each["path"], each) for page in pages for each in page)

        objects = self._repeated(found, prefix)
        for each in objects:
            if prefix and not each.key.startswith(f"{prefix}/") and each.key != prefix:
                raise RefusedError(
                    f"{self._message(prefix)}: the server lists {truncated_repr(each.key)}, which "
                    "is not below it. Use another server."
                )
        # The consoles of some servers make an empty object for a folder.
        folders = {key[:end] for key, *_ in objects for end in _ends_of_folders(key)}
        folders.add(prefix)
        return [each for each in objects if each.size or each.key not in folders]

    def folders(self, prefix: Key) -> Sequence[str]:
        """Return the names of the folders directly below a prefix, sorted."""

        def found() -> list[str]:
            result = obstore.list_with_delimiter(self._single, prefix=prefix or None)
            return sorted(each.rpartition("/")[2] for each in result["common_prefixes"])

        return self._repeated(found, prefix)

    # --- Writing ---------------------------------------------------------------------------------

    def put(self, key: Key, data: bytes, tag: str | None) -> None:
        """Write an object on a condition, by one request.

        Args:
            key: The object.
            data: Its new bytes.
            tag: The ETag that the object must have; `None` if it must not exist.

        Raises:
            UnknownOutcomeError: The condition did not hold, the server answered with another error,
                or did not answer.
            RefusedError: See the class; nothing was written.
        """
        mode: Any = "create" if tag is None else {"e_tag": tag}
        try:
            obstore.put(self._single, self._checked(key), data, mode=mode, use_multipart=False)
        except (BaseError, FileNotFoundError) as error:
            reason = self._translated(error, key)
            if isinstance(reason, RefusedError):
                raise reason from error
            raise UnknownOutcomeError(
                f"{self._message(key)}: not known whether it was written. {reason} Run again: "
                "what was written is found.",
                is_precondition_failed=isinstance(
                    error, AlreadyExistsError if tag is None else PreconditionError
                ),
            ) from error
        self._has_answered = True

    def upload(self, key: Key, pieces: Callable[[], Iterable[bytes]], size: int) -> None:
        """Write an object of any size, without a condition, in parts.

        Args:
            key: The object. No process writes other bytes to it.
            pieces: Returns its bytes, from the start, each time it is called. If they raise, no
                object is written.
            size: Its size in bytes.

        Raises:
            RefusedError, OSError: See the class. The object is as it was before, but parts of an
                upload may remain on the server, unseen.
        """
        part = max(PART_BYTES, -(-size // MAX_PARTS))

        def put() -> None:
            try:
                obstore.put(
                    self._repeating,
                    self._checked(key),
                    iter(pieces()),
                    chunk_size=part,
                    max_concurrency=PARALLEL_PARTS,
                )
            except FileNotFoundError as error:
                # The answer to the last request was lost; obstore repeated it and found no upload.
                if code_of(error) != "NoSuchUpload":
                    raise self._translated(error, key) from error
                # Without the text of `error`: its status 404 would be classified as a refusal.
                raise GenericError("the upload was completed or aborted") from error

        self._repeated(put, key)

    def try_delete(self, key: Key) -> None:
        """Delete an object by one request; leave it if the server refuses, or does not answer."""
        with suppress(BaseError, FileNotFoundError):  # the latter: no such bucket
            obstore.delete(self._single, self._checked(key))

    # --- Errors ----------------------------------------------------------------------------------

    def _found(self, get: Callable[[], T], key: Key) -> T | None:
        """Return the result of a read; `None` if there is no object.

        Raises:
            RefusedError: There is no such bucket.
        """
        try:
            return self._repeated(get, key)
        except FileNotFoundError:
            if not self._is_checked:  # the answer is the same if there is no bucket
                self.folders("")
                self._is_checked = True
            return None

    def _repeated(self, call: Callable[[], T], key: Key) -> T:
        """Send a request until it succeeds; it must have the same effect if it is repeated.

        Raises:
            FileNotFoundError, PreconditionError: Raised by obstore, and not translated.
            CorruptFileError, FileChangedError: Raised by `call`.
            RefusedError, OSError: The translated error.
        """
        backoff = self.backoff()
        while True:
            try:
                result = call()
            except (FileNotFoundError, PreconditionError):
                self._has_answered = True
                raise
            except BaseError as error:
                reason = self._translated(error, key)
                if isinstance(reason, RefusedError):
                    raise reason from error
                backoff.wait(reason)
            else:
                self._has_answered = True
                return result

    def _checked(self, key: Key) -> Key:
        if not is_valid_key(key):
            raise ValueError(f"{self.url}/{key}: leads out of {self.url}, or is not a valid key.")
        return key

    def _translated(self, error: Exception, key: Key) -> OSError:
        return translated(error, self._message(key), bucket=self.bucket, server=self._server)

    def _message(self, key: Key) -> str:
        return f"{self.url}/{key}" if key else self.url

    # --- Connections -----------------------------------------------------------------------------

    @property
    def _single(self) -> "ObjectStore":
        """The store of obstore that sends each request once."""
        return self._opened()[0]

    @property
    def _repeating(self) -> "ObjectStore":
        """The store of obstore that repeats the failed requests of an upload."""
        return self._opened()[1]

    def _opened(self) -> "tuple[ObjectStore, ObjectStore]":
        _check_not_forked()
        if self._stores is None:
            single, repeating = (open_store(self._address, max_retries=number) for number in (0, 5))
            self._stores = single, repeating
        return self._stores


def _ends_of_folders(key: Key) -> Iterator[int]:
    return (match.start() for match in re.finditer("/", key))


def _info(key: Key, meta: Any) -> ObjectInfo:
    tag, written = meta["e_tag"] or "", int(meta["last_modified"].timestamp())
    identity = f"{tag}-{meta['version'] or ''}-{meta['size']}-{written}" if tag else None
    return ObjectInfo(key, meta["size"], tag, identity)


_PROCESS: list[int] = []


def _check_not_forked() -> None:
    """Raise instead of hanging: the threads of obstore do not exist in a forked process."""
    if not _PROCESS:
        _PROCESS.append(os.getpid())
    if _PROCESS[0] != os.getpid():
        raise RefusedError(
            "This process was forked from one that had used an object store. Start a new one, e.g. "
            'by multiprocessing.get_context("spawn").'
        )
