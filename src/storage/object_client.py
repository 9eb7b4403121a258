"""Requests to an object store, by obstore: the only module that imports it.

A write is one request, which is never repeated here: only a read can tell whether it was carried
out. All other requests are repeated while their error may pass. The errors of obstore are no
`OSError`s and can contain signed addresses; those of this module are, and name no credentials.
"""

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from src.errors import too_large
from src.storage.store import FileChangedError, Key

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = [
    "ObjectClient",
    "ObjectInfo",
    "Patience",
    "RefusedError",
    "StoredObject",
    "UnknownOutcomeError",
    "check_extra",
]

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az")
EXTRA = "llm-training-pipeline[cloud]"
PATIENCE_SECONDS = 90.0  # of an operation, while a server does not answer
FIRST_PATIENCE_SECONDS = 10.0  # before the first answer: the address may be wrong
MAX_WAIT_SECONDS = 0.5
PART_BYTES = 1 << 23
MAX_PARTS = 9_000  # of an upload; S3 has 10,000
UPLOADS_AT_ONCE = 4
TIMEOUTS = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "120s"}
_URL = re.compile("(?P<scheme>[a-z0-9+.-]+)://(?P<bucket>[^/]*)(?:/(?P<prefix>.*))?", re.DOTALL)
_BUCKET = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SEGMENT = re.compile(r"(?!\.{1,2}$)[^\x00-\x1f\x7f/?#%\\]+")
_CODE = re.compile("<Code>([A-Za-z]{3,60})</Code>")
_STATUS = re.compile("non-2xx status code: ([0-9]{3})")


class RefusedError(PermissionError):
    """Raised when the server refuses, and would refuse again: no bucket, right or credentials."""


class UnknownOutcomeError(OSError):
    """Raised by a write of which only a read can tell whether it was carried out."""


class ObjectInfo(NamedTuple):
    """An object without its bytes.

    Attributes:
        key: Its key.
        size: Its size in bytes.
        tag: The ETag of its bytes.
        identity: Text that changes whenever it is written.
    """

    key: Key
    size: int
    tag: str
    identity: str


class StoredObject(NamedTuple):
    """An object with its bytes."""

    info: ObjectInfo
    data: bytes


