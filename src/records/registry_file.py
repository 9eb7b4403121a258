"""registry.json: the list of all models, and how entries are appended to its bytes.

Parsing and checking a large registry takes most of the time of a registration. Bytes that are known
to be valid are therefore not checked again, and an entry is found and appended without parsing the
others. This relies on the canonical form: text contains no raw line breaks, so the indentation of
a line shows what the line belongs to.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from src.errors import CorruptFileError, truncated_repr
from src.records.canonical import canonical_json, parse_canonical_json, parse_json
from src.records.layout import REGISTRY_LIMIT
from src.records.metadata import check_metadata
from src.rendering.shell import quote

__all__ = ["RegistryFile", "has_entry_lines", "is_blank"]

_VERSION_START = b'\n      "model_version": "'
_VERSION = _VERSION_START + b'%s"'
_ANY_VERSION = re.compile(_VERSION % b'([^"]+)')
_EMPTY = b'{\n  "models": []\n}\n'
_END = b"\n  ]\n}\n"


def is_blank(data: bytes | None) -> bool:
    """Return whether a file is absent or empty; white space and NUL bytes are no contents.

    A power failure can leave a file of NUL bytes.
    """
    return data is None or not data.strip(b"\0 \t\r\n")


class RegistryFile:
    """The contents of a registry.json, checked.

    Text in another than the canonical form can be read, and nothing can be appended to it.

    Attributes:
        is_canonical: Whether the file is in canonical form, as every registration writes it.
        unknown_fields: Fields besides the list of models, which another release may have written.

    Args:
        data: The bytes of the file; `None` if there is no file.
        source: The file the bytes came from; used in errors.
        valid_sha256: SHA-256 of bytes that were checked before, if any. Data of this digest is not
            checked again.

    Raises:
        CorruptFileError: The data is not a registry; names the entry.
    """

    def __init__(
        self, data: bytes | None, source: object, *, valid_sha256: str | None = None
    ) -> None:
        self._source = source
        self._data = _EMPTY if data is None else data
        self._prefix = memoryview(self._data)[: -len(_END)]
        self._content: dict[str, Any] | None = None
        self._is_new = self.is_canonical = data is None
        if data is not None and valid_sha256 is not None:
            self.is_canonical = valid_sha256 == self._sha256_with(self._data[-len(_END) :])
        self.unknown_fields: list[str] = []
        if not self.is_canonical:
            self._content = _parse(self._data, source)
            self.is_canonical = canonical_json(self._content) == self._data
            self.unknown_fields = sorted(self._content.keys() - {"models"})

    @property
    def _is_plain(self) -> bool:
        """Whether the bytes are in canonical form, with no key but `models`."""
        return self.is_canonical and not self.unknown_fields

    def check_form(self) -> None:
        """Check that the file is in canonical form.

        Raises:
            CorruptFileError: It was edited; says how to continue.
        """
        if not self.is_canonical:
            raise CorruptFileError(
                f"{self._source}: not in canonical form: edited after it was written. Left as "
                "found. Restore the file; or, if its entries are right, write it in canonical "
                f"form: F={quote(str(self._source))}; "
                'python -m json.tool --sort-keys --indent 2 --no-ensure-ascii "$F" "$F"'
            )

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the file if it is in canonical form, with no key but `models`."""
        if self._is_new or not self._is_plain:
            return None
        return self._sha256_with(self._data[-len(_END) :])

    @property
    def models(self) -> list[dict[str, Any]]:
        """All entries, in the order of registration."""
        if self._content is None:
            self._content = parse_canonical_json(self._data, self._source)
        models: list[dict[str, Any]] = self._content["models"]
        return models

    def find(self, versions: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the entries of `versions` that are registered, and possibly further entries."""
        if self._is_plain and self._content is None:
            found: Iterable[dict[str, Any]] = map(self._entry, self._positions(versions))
        else:
            found = self.models
        return {model["model_version"]: model for model in found}

    def get(self, version: object) -> dict[str, Any] | None:
        """Return the entry of a version; `None` if it is not registered."""
        found = self.find([str(version)])
        return next((model for name, model in found.items() if name == version), None)

    def __len__(self) -> int:
        if self._content is None:
            return self._data.count(_VERSION_START)
        return len(self.models)

    def newest(self) -> Iterator[dict[str, Any]]:
        """Yield the entries in the reverse order of registration, each parsed when it is needed."""
        if self._content is not None or not self._is_plain:
            yield from reversed(self.models)
            return
        end = len(self._data)
        while (position := self._data.rfind(_VERSION_START, 0, end)) >= 0:
            yield self._entry(position)
            end = position

    def with_entries(
        self, entries: Sequence[dict[str, Any]]
    ) -> tuple[list[bytes | memoryview], str | None]:
        """Return the contents of the file with `entries` appended.

        Returns:
            The new bytes of the file, in pieces; and their SHA-256 if there is no key but `models`.

        Raises:
            CorruptFileError: See `check_form`.
            ValueError: The file would be too large to be read again.
        """
        self.check_form()
        contents: list[bytes | memoryview]
        if self._is_plain and self._data != _EMPTY:
            end = b"".join(b",\n" + _indented(entry) for entry in entries) + _END
            contents, checksum = [self._prefix, end], self._sha256_with(end)
        else:
            content = {**(self._content or {}), "models": [*self.models, *entries]}
            data = canonical_json(content)
            contents = [data]
            checksum = "" if self.unknown_fields else hashlib.sha256(data).hexdigest()
        size = sum(map(len, contents))
        if size > REGISTRY_LIMIT:
            raise ValueError(
                f"{self._source}: full: {size:,} bytes with the new entries, and at most "
                f"{REGISTRY_LIMIT:,} can be read. Nothing was written; use another artifacts root."
            )
        return contents, checksum or None

    def _positions(self, versions: Iterable[str]) -> Iterator[int]:
        """Yield the positions of the lines that name one of `versions`."""
        wanted = {str(version).encode(errors="replace") for version in versions}
        if len(wanted) == 1:  # several times as fast as the loop below
            position = self._data.find(_VERSION % wanted.pop())
            if position >= 0:
                yield position
        else:
            for line in _ANY_VERSION.finditer(self._data):
                if line[1] in wanted:
                    yield line.start()

    def _entry(self, position: int) -> dict[str, Any]:
        """Parse the entry with the line at `position`."""
        start = self._data.rindex(b"\n    {", 0, position)
        end = self._data.index(b"\n    }", position) + len(b"\n    }")
        return parse_json(self._data[start:end], self._source)

    def _sha256_with(self, end: bytes) -> str:
        """Return the SHA-256 of the data with `end` in place of its last two brackets."""
        digest = self._prefix_digest.copy()
        digest.update(end)
        return digest.hexdigest()

    @cached_property
    def _prefix_digest(self) -> "hashlib._Hash":
        return hashlib.sha256(self._prefix)


def has_entry_lines(data: bytes | bytearray) -> bool:
    """Return whether the text of a registry has a line of an entry in canonical form.

    If not, it has no entries or is in another form.
    """
    return _ANY_VERSION.search(data) is not None


def _indented(entry: dict[str, Any]) -> bytes:
    return b"\n".join(b"    " + line for line in canonical_json(entry).splitlines())


def _parse(data: bytes, source: object) -> dict[str, Any]:
    registry = parse_json(data, source)
    models = registry.get("models")
    if not isinstance(models, list):
        found = truncated_repr(models) if "models" in registry else "nothing"
        raise CorruptFileError(f"{source}: models: expected a list, found {found}. Left as found.")
    seen: set[str] = set()
    for index, model in enumerate(models):
        place = f"{source}: models[{index}]"
        if not isinstance(model, dict):
            raise CorruptFileError(
                f"{place}: expected an object, found {truncated_repr(model)}. Left as found."
            )
        try:
            version = check_metadata(model, place)
        except ValueError as error:
            raise CorruptFileError(f"{error} Left as found.") from error
        if version in seen:
            raise CorruptFileError(
                f"{place}: duplicate entry of {truncated_repr(version)}. Left as found."
            )
        seen.add(version)
    return registry
