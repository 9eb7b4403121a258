"""Results of steps: their form on disk, and the storage that Prefect reads them from.

Prefect stores a result together with the name of the serializer that reads it, and follows that
name: a forged file can have any code run (pickle) or any module imported (JSON with `__class__`).
The files of this module name no serializer and no class. A result file is one line of JSON:

    {"files": {"<key below the artifacts root>": "<SHA-256>", ...}, "result": <value>}

The result is served only while `files` are unchanged. The type of the value follows from the step.
If the step failed and there was no result before, the file has the contents `FAILED`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from prefect.filesystems import WritableFileSystem
from prefect.logging import get_run_logger
from prefect.results import ResultStore
from prefect.serializers import Serializer
from pydantic import Field, JsonValue, PrivateAttr, TypeAdapter

from src.errors import CorruptFileError
from src.records.canonical import parse_json, sha256
from src.records.layout import RESULT_LIMIT, STATEMENT_LIMIT
from src.storage import StorePath, is_url
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from src.training.trained import Training

__all__ = [
    "PlainSerializer",
    "StepCall",
    "StepResults",
    "StoredResult",
    "begin_call",
    "file_digests",
    "stale_result",
]

_ANY_VALUE: TypeAdapter[Any] = TypeAdapter(JsonValue)
_TYPES: dict[str, TypeAdapter[Any]] = {
    "load_config": TypeAdapter(ConfigFile),
    "resolve_dataset": TypeAdapter(DatasetVersion),
    "train": TypeAdapter(Training),
}
FAILED = b'{"files": {}, "result": null, "failed": true}'
_FILES = TypeAdapter(dict[str, str | None])
_KEY = re.compile("([a-z_]+)-[0-9a-f]{64}-[0-9a-f]{64}")


class PlainSerializer(Serializer):
    """Serialize a value as JSON that names no class.

    Attributes:
        step: The step that returned the value, if its values have a type that JSON does not have.
    """

    type: str = Field(default="plain-json", frozen=True)
    step: str = ""

    def dumps(self, obj: Any) -> bytes:
        """Return the JSON of a value, or of the message of an exception."""
        if isinstance(obj, BaseException):
            return _to_json(str(obj))
        return _to_json(_type(self.step).dump_python(obj, mode="json"))

    def loads(self, blob: bytes) -> Any:
        """Parse a value.

        Raises:
            ValueError: The JSON is not valid, or not of the type of the step.
        """
        return _type(self.step).validate_json(blob, strict=True)


def _to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _type(step: str) -> TypeAdapter[Any]:
    return _TYPES.get(step, _ANY_VALUE)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A cached result.

    Attributes:
        value: The result.
        files: The SHA-256 of the files that it depends on, by key.
        has_failed: Whether the step failed, so that there is no value.
    """

    value: Any
    files: Mapping[str, str | None]
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class StepCall:
    """The current call of a step, after its cache decision.

    Attributes:
        key: The cache key.
        cached: The result that is served; `None` if the step runs.
        stale: The result that is not served because it is stale.
        files: The new result is served only while these files are unchanged.
        reason: The reason of the decision.
    """

    key: str
    cached: StoredResult | None
    stale: StoredResult | None
    files: Sequence[StorePath]
    reason: str = ""


_CALL: ContextVar[StepCall | None] = ContextVar("step_call", default=None)


