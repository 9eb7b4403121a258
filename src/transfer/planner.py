"""The plan of a copy while both roots are compared, before the first write."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from src.artifacts import Artifacts
from src.digest import Digest
from src.errors import CorruptFileError
from src.storage import StorePath
from src.transfer.steps import CopyFile, Step

__all__ = ["HashFiles", "Planner", "Sizes", "files_by_folder", "read_listed"]

HashFiles = Callable[[StorePath], dict[str, Digest]]
"""Receives a folder; returns the digests of the files below it, by path. See `Store.digests`."""

Sizes = Mapping[str, int]
"""The sizes of files in bytes, by path in a folder."""


@dataclass(kw_only=True)
class Planner:
    """A plan that is being made.

    Attributes:
        source: The root that is copied.
        target: The root that it is copied to.
        hash_files: Hashes weights that are at the destination.
        steps: The steps, in the order in which they were added.
        present: The number of files that are there with the same bytes, by kind.
        differences: A line for each file that the destination has with other bytes.
        unknown: The files of the source that are not copied: no release writes them, or a run that
            was killed left them.
    """

    source: Artifacts
    target: Artifacts
    hash_files: HashFiles
    steps: list[Step] = field(default_factory=list)
    present: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def add_file(
        self,
        kind: str,
        source: StorePath,
        target: StorePath,
        data: bytes,
        size: int | None,
        *,
        follow_links: bool = False,
    ) -> None:
        """Add a step that copies a file; if `target` exists, compare it instead.

        Args:
            kind: See `Step.kind`.
            source: The path of the file.
            target: The path that it is copied to.
            data: The bytes of the file.
            size: The size in bytes of the file at `target`; `None` if there is none.
            follow_links: See `CopyFile`.
        """
        digest = Digest.of(data)
        if size is None:
            step = CopyFile(
                kind=kind, source=source, target=target, digest=digest, follow_links=follow_links
            )
            self.steps.append(step)
            return
        found = None
        if size == digest.size:
            found = (target.read_linked if follow_links else target.read)(size)
        self.compare(kind, target, digest, Digest(size, "") if found is None else Digest.of(found))

    def compare(self, kind: str, target: StorePath, expected: Digest, found: Digest) -> None:
        """Count a file that is at the destination as present, or as different."""
        if found == expected:
            self.present[kind] += 1
        elif found.size != expected.size:
            self.differences.append(
                f"{target}: expected {expected.size:,} bytes, found {found.size:,}."
            )
        else:
            self.differences.append(
                f"{target}: expected sha256 {expected.sha256}, found {found.sha256}."
            )


def files_by_folder(folder: StorePath) -> dict[str, dict[str, int]]:
    """Return the sizes of all files below a folder, by the folders directly below it.

    The files directly in it have the key `""`.
    """
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for file in folder.files():
        name = file.key.removeprefix(f"{folder.key}/")
        first, slash, rest = name.partition("/")
        found[first if slash else ""][rest or name] = file.size
    return dict(found)


def read_listed(path: StorePath, limit: int, sizes: Sizes) -> bytes | None:
    """Read a file of the source if it was listed; return `None` if it was not.

    Raises:
        CorruptFileError: It is larger than `limit` bytes, or no longer there.
    """
    if path.name not in sizes:
        return None
    data = path.read(limit)
    if data is None:
        raise CorruptFileError(f"{path}: deleted since it was listed. Run the copy again.")
    return data
