"""Plan the copy of all dataset versions."""

from src.digest import Digest
from src.names import is_version
from src.records.layout import DATA_FILE, METADATA_FILE, METADATA_LIMIT
from src.storage import StorePath
from src.training.hashing import count_and_hash_once
from src.transfer.planner import Planner
from src.transfer.steps import CopyDataset

__all__ = ["plan_datasets"]

KIND = "datasets"


def plan_datasets(planner: Planner) -> None:
    """Add all dataset versions; one without a data.jsonl is not copied.

    Data that is at the destination with the same size is hashed in both roots.

    Raises:
        CorruptFileError: A metadata.json is too large.
        OSError: A file cannot be read.
    """
    for name in planner.source.datasets.folders(follow_links=True):
        folder = planner.source.datasets / name
        copied = set[str]()
        if is_version(name) and (data := (folder / DATA_FILE).stat()) is not None:
            copied = {f"{folder.key}/{DATA_FILE}", f"{folder.key}/{METADATA_FILE}"}
            _plan_dataset(planner, folder, data.size)
        planner.unknown += [
            str(StorePath(folder.store, file.key))
            for file in folder.files()
            if file.key not in copied
        ]


def _plan_dataset(planner: Planner, source: StorePath, size: int) -> None:
    target = planner.target.datasets / source.name
    metadata = (source / METADATA_FILE).read_linked(METADATA_LIMIT)
    data = (target / DATA_FILE).stat()
    if data is not None:
        expected, found = Digest(size, ""), Digest(data.size, "")
        if size == data.size:
            expected = Digest(size, count_and_hash_once(source / DATA_FILE)[1])
            found = Digest(size, count_and_hash_once(target / DATA_FILE)[1])
        planner.compare(KIND, target / DATA_FILE, expected, found)
    pin = (target / METADATA_FILE).stat()
    if metadata is not None and (data is not None or pin is not None):
        planner.add_file(
            KIND,
            source / METADATA_FILE,
            target / METADATA_FILE,
            metadata,
            None if pin is None else pin.size,
            follow_links=True,
        )
    if data is None:
        planner.steps.append(
            CopyDataset(source=source, target=target, size=size, metadata=metadata)
        )