class Patience:
    """The waits between the tries of one operation: full jitter, until a deadline.

    Args:
        seconds: From now to the deadline.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._longest = 0.01

    def wait(self, error: OSError) -> None:
        """Wait before the next try; raise `error` after the deadline."""
        if time.monotonic() > self._deadline:
            raise error
        time.sleep(random.uniform(0, self._longest))  # noqa: S311
        self._longest = min(MAX_WAIT_SECONDS, 2 * self._longest)


@dataclass(frozen=True, slots=True)
class _Address:
    scheme: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def _parse(url: str) -> _Address:
    match = _URL.fullmatch(url)
    scheme, bucket, prefix = match.group("scheme", "bucket", "prefix") if match else ("", "", "")
    segments = (prefix or "").rstrip("/").split("/") if prefix else []
    if (
        scheme not in SCHEMES
        or not _BUCKET.fullmatch(bucket)
        or not all(_SEGMENT.fullmatch(each) for each in segments)
    ):
        raise ValueError(
            f"{url[:200]!r}: expected the address of an object store: s3://BUCKET/PREFIX, "
            "gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, without a name of a user, a query or the "
            "characters ? # % \\."
        )
    return _Address(scheme, bucket, "/".join(segments))


class ObjectClient:
    """The objects below one address.

    Args:
        url: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.

    Attributes:
        url: The address.
        place: The address with the server's: two buckets of one name can be on different servers.

    Raises:
        ValueError: The address is not valid.
    """

    def __init__(self, url: str) -> None:
        self._address = _parse(url)
        self.url = self._address.url
        self._endpoint = _endpoint(self._address.scheme)
        self.place = f"{self._endpoint or ''}|{self.url}"
        self._stores: tuple[ObjectStore, ObjectStore] | None = None
        self._has_answered = self._is_checked = False

    def patience(self) -> Patience:
        """Return the waits of an operation that begins now."""
        return Patience(PATIENCE_SECONDS if self._has_answered else FIRST_PATIENCE_SECONDS)

    # --- Reading ---------------------------------------------------------------------------------

    def get(self, key: Key, limit: int) -> StoredObject | None:
        """Return an object; `None` if there is none.

        Raises:
            CorruptFileError: It is larger than `limit` bytes.
        """
        import obstore

        def get() -> StoredObject:
            found = obstore.get(self._single, self._checked(key))
            info = _info(key, found.meta)
            if info.size > limit:
                raise too_large(self._message(key), limit)
            return StoredObject(info, bytes(found.bytes()))

        return self._found(get, key)

    def head(self, key: Key) -> ObjectInfo | None:
        """Return size and ETag of an object; `None` if there is none."""
        import obstore

        return self._found(lambda: _info(key, obstore.head(self._single, self._checked(key))), key)

    def get_first_part(self, key: Key) -> StoredObject | None:
        """Return an object with its first `PART_BYTES` bytes; `None` if there is none."""
        import obstore

        def get() -> StoredObject:
            options: Any = {"range": (0, PART_BYTES)}
            found = obstore.get(self._single, self._checked(key), options=options)
            return StoredObject(_info(key, found.meta), bytes(found.bytes()))

        try:
            return self._found(get, key)
        except RefusedError:  # a server refuses any range of an empty object
            info = self.head(key)
            if info is not None and info.size == 0:
                return StoredObject(info, b"")
            raise

    def get_part(self, info: ObjectInfo, start: int) -> bytes:
        """Return up to `PART_BYTES` bytes of an object from `start` on.

        Raises:
            FileChangedError: The object was written or deleted meanwhile.
        """
        import obstore
        from obstore.exceptions import PreconditionError

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
        """Return all objects below a prefix, in the order of their keys."""
        import obstore

        def found() -> list[ObjectInfo]:
            pages = obstore.list(self._single, prefix=prefix or None)
            return sorted(_info(each["path"], each) for page in pages for each in page)

        objects = self._repeated(found, prefix)
        # The consoles of some servers make an empty object for a folder.
        folders = {key[:end] for key, *_ in objects for end in _ends_of_folders(key)}
        return [each for each in objects if each.size or each.key not in folders]

    def folders(self, prefix: Key) -> Sequence[str]:
        """Return the names of the folders directly below a prefix, sorted."""
        import obstore

        def found() -> list[str]:
            result = obstore.list_with_delimiter(self._single, prefix=prefix or None)
            return sorted(each.rpartition("/")[2] for each in result["common_prefixes"])

        return self._repeated(found, prefix)

    # --- Writing ---------------------------------------------------------------------------------

    def put(self, key: Key, data: bytes, tag: str | None) -> None:
        """Write an object, by one request.

        Args:
            key: The object.
            data: Its new bytes.
            tag: Only if it has this ETag; `None`: only if it does not exist.

        Raises:
            UnknownOutcomeError: The server answered with an error, or did not answer. Also if the
                condition did not hold.
            RefusedError: A right is missing.
        """
        import obstore
        from obstore.exceptions import BaseError

        mode: Any = "create" if tag is None else {"e_tag": tag}
        try:
            obstore.put(self._single, self._checked(key), data, mode=mode, use_multipart=False)
        except (BaseError, FileNotFoundError) as error:
            translated = self._translated(error, key)
            if isinstance(translated, RefusedError):
                raise translated from error
            raise UnknownOutcomeError(
                f"{self._message(key)}: not known whether it was written. {translated} Run again: "
                "what was written is found."
            ) from error
        self._has_answered = True

    def upload(self, key: Key, pieces: Callable[[], Iterable[bytes]], size: int) -> None:
        """Write an object of any size, without a condition, in parts.

        Args:
            key: The object. Its name must be one that nobody writes other bytes to.
            pieces: Returns its bytes, from the start, each time it is called. If they raise, no
                object is written.
            size: Its size in bytes.
        """
        import obstore
        from obstore.exceptions import GenericError

        part = max(PART_BYTES, -(-size // MAX_PARTS))

        def put() -> None:
            try:
                obstore.put(
                    self._repeating,
                    self._checked(key),
                    iter(pieces()),
                    chunk_size=part,
                    max_concurrency=UPLOADS_AT_ONCE,
                )
            except FileNotFoundError as error:
                # The answer to the last request was lost, and the repeated one finds no upload.
                if "NoSuchUpload" not in str(error):
                    raise self._translated(error, key) from error
                raise GenericError(str(error)) from error

        self._repeated(put, key)

    def delete(self, key: Key) -> None:
        """Delete an object, if there is one."""
        import obstore

        self._repeated(lambda: obstore.delete(self._single, self._checked(key)), key)

    # --- Errors ----------------------------------------------------------------------------------

    def _found(self, get: Callable[[], T], key: Key) -> T | None:
        """Return the result of a read; `None` if there is no object, in a bucket that exists."""
        try:
            return self._repeated(get, key)
        except FileNotFoundError:
            if not self._is_checked:  # of a bucket that does not exist, the answer is the same
                self.folders("")
                self._is_checked = True
            return None

    def _repeated(self, call: Callable[[], T], key: Key) -> T:
        """Return the result of a request that changes nothing if it is sent twice.

        Raises:
            FileNotFoundError, PreconditionError: As by obstore.
            CorruptFileError, FileChangedError: As by `call`.
            RefusedError, OSError: The translated error.
        """
        from obstore.exceptions import BaseError, PreconditionError

        patience = self.patience()
        while True:
            try:
                result = call()
            except (FileNotFoundError, PreconditionError):
                self._has_answered = True
                raise
            except BaseError as error:
                translated = self._translated(error, key)
                if isinstance(translated, RefusedError):
                    raise translated from error
                patience.wait(translated)
            else:
                self._has_answered = True
                return result

    def _translated(self, error: Exception, key: Key) -> OSError:
        """Return the project's error for one of obstore, whose text may contain credentials."""
        text = str(error)
        code, status = _CODE.search(text), _STATUS.search(text)
        found = code[1] if code else f"status {status[1]}" if status else ""
        place, at = self._message(key), f" at {self._endpoint}" if self._endpoint else ""
        if isinstance(error, FileNotFoundError) or found in ("NoSuchBucket", "ContainerNotFound"):
            bucket = f"{self._address.scheme}://{self._address.bucket}"
            return RefusedError(f"{bucket}: no such bucket{at}. Create it, or correct the address.")
        for pattern, sentence in _REFUSALS.items():
            if re.search(pattern, text):
                return RefusedError(f"{place}: {sentence} ({found or type(error).__name__}{at})")
        if found in ("SlowDown", "ServerBusy", "TooManyRequests", "status 429", "status 503"):
            return OSError(f"{place}: the server asks for fewer requests ({found}{at}).")
        if status and status[1].startswith("4") and status[1] not in ("408", "409", "412", "425"):
            return RefusedError(f"{place}: the server refuses the request ({found}{at}).")
        return OSError(
            f"{place}: the server{at} does not answer ({found})."
            if found
            else f"{place}: no complete answer from the server{at}. Check the network and the "
            "address of the server."
        )

    def _checked(self, key: Key) -> Key:
        if not all(map(_SEGMENT.fullmatch, key.split("/"))):
            raise ValueError(f"{self.url}/{key}: leads out of {self.url}, or is no valid key.")
        return key

    def _message(self, key: Key) -> str:
        return f"{self.url}/{key}" if key else self.url

    # --- Connections -----------------------------------------------------------------------------

    @property
    def _single(self) -> "ObjectStore":
        """The store that sends each request once."""
        return self._opened()[0]

    @property
    def _repeating(self) -> "ObjectStore":
        """The store that repeats the requests of an upload."""
        return self._opened()[1]

    def _opened(self) -> "tuple[ObjectStore, ObjectStore]":
        _check_not_forked()
        if self._stores is None:
            with _as_refused(self.url):
                self._stores = (
                    _open(self._address, self._endpoint, max_retries=0),
                    _open(self._address, self._endpoint, max_retries=5),
                )
        return self._stores


