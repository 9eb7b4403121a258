"""Every reader of foreign bytes, and a coverage-guided fuzzer of them.

    python -m tests.torture.fuzz --seconds 60 [--corpus folder] [reader ...]

Stops at the first input that makes a reader raise an undocumented exception, and writes it to a
file.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from src.artifacts import read_metadata
from src.errors import CorruptFileError
from src.evaluation.evaluator import load_evaluation
from src.records.canonical import parse_json
from src.records.statement import parse_statement
from src.storage import open_path
from src.training.config import ConfigError, parse_training_config
from src.training.dataset import DatasetMismatchError, resolve_dataset
from src.training.registry import ModelNotFoundError, get_model, list_models

__all__ = ["READERS", "feed"]

Reader = Callable[[bytes, Path], object]


def _written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _metadata(data: bytes, folder: Path) -> object:
    _written(folder / "model_v1/metadata.json", data)
    return read_metadata("model_v1", open_path(folder))


def _evaluation(data: bytes, folder: Path) -> object:
    _written(folder / "model_v1/evaluation.json", data)
    return load_evaluation("model_v1", folder)


def _dataset(data: bytes, folder: Path) -> object:
    _written(folder / "dataset_v1/data.jsonl", b"{}\n{}\n")
    _written(folder / "dataset_v1/metadata.json", data)
    return resolve_dataset("dataset_v1", folder)


READERS: dict[str, tuple[Reader, tuple[type[Exception], ...]]] = {
    "config": (lambda data, folder: parse_training_config(data, "c.yaml"), (ConfigError,)),
    "json": (lambda data, folder: parse_json(data, Path("f.json")), (CorruptFileError,)),
    "registry": (
        lambda data, folder: list_models(_written(folder / "registry.json", data)),
        (CorruptFileError,),
    ),
    "model": (
        lambda data, folder: get_model("model_v2", _written(folder / "registry.json", data)),
        (CorruptFileError, ModelNotFoundError),
    ),
    "metadata": (_metadata, (CorruptFileError,)),
    "evaluation": (_evaluation, (CorruptFileError,)),
    "provenance": (
        lambda data, folder: parse_statement(data, Path("provenance.json")),
        (CorruptFileError,),
    ),
    "dataset": (_dataset, (CorruptFileError, DatasetMismatchError)),
}
"""Functions that read bytes, by name, and the exceptions that each documents."""


def feed(reader: str, data: bytes, folder: Path) -> object:
    """Call a reader with `data`, in a file below `folder` if it reads a file.

    Returns:
        The result of the reader, or the documented exception that it raised.
    """
    read, documented = READERS[reader]
    try:
        return read(data, folder)
    except documented as error:
        return error


SEEDS = (
    b"base_model: a\ndataset_version: b\nlearning_rate: 2e-5\nepochs: 1\nbatch_size: 1 # c\n",
    b"a: &a [{'b': \"\\x41\"}, *a]\n? |\n  c\n: !!int 1\n---\n",
    b'{"dataset_version": "dataset_v1", "num_samples": 2, "dataset_hash": "sha256:0"}',
    b'{"models": [{"model_version": "model_v1", "base_model": "a", "dataset_version": "b", '
    b'"training_config": {"learning_rate": 2e-05}, "num_training_samples": 2}]}',
    b'{"model_version": "model_v1", "base_model": "\\u00e9", "dataset_version": "b", '
    b'"training_config": {}, "num_training_samples": 2}',
)


def _seeds(folder: Path, readers: int) -> Path:
    for reader in range(readers):
        for number, data in enumerate(SEEDS):
            _written(folder / f"{reader}-{number}", bytes([reader]) + data)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the readers, guided by coverage.")
    parser.add_argument("readers", nargs="*", metavar="reader", help=f"of {', '.join(READERS)}")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", help="folder of inputs; receives new ones")
    options = parser.parse_args()
    readers = options.readers or list(READERS)
    if unknown := set(readers) - set(READERS):
        parser.error(f"no reader {', '.join(sorted(unknown))}: choose from {', '.join(READERS)}")
    try:
        import atheris  # type: ignore[import-not-found]
    except ImportError:
        parser.error("atheris is not installed: pip install atheris")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/memos"

        def fuzz_one(data: bytes) -> None:
            if data:  # the first byte selects the reader
                feed(readers[data[0] % len(readers)], data[1:], Path(folder, "files"))

        for name in [name for name in sys.modules if name.split(".")[0] in ("src", "yaml", "json")]:
            del sys.modules[name]  # imported again below, to measure its coverage
        with atheris.instrument_imports(include=["src", "yaml", "json"]):
            from tests.torture.fuzz import feed
        arguments = [options.corpus or str(_seeds(Path(folder, "seeds"), len(readers)))]
        arguments += [f"-max_total_time={options.seconds}", "-timeout=5", "-rss_limit_mb=500"]
        atheris.Setup([sys.argv[0], *arguments, "-max_len=4096", "-len_control=0"], fuzz_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