class StepResults(WritableFileSystem):
    """Result files of steps, one per cache key, in one folder of a store.

    `stored` reads a file. Prefect itself is given only the result that the cache decision of the
    current call has checked, so a file that is replaced after the decision changes nothing.
    """

    _block_type_name = "Step results"
    _block_type_slug = "step-results"
    _folder: StorePath = PrivateAttr()
    _has_warned: bool = PrivateAttr(default=False)

    @classmethod
    def in_folder(cls, folder: StorePath) -> "StepResults":
        """Return the result files in `folder`."""
        results = cls()
        results._folder = folder
        return results

    def stored(self, key: str) -> StoredResult | None:
        """Read the result file of a cache key; return `None` if there is no such file.

        Raises:
            CorruptFileError: The file is not a result of the step.
            OSError: The file cannot be read.
        """
        file = self._folder / key
        data = file.read(RESULT_LIMIT)
        return None if data is None else _parse(data, _step(key), file)

    def read_path(self, path: str, *, _sync: bool = True) -> bytes:  # type: ignore[override]
        """Return the result that is served to the current call, in Prefect's form.

        Raises:
            FileNotFoundError: The step runs, or the key is not that of the current call.
        """
        key = PurePath(path).name
        call = _CALL.get()
        if call is None or call.key != key or call.cached is None:
            raise FileNotFoundError(f"{self._folder / key}: no result for the current call.")
        store = ResultStore(result_storage=self, serializer=PlainSerializer(step=_step(key)))
        return store.create_result_record(call.cached.value, key=key).serialize()

    def write_path(  # type: ignore[override]
        self, path: str, content: bytes, *, _sync: bool = True
    ) -> None:
        """Write or replace the result file of the current call.

        Of any other result, which is the error of a failed step, only that there was one is stored,
        unless there is a result: it can be valid again.

        Args:
            path: The cache key.
            content: The result in Prefect's form.

        Raises:
            OSError, ValueError: The result cannot be written. The run continues without it, and
                logs the first such error as a warning.
        """
        call = _CALL.get()
        if call is None:
            return
        is_result = PurePath(path).name == call.key
        try:
            if is_result:
                value = json.loads(json.loads(content)["result"])
                data = _to_json({"files": file_digests(call.files), "result": value})
            elif call.stale is None:
                data = FAILED
            else:
                return
            (self._folder / call.key).replace(data)
        except (OSError, ValueError) as error:  # Prefect logs this at the level DEBUG
            if not self._has_warned:
                self._has_warned = True
                get_run_logger().warning("Results of steps are not cached: %s", error)
            if is_result:  # of the error of a failed step, Prefect would log a second warning
                raise

    async def aread_path(self, path: str) -> bytes:
        """Return a result; see `read_path`."""
        return self.read_path(path)

    async def awrite_path(self, path: str, content: bytes) -> None:
        """Write or replace a result file; see `write_path`."""
        self.write_path(path, content)

    def _resolve_path(self, path: str) -> Path | None:
        """Return the location that Prefect records for a key; `None` for the key itself."""
        if is_url(self._folder):
            return None
        return Path(str(self._folder)).resolve() / path


def begin_call(call: StepCall | None) -> None:
    """Set the current call, whose result Prefect reads or writes next."""
    _CALL.set(call)


def stale_result() -> StoredResult | None:
    """Return the result of the current call that was stale, if any."""
    call = _CALL.get()
    return None if call is None else call.stale


def file_digests(files: Sequence[StorePath]) -> dict[str, str | None]:
    """Return the SHA-256 of each file by its key; `None` if there is no file."""
    found = {file.key: file.read(STATEMENT_LIMIT) for file in files}
    return {key: None if data is None else sha256(data) for key, data in found.items()}


def _step(key: str) -> str:
    match = _KEY.fullmatch(key)
    return match[1] if match else ""


def _parse(data: bytes, step: str, source: StorePath) -> StoredResult:
    if data == FAILED:
        return StoredResult(None, {}, has_failed=True)
    content, serializer = parse_json(data, source), PlainSerializer(step=step)
    reason = f"not a result of the step {step!r}. Left as found."
    try:
        value = serializer.loads(_to_json(content.get("result")))
        files = _FILES.validate_python(content.get("files"), strict=True)
    except ValueError as error:
        raise CorruptFileError(f"{source}: {reason}") from error
    if _to_json({"files": files, "result": json.loads(serializer.dumps(value))}) != data:
        raise CorruptFileError(f"{source}: {reason}")
    return StoredResult(value, files)
