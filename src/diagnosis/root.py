"""Checks of an artifacts root: its guarantees, space, registry, and unfinished files."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from src.artifacts import Artifacts
from src.diagnosis.finding import Finding, fault, ok, run_check, warning
from src.errors import CorruptFileError
from src.records.layout import WORK_FOLDER
from src.rendering.text import counted, truncated_list
from src.storage import is_url, without_credentials
from src.storage.leftovers import leftover_files
from src.storage.reading import kind_of
from src.training.registry import RegistryLostError, check_registry, read_registry_file

__all__ = ["check_root", "file_system", "file_system_finding", "space_finding"]

MOUNTS = Path("/proc/mounts")
SECONDS = 10.0
STORE_SECONDS = 60.0  # an object store may answer slowly, and is asked again
REGISTRY_SECONDS = 120.0  # a registry may have a GiB
LEFTOVER_SECONDS = 60.0
GIB = 1 << 30
LEAST_BYTES, FEW_BYTES = 1 << 24, GIB  # less is a fault, or a warning
LEAST_INODES, FEW_INODES = 100, 10_000
# Types of file systems that can lose or mix up records.
SHARED = "other hosts can write there; whether locks exclude them was not checked"
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "fuse")
TRANSIENT = {
    "tmpfs": "in memory, so it is lost when the machine stops",
    "ramfs": "in memory, so it is lost when the machine stops",
    "overlay": "of a container, so it may be lost with the container",
}


def check_root(location: str | Path) -> Iterator[Finding]:
    """Check an artifacts root. Writes a file there, and removes it; creates no folder."""
    if is_url(location):
        yield from run_check(STORE_SECONDS, "artifacts root", lambda: [_probe_store(location)])
        yield from run_check(REGISTRY_SECONDS, "registry", lambda: [_registry(location)])
        return
    root = Path(location).absolute()
    found, *_ = run_check(SECONDS, "artifacts root", lambda: [_folder_finding(root)])
    if found.level != "OK":
        yield found
        return
    yield from run_check(SECONDS, "artifacts root", lambda: [_probe(root)])
    yield from run_check(SECONDS, "file system", lambda: [_file_system(root)])
    yield from run_check(SECONDS, "disk", lambda: [_space(root)])
    yield from run_check(REGISTRY_SECONDS, "registry", lambda: [_registry(root)])
    yield from run_check(LEFTOVER_SECONDS, "leftovers", lambda: [_leftovers(root)])


def _folder_finding(root: Path) -> Finding:
    action = "Pass the folder that has datasets/ and models/ with --artifacts-dir."
    try:
        mode = root.stat().st_mode
    except FileNotFoundError:
        return fault("artifacts root", f"{root}: no such folder.", action)
    if not root.is_dir():
        return fault("artifacts root", f"{root}: expected a folder, found {kind_of(mode)}.", action)
    return ok("artifacts root", str(root))


def _probe(root: Path) -> Finding:
    try:
        Artifacts.open(root).root.store.probe()
    except (OSError, ValueError) as error:
        action = "Make the folder writable, or use one on a local disk."
        return fault("artifacts root", f"{root}: cannot be used: {error}.", action)
    return ok("artifacts root", f"{root}: writable; locks, fsync, hard links and renames work.")


def _probe_store(url: str | Path) -> Finding:
    try:
        Artifacts.open(url).root.store.probe()
    except (OSError, ValueError) as error:
        action = "Check the address, the credentials, and the rights of this user."
        return fault(
            "artifacts root", f"{without_credentials(str(url))}: cannot be used: {error}", action
        )
    return ok("artifacts root", f"{url}: writable; conditional writes work.")


def _file_system(root: Path) -> Finding:
    try:
        mounts = MOUNTS.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:  # not Linux
        return ok("file system", "unknown.")
    return file_system_finding(file_system(os.path.realpath(root), mounts))


def file_system(path: str, mounts: str) -> str | None:
    """Return the type of the file system of an absolute path, from the text of /proc/mounts."""
    best, found = "", None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        is_above = path == place or path.startswith(f"{place.rstrip('/')}/")
        if is_above and len(place) >= len(best):  # the last of equal places hides the others
            best, found = place, fields[2]
    return found


def file_system_finding(kind: str | None) -> Finding:
    """Return whether a type of file system is fit for an artifacts root."""
    if kind is None:
        return ok("file system", "unknown.")
    if kind in TRANSIENT:
        action = "Use a folder on a disk for models that you want to keep."
        return warning("file system", f"{kind}: {TRANSIENT[kind]}.", action)
    if kind.partition(".")[0] in NETWORK:
        action = "See docs/guarantees.md, File systems."
        return warning("file system", f"{kind}: {SHARED}.", action)
    return ok("file system", f"{kind}.")


def _space(root: Path) -> Finding:
    status = os.statvfs(root)
    inodes = status.f_favail if status.f_files else None
    return space_finding(status.f_bavail * status.f_frsize, inodes)


def space_finding(free_bytes: int, free_inodes: int | None) -> Finding:
    """Return whether there is space for further models.

    Args:
        free_bytes: Bytes that this user can write.
        free_inodes: Files that this user can create; `None` if they are not limited.
    """
    files = "" if free_inodes is None else f", {free_inodes:,} files"
    found = f"{free_bytes / GIB:,.1f} GiB{files} free."
    inodes = FEW_INODES if free_inodes is None else free_inodes
    action = "Free space: move or delete models, or the folder .cache/."
    if free_bytes < LEAST_BYTES or inodes < LEAST_INODES:
        return fault("disk", found, action)
    if free_bytes < FEW_BYTES or inodes < FEW_INODES:
        return warning("disk", found, action)
    return ok("disk", found)


def _registry(root: str | Path) -> Finding:
    """Check the form of the registry; `llm-train verify` compares its entries with the record."""
    artifacts = Artifacts.open(root)
    try:
        check_registry(artifacts)
        registry = read_registry_file(artifacts.registry)
        registry.check_form()
    except RegistryLostError as error:
        return fault("registry", str(error))
    except CorruptFileError as error:
        action = "Restore it from a backup, or move it away and run `llm-train rebuild-registry`."
        return fault("registry", str(error), action)
    return ok("registry", f"{counted(len(registry), 'model')}, in valid form.")


def _leftovers(root: Path) -> Finding:
    files = [str(path.relative_to(root)) for path in leftover_files(root)]
    trainings = (Artifacts.open(root).root / WORK_FOLDER).folders()
    if files:
        found = f"unfinished files of processes that were killed: {truncated_list(sorted(files))}."
        return warning("leftovers", found, "Delete them while no run is active.")
    if trainings:
        found = (
            f"trainings in {WORK_FOLDER}/ that run or were stopped: {truncated_list(trainings)}."
        )
        action = "Run their configs again to continue them, or delete their folders."
        return ok("leftovers", found, action)
    return ok("leftovers", "no unfinished files, no stopped trainings.")