_REFUSALS = {
    "ExpiredToken|TokenRefreshRequired|ExpiredAuthenticationToken": (
        "the credentials have expired. Renew them."
    ),
    "RequestTimeTooSkewed|RequestExpired": (
        "the clock of this machine differs too much from the server's. Set it."
    ),
    "incorrectly configured region|AuthorizationHeaderMalformed|PermanentRedirect": (
        "the bucket is in another region. Set AWS_REGION."
    ),
    "InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthenticationFailed": (
        "the server does not know these credentials. Correct them."
    ),
    "Unauthenticated|status code: 401": (
        "the server does not know these credentials. Correct them."
    ),
    "PermissionDenied|AccessDenied|status code: 403": (
        "the credentials lack the right. See docs/operations.md for the rights that are needed."
    ),
    "builder error": (
        "the address of the server cannot be used. Expected one such as https://HOST:PORT."
    ),
}


@contextmanager
def _as_refused(url: str) -> Iterator[None]:
    """Raise the errors of opening a store, such as those of a variable, without their text."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, ValueError, TypeError) as error:
        kind = type(error).__name__
        raise RefusedError(
            f"{url}: the settings of the object store are not valid ({kind}). Check the variables "
            "that begin with AWS_, GOOGLE_ or AZURE_."
        ) from None


def _ends_of_folders(key: Key) -> Iterator[int]:
    return (match.start() for match in re.finditer("/", key))


def _info(key: Key, meta: Any) -> ObjectInfo:
    tag = meta["e_tag"] or ""
    identity = (
        f"{tag}-{meta['version'] or ''}-{meta['size']}-{int(meta['last_modified'].timestamp())}"
    )
    return ObjectInfo(key, meta["size"], tag, identity)


_PROCESS: list[int] = []


def _check_not_forked() -> None:
    """Raise instead of hanging: the threads of obstore do not exist in a forked process."""
    if not _PROCESS:
        _PROCESS.append(os.getpid())
    if _PROCESS[0] != os.getpid():
        raise RefusedError(
            "This process was forked from one that had used an object store. Start it anew, e.g. "
            'by multiprocessing.get_context("spawn").'
        )


# --- Settings ------------------------------------------------------------------------------------


def _endpoint(scheme: str) -> str | None:
    """Return the address of the server, if it is not the usual one; without credentials."""
    names = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    }
    for name in names.get(scheme, ()):
        if value := os.environ.get(name):
            return re.sub("//[^/@]*@", "//", value.partition("?")[0])
    return None


def _open(address: _Address, endpoint: str | None, *, max_retries: int) -> "ObjectStore":
    from obstore.store import AzureStore, GCSStore, S3Store

    options: dict[str, Any] = {
        "client_options": {
            **TIMEOUTS,
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
        },
        "retry_config": {"max_retries": max_retries, "retry_timeout": timedelta(seconds=60)},
        "prefix": address.prefix or None,
    }
    if address.scheme == "s3":
        return S3Store(address.bucket, **_aws_settings(), **options)
    if address.scheme == "gs":
        _check_gcp_credentials(address)
        return GCSStore(address.bucket, **options)
    return AzureStore(address.bucket, **options)


def _aws_settings() -> dict[str, Any]:
    """Return where S3 gets credentials: from the environment, or as the tools of AWS do."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {"region": region or "us-east-1"}
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise RefusedError(f"Credentials of AWS: {error}") from None
    if credentials is None:
        raise RefusedError(
            "No credentials of AWS were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE with a profile of ~/.aws/config."
        )
    return {
        "region": region or session.region_name or "us-east-1",
        "credential_provider": Boto3CredentialProvider(session),
    }


def _check_gcp_credentials(address: _Address) -> None:
    """Refuse Google's storage without credentials: obstore would ask an address of the network."""
    names = (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
    )
    default = Path("~/.config/gcloud/application_default_credentials.json").expanduser()
    if not any(os.environ.get(name) for name in names) and not default.exists():
        raise RefusedError(
            f"{address.url}: no credentials of Google Cloud were found. Set "
            "GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`."
        )


def check_extra(url: str) -> None:
    """Check that the libraries for object stores are installed.

    Raises:
        ValueError: They are not; says how to install them.
    """
    if find_spec("obstore") is None or find_spec("boto3") is None:
        raise ValueError(
            f"{url}: the libraries for object stores are not installed. Run "
            f"`pip install '{EXTRA}'`, or `make .venv/cloud` in a clone."
        )
