"""Every reader of foreign bytes, and a coverage-guided fuzzer over them.

    python -m tests.torture.fuzz --seconds 60 [--corpus folder] [reader ...]

Ends with the input that made a reader raise what it does not document, if there is one.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from src.evaluation.evaluator import load_evaluation
from src.provenance import parse_provenance
from src.storage import CorruptFileError, parse_json
from src.training.config import ConfigError, parse_training_config
from src.training.dataset import DatasetMismatchError, resolve_dataset
from src.training.registry import ModelNotFoundError, get_model, list_models
from src.versions import read_metadata

__all__ = ["READERS", "feed"]

Reader = Callable[[bytes, Path], object]


def _at(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _metadata(data: bytes, folder: Path) -> object:
    _at(folder / "model_v1/metadata.json", data)
    return read_metadata("model_v1", folder)


def _evaluation(data: bytes, folder: Path) -> object:
    _at(folder / "model_v1/evaluation.json", data)
    return load_evaluation("model_v1", folder)


def _dataset(data: bytes, folder: Path) -> object:
    _at(folder / "dataset_v1/data.jsonl", b"{}\n{}\n")
    _at(folder / "dataset_v1/metadata.json", data)
    return resolve_dataset("dataset_v1", folder)


READERS: dict[str, tuple[Reader, tuple[type[Exception], ...]]] = {
    "config": (lambda data, folder: parse_training_config(data, "c.yaml"), (ConfigError,)),
    "json": (lambda data, folder: parse_json(data, Path("f.json")), (CorruptFileError,)),
    "registry": (
        lambda data, folder: list_models(_at(folder / "registry.json", data)),
        (CorruptFileError,),
    ),
    "model": (
        lambda data, folder: get_model("model_v2", _at(folder / "registry.json", data)),
        (CorruptFileError, ModelNotFoundError),
    ),
    "metadata": (_metadata, (CorruptFileError,)),
    "evaluation": (_evaluation, (CorruptFileError,)),
    "provenance": (
        lambda data, folder: parse_provenance(data, Path("provenance.json")),
        (CorruptFileError,),
    ),
    "dataset": (_dataset, (CorruptFileError, DatasetMismatchError)),
}
"""What reads bytes, by name, and all that it may raise however they came to be."""


def feed(reader: str, data: bytes, folder: Path) -> object:
    """Give a reader `data`, in a file below `folder` where it reads one.

    Returns:
        What the reader gives, or the documented exception that it raised.
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
            _at(folder / f"{reader}-{number}", bytes([reader]) + data)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the readers, guided by coverage.")
    parser.add_argument("readers", nargs="*", metavar="reader", help=f"of {', '.join(READERS)}")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", help="folder of inputs; new ones are added to it")
    options = parser.parse_args()
    readers = options.readers or list(READERS)
    if unknown := set(readers) - set(READERS):
        parser.error(f"no reader {', '.join(sorted(unknown))}: choose from {', '.join(READERS)}")
    try:
        import atheris  # type: ignore[import-not-found]
    except ImportError:
        parser.error("atheris is not installed: pip install atheris")

    with tempfile.TemporaryDirectory() as folder:

        def one(data: bytes) -> None:
            if data:  # the first byte chooses the reader
                feed(readers[data[0] % len(readers)], data[1:], Path(folder))

        for name in [name for name in sys.modules if name.split(".")[0] in ("src", "yaml", "json")]:
            del sys.modules[name]  # to be imported again, now with its coverage measured
        with atheris.instrument_imports(include=["src", "yaml", "json"]):
            from tests.torture.fuzz import feed
        words = [options.corpus or str(_seeds(Path(folder, "seeds"), len(readers)))]
        words += [f"-max_total_time={options.seconds}", "-timeout=5", "-rss_limit_mb=500"]
        atheris.Setup([sys.argv[0], *words, "-max_len=4096", "-len_control=0"], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
