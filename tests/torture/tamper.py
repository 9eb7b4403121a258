"""Random damage to a record: `verify` reports it, and no reader hangs or uses much more memory.

    python -m tests.torture.tamper --rounds 20000 [--seed 0]

Each round applies one operator to one file below an artifacts root, reads the record in every way,
and restores the file. Stops at the first damage that is not named.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from src.artifacts import Artifacts
from src.lineage.compare import compare
from src.lineage.record import read_records
from src.lineage.trace import trace_model
from src.lineage.verify import verdict, verify_all
from src.records.canonical import canonical_json
from src.training.pipeline import run_training_pipeline
from src.training.registry import get_model, list_models
from tests.examples import CONFIG

__all__ = ["BYTES", "FILES", "VALUES", "main", "make_record", "tamper"]

SECONDS, WAIT_SECONDS = 5.0, 300.0
GROWTH_BYTES = 512 << 20
DOCUMENTED = (OSError, ValueError, LookupError)
UNCHECKED = {
    ("predicate", "runDetails", "metadata", name)
    for name in ("invocationId", "startedOn", "finishedOn")
}
"""Places in the statement of an evaluation that cannot be checked; see docs/security.md."""

VERSIONS = ("model_v1", "model_v2")
OTHER = {
    "model_v1": "model_v2",
    "model_v2": "model_v1",
    "dataset_v1": "dataset_v2",
    "dataset_v2": "dataset_v1",
}

# --- Operators on bytes --------------------------------------------------------------------------


def _flip(data: bytearray, at: int) -> bytearray:
    data[at] ^= 1 << (at % 8)
    return data


def _indented(data: bytearray, indent: int | None) -> bytes:
    return json.dumps(json.loads(data), indent=indent).encode()


BYTES: dict[str, Callable[[bytearray, int], bytes | bytearray]] = {
    "flip a bit": _flip,
    "remove a byte": lambda data, at: data[:at] + data[at + 1 :],
    "insert a byte": lambda data, at: data[:at] + b"0" + data[at:],
    "insert a null byte": lambda data, at: data[:at] + b"\0" + data[at:],
    "repeat a part": lambda data, at: data[:at] + data[at : at + 40] + data[at:],
    "truncate": lambda data, at: data[:at],
    "empty": lambda data, at: b"",
    "append a line end": lambda data, at: data + b"\n",
    "append the file": lambda data, at: data + data,
    "byte order mark": lambda data, at: b"\xef\xbb\xbf" + data,
    "other line ends": lambda data, at: data.replace(b"\n", b"\r\n"),
    "no line ends": lambda data, at: _indented(data, None),
    "other indentation": lambda data, at: _indented(data, 1),
    "upper case": lambda data, at: data.upper(),
    "escape a character": lambda data, at: data.replace(b"m", b"\\u006d", 1),
    "deep nesting": lambda data, at: b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "huge number": lambda data, at: data.replace(b"1", b"1" * 5000, 1),
}

# --- Operators on one value of a JSON file -------------------------------------------------------

Place = tuple[str | int, ...]

VALUES: dict[str, Callable[[Any, random.Random], Any]] = {
    "null": lambda value, rng: None,
    "text": lambda value, rng: f"{value}x",
    "long text": lambda value, rng: "x" * 1_000_000,
    "number": lambda value, rng: rng.randrange(-9, 9),
    "large number": lambda value, rng: 10**400,
    "fraction": lambda value, rng: rng.random(),
    "negation": lambda value, rng: not value,
    "list": lambda value, rng: [value],
    "object": lambda value, rng: {"a": value},
    "markup": lambda value, rng: "\x1b[2J[a](http://b)<img src=x>|`\u202e",
    "another file": lambda value, rng: {"models": []},
}


def _places(value: Any, place: Place = ()) -> Iterator[Place]:
    yield place
    items = value.items() if isinstance(value, dict) else []
    for key, each in enumerate(value) if isinstance(value, list) else items:
        yield from _places(each, (*place, key))


def _at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def _alter_value(data: bytes, name: str, rng: random.Random) -> bytes:
    content = {"": json.loads(data)}
    place = rng.choice(list(_places(content))[1:])
    parent = _at(content, place[:-1])
    parent[place[-1]] = VALUES[name](parent[place[-1]], rng)
    return canonical_json(content[""])


def _alter_items(data: bytes, name: str, rng: random.Random) -> bytes:
    content = json.loads(data)
    places = [p for p in _places(content) if isinstance(_at(content, p), dict | list)]
    items = _at(content, rng.choice(places))
    if isinstance(items, list):
        if name == "remove an item" and items:
            del items[rng.randrange(len(items))]
        elif name == "add an item":
            items.append(items[0] if items else 1)
        else:
            items.reverse()
    elif name == "remove an item" and items:
        del items[rng.choice(sorted(items))]
    elif name == "add an item":
        items["added"] = 1
    else:  # the key of one item, in another place
        items["renamed"] = items.pop(rng.choice(sorted(items))) if items else 1
    return canonical_json(content)


ITEMS = ("remove an item", "add an item", "move items")

# --- Operators on a file -------------------------------------------------------------------------


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _link(target: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


def _sparse(path: Path) -> None:
    if path.suffix == ".json":  # data.jsonl may have any size, and is read in pieces
        os.truncate(path, 1 << 40)


def _swap(path: Path) -> None:
    """Replace a file by the file of the same name of another model or dataset."""
    other = Path(*(OTHER.get(part, part) for part in path.parts))
    if other != path:
        shutil.copyfile(other, path)


FILES: dict[str, Callable[[Path], None]] = {
    "remove": lambda path: path.unlink(),
    "folder": _folder,
    "FIFO": _fifo,
    "socket": _socket,
    "dangling link": _link("none"),
    "circle of links": lambda path: _link(path.name)(path),
    "link to a device": _link("/dev/zero"),
    "link to the terminal": _link("/dev/tty"),
    "one tebibyte": _sparse,
    "file of another model": _swap,
}


# --- Rounds --------------------------------------------------------------------------------------


def make_record(folder: Path) -> Path:
    """Write a record of two models below `folder`, the working directory; return its root."""
    (folder / "config.yaml").write_text(CONFIG)
    for number, dataset in enumerate(("dataset_v1", "dataset_v2")):
        data = folder / "artifacts/datasets" / dataset
        data.mkdir(parents=True)
        (data / "data.jsonl").write_bytes(b"{}\n" * (3 + number))
        (data / "metadata.json").write_bytes(
            canonical_json({"dataset_version": dataset, "num_samples": 3 + number})
        )
    (folder / "two.yaml").write_text(CONFIG.replace("dataset_v1", "dataset_v2"))
    for version, config in zip(VERSIONS, ("config.yaml", "two.yaml"), strict=True):
        run_training_pipeline(folder / config, version, artifacts_dir=folder / "artifacts")
    return folder / "artifacts"


def tamper(root: Path, rng: random.Random) -> str:
    """Damage one file at random, check that the damage is named, and restore the file.

    Returns:
        The name of the operator; empty if it changed nothing.

    Raises:
        AssertionError: `verify` does not name the damage, or a reader fails, hangs or grows.
    """
    files = sorted(
        path for path in root.rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl")
    )
    path = rng.choice(files)
    before = path.read_bytes()
    name = rng.choice([*BYTES, *VALUES, *ITEMS, *FILES])
    place = f"{name}: {path.relative_to(root)}"
    try:
        after: bytes | None = None
        if name in FILES:
            FILES[name](path)
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20:
                after = path.read_bytes()
        else:
            with suppress(ValueError):  # an operator on JSON, and a file that is no JSON
                after = _altered(before, name, rng)
            if after is None or after == before:
                return ""
            path.write_bytes(after)
        if after == before:
            return ""
        with _limits(place):
            verdicts = _inspect(root)
        is_last = path.parent.parent.name == "evaluations" and path.name == "provenance.json"
        normalize = _blank if path.parent.parent.name == "evaluations" else _sort
        is_named = verdicts != {"MATCH"}
        assert is_named or _is_free(before, after, normalize), f"{place}: not named: {after!r}"
        # The only file without which a record is that of a run that was killed.
        is_unfinished = is_last and name == "remove"
        assert ("UNFINISHED" in verdicts) == is_unfinished, f"{place}: {verdicts}"
        return name
    finally:
        _restore(path, before)


def _altered(before: bytes, name: str, rng: random.Random) -> bytes:
    if name in BYTES:
        return bytes(BYTES[name](bytearray(before), rng.randrange(len(before))))
    return (_alter_items if name in ITEMS else _alter_value)(before, name, rng)


def _restore(path: Path, data: bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(data)


def _is_free(before: bytes, after: bytes | None, normalize: Callable[[Any], None]) -> bool:
    """Return whether two JSON files differ only in what `normalize` makes equal."""
    contents = []
    for data in (before, after or b""):
        try:
            content = json.loads(data)
            normalize(content)
        except (ValueError, LookupError, TypeError, AttributeError):
            return False
        contents.append((content, canonical_json(json.loads(data)) == data))
    return contents[0] == contents[1]


def _blank(statement: Any) -> None:
    """Empty the texts of a statement that cannot be checked."""
    for place in UNCHECKED:
        if not isinstance(_at(statement, place), str):
            raise TypeError(place)
        _at(statement, place[:-1])[place[-1]] = ""


def _sort(registry: Any) -> None:
    """Sort the entries of a registry, whose order cannot be checked."""
    registry["models"].sort(key=lambda model: model["model_version"])


def _inspect(root: Path) -> set[str]:
    """Read the record in every way; return the verdicts of `verify`."""
    verdicts = {verdict(checks) for _, checks in verify_all(root)}
    artifacts = Artifacts.open(root)
    for read in (
        lambda: list(read_records(artifacts)),
        lambda: list_models(artifacts.registry),
        lambda: get_model("model_v1", artifacts.registry),
        lambda: trace_model("model_v1", root),
        lambda: compare(*VERSIONS, artifacts_dir=root).to_markdown(everything=True),
    ):
        with suppress(*DOCUMENTED):
            read()
    return verdicts


@contextmanager
def _limits(place: str) -> Iterator[None]:
    """Raise if the block takes more than `SECONDS` of CPU, waits, or takes much more memory."""

    def hang(number: int, _: object) -> None:
        raise AssertionError(f"{place}: takes too long ({signal.Signals(number).name})")

    # A busy machine gives the block little CPU, so only a wait without an end is a matter of time.
    limits = (
        (signal.ITIMER_PROF, signal.SIGPROF, SECONDS),
        (signal.ITIMER_REAL, signal.SIGALRM, WAIT_SECONDS),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = [signal.signal(number, hang) for _, number, _ in limits]
    for timer, _, seconds in limits:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(limits, old, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert growth < GROWTH_BYTES, f"{place}: {growth:,} bytes more memory"


def main(argv: list[str] | None = None) -> int:
    """Run the rounds; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        root = make_record(Path(folder))
        done = Counter(tamper(root, rng) for _ in range(options.rounds))
        os.chdir("/")
    rows = [f"{done[name]:>6}  {name}" for name in (*BYTES, *VALUES, *ITEMS, *FILES)]
    count = options.rounds - done[""]
    summary = (
        f"{count:,} damages: each was reported, or changed only fields that cannot be checked."
    )
    sys.stdout.write("\n".join([*rows, summary, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
