"""Description of a component: its checked options, its code, and what it declares."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from shutil import which
from threading import Lock
from typing import Any

from src.components.code import code_sha256
from src.components.component import COMMAND, Component
from src.components.process import interpreter, missing_interpreter, run_component
from src.components.work import temporary_folder
from src.digest import Digest
from src.errors import CorruptFileError, truncated_repr
from src.names import is_metric_name
from src.records.canonical import MAX_PART_DEPTH, is_deep, parse_json
from src.storage import open_file, read_file
from src.storage.memo import read_facts, write_facts

__all__ = [
    "ComponentError",
    "Description",
    "InputChangedError",
    "changed_files",
    "describe",
    "shared_descriptions",
]

DESCRIBE_SECONDS = 300.0  # to import a large library on a busy machine
DESCRIPTION_LIMIT = 1 << 20
MAX_FILES = 10_000
PIECE_BYTES = 1 << 20


class ComponentError(ValueError):
    """Raised when a component of a config cannot be used; names the line of the config."""


class InputChangedError(ValueError):
    """Raised when an input of a component changed after it was hashed for the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """A component, its code, and what it declares.

    Attributes:
        component: The component, with the checked options.
        version: The version that it declares; `None` if its files identify its code.
        code: SHA-256 by path of the files of its code.
        base_model: Size and SHA-256 by path of the files of the base model.
        measured: Metrics that are measured on the clock.
        better: `higher` or `lower` by metric.
        code_files: The files of its code, with the SHA-256 of each.
        base_model_files: The files of the base model, with the SHA-256 of each.
    """

    component: Component
    version: str | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    base_model: Mapping[str, Digest] = field(default_factory=dict)
    measured: tuple[str, ...] = ()
    better: Mapping[str, str] = field(default_factory=dict)
    code_files: Mapping[Path, str] = field(default_factory=dict, compare=False)
    base_model_files: Mapping[Path, str] = field(default_factory=dict, compare=False)

    def identity(self) -> dict[str, Any]:
        """Return the identity of the component and the digest of its code, as JSON."""
        return {**self.component.to_dict(), "code": code_sha256(self.version, self.code)}


def describe(
    component: Component, kind: str, source: str, config: Mapping[str, Any] | None = None
) -> Description:
    """Describe a component. A function is imported in a child process, and not called.

    Args:
        component: The component.
        kind: `trainer` or `evaluator`.
        source: The config that names it; used in errors.
        config: The five settings of the config, for a trainer.

    Raises:
        ComponentError: It is not installed, cannot be imported, or refuses its options; a pattern
            matches no file.
        OSError: A file of its code cannot be read.
    """
    fault = _Fault(component, kind, source)
    if component.use == COMMAND:
        described, files = {}, _argv_files(component)
    else:
        described = _ask_once(component, kind, fault, config or {})
        files = [Path(module) for module in described["modules"]]
    for pattern in component.code:
        files += _matching(pattern, "code", fault)
    # A missing program is reported when it is started, with a better message.
    is_found = component.use != COMMAND or which(component.argv[0]) is not None
    if not files and described.get("version") is None and is_found:
        key, of_argv = (
            ("argv", f" of argv {list(component.argv)}") if component.argv else ("use", "")
        )
        raise fault(
            key,
            f"no file{of_argv} was found in {Path.cwd()}. Correct it, or name the files of "
            "its code with `code: [...]`.",
        )
    base_model = {
        _recorded_name(file): file
        for pattern in component.base_model
        for file in _matching(pattern, "base_model", fault)
    }
    if described.get("base_model") is not None:
        base_model |= _folder_files(described["base_model"], component, fault)
    if len(files) + len(base_model) > MAX_FILES:
        found_files = f"{len(files):,} of its code and {len(base_model):,} of the base model"
        raise fault("code", f"expected at most {MAX_FILES:,} files, found {found_files}.")
    options = described.get("options", component.options)
    if is_deep(options, MAX_PART_DEPTH):
        raise fault("options", f"nested in more than {MAX_PART_DEPTH} levels.")
    # The key of an error about a file of the code.
    key = next((key for key in ("code", "argv") if key in component.lines), "use")
    code = _digests(files, _digest, key, fault)
    base = _digests(base_model.values(), _digest_once, "base_model", fault)
    return Description(
        component=replace(component, options=options),
        version=described.get("version"),
        code={name: code[path].sha256 for name, path in _recorded_names(code).items()},
        base_model={name: base[path] for name, path in base_model.items()},
        measured=tuple(described.get("measured", component.measured)),
        better=described.get("better", component.better),
        code_files={path: digest.sha256 for path, digest in code.items()},
        base_model_files={path: digest.sha256 for path, digest in base.items()},
    )


def changed_files(files: Mapping[Path, str]) -> dict[Path, str]:
    """Return how files differ from the given SHA-256; unchanged files are left out.

    Raises:
        OSError: A file cannot be read.
    """
    changed = {}
    for path, expected in files.items():
        try:
            found = _digest_once(path).sha256
        except FileNotFoundError:
            changed[path] = "deleted"
        else:
            if found != expected:
                changed[path] = f"changed from sha256 {expected} to {found}"
    return changed


class _Fault:
    """Creates errors that name the line of a key of a component."""

    def __init__(self, component: Component, kind: str, source: str) -> None:
        self._lines = component.lines
        self._kind, self._source = kind, source

    def __call__(self, key: str, reason: str) -> ComponentError:
        line = self._lines.get(key) or self._lines.get(key.partition(".")[0])
        place = self._source if line is None else f"{self._source}:{line}"
        return ComponentError(f"{place}: {self._kind}.{key}: {reason}")


# --- Files ---------------------------------------------------------------------------------------


def _argv_files(component: Component) -> list[Path]:
    """Return the files below the working directory that the arguments of a command name."""
    here = Path.cwd().resolve()
    found = []
    for each in component.argv:
        try:
            path = here / each
            if path.is_file() and path.resolve().is_relative_to(here):
                found.append(path)
        except (OSError, ValueError):  # no path, such as a program for `python -c`
            continue
    return found


def _matching(pattern: str, key: str, fault: _Fault) -> list[Path]:
    try:
        found = sorted(path for path in Path.cwd().glob(pattern) if path.is_file())
    except (ValueError, IndexError, NotImplementedError) as error:
        raise fault(key, f"expected a pattern, found {truncated_repr(pattern)}.") from error
    if not found:
        raise fault(key, f"no file matches {truncated_repr(pattern)} in {Path.cwd()}.")
    return found


def _recorded_name(path: Path) -> str:
    """Return a path relative to the working directory; the file name if it is elsewhere."""
    here = Path.cwd().resolve()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


def _recorded_names(paths: Iterable[Path]) -> dict[str, Path]:
    """Return paths by recorded name; of equal file names, the later ones with their folders."""
    found: dict[str, Path] = {}
    for path in paths:
        name, parts = _recorded_name(path), list(path.parts[:-1])
        while name in found and parts:
            name = f"{parts.pop().strip('/')}/{name}"
        found[name] = path
    return found


def _folder_files(folder: str, component: Component, fault: _Fault) -> dict[str, Path]:
    """Return the files of the base model in the folder that a trainer names, by path there."""
    reason = f"{component.use!r}: base_model: expected a folder with files, found {folder!r}"
    try:
        all_files = (path for path in Path(folder).rglob("*") if path.is_file())
        found = sorted(islice(all_files, MAX_FILES + 1))
    except (OSError, ValueError) as error:
        raise fault("use", f"{reason} ({error}).") from error
    if not found:
        raise fault("use", f"{reason}, which has none.")
    return {path.relative_to(folder).as_posix(): path for path in found}


def _digests(
    paths: Iterable[Path], digest: Callable[[Path], Digest], key: str, fault: _Fault
) -> dict[Path, Digest]:
    digests = {}
    for path in paths:
        try:
            str(path).encode()
            digests[path] = digest(path)
        except UnicodeEncodeError as error:
            raise fault(key, f"{str(path)!r}: expected a file name in UTF-8.") from error
        except ValueError as error:  # not a regular file, or a sparse one
            raise fault(key, str(error)) from error
    return digests


def _digest(path: Path) -> Digest:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
    with open_file(path).open() as file:
        while read := file.readinto(buffer):
            digest.update(buffer[:read])
        return Digest(size=file.stat.size, sha256=digest.hexdigest())


def _digest_once(path: Path) -> Digest:
    """Return size and SHA-256 of a file, from a memo if it is unchanged since it was hashed."""
    store_path = open_file(path)
    file, memo = store_path.stat(), store_path.memo()
    if file is None or file.identity is None:
        return _digest(path)
    known = read_facts(memo, file.identity)
    if len(known) in (1, 2):  # of a dataset: its number of lines before the SHA-256
        return Digest(size=file.size, sha256=known[-1])
    digest = _digest(path)
    write_facts(memo, file.identity, digest.sha256)
    return digest


# --- Components in Python ------------------------------------------------------------------------


@dataclass(slots=True)
class _Answer:
    """The description that a component has returned.

    Attributes:
        lock: Held while the component is imported.
        found: The description; `None` before the first one, and if it depends on the config.
        modules: State of the files of its modules when it was imported.
        is_shared: Whether the description is the same for all configs.
    """

    lock: Lock = field(default_factory=Lock)
    found: dict[str, Any] | None = None
    modules: tuple[int, ...] = ()
    is_shared: bool = True


_ANSWERS: ContextVar[dict[tuple[str, ...], _Answer] | None] = ContextVar("answers", default=None)


@contextmanager
def shared_descriptions() -> Iterator[None]:
    """Import each component once in the block, also in threads with its context.

    A component is imported again if the file of one of its modules has changed.
    """
    token = _ANSWERS.set({})
    try:
        yield
    finally:
        _ANSWERS.reset(token)


def _ask_once(
    component: Component, kind: str, fault: _Fault, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the description of a component; imported once in `shared_descriptions`."""
    if (answers := _ANSWERS.get()) is not None:
        options = json.dumps(dict(component.options), sort_keys=True)
        key = (kind, component.use, interpreter(component), options)
        answer = answers.setdefault(key, _Answer())
        with answer.lock:
            if answer.found is not None and answer.modules == _state(answer.found["modules"]):
                return answer.found
            if answer.is_shared:
                found = _ask(component, kind, fault, config)
                answer.is_shared = not found["depends_on_config"]
                if answer.is_shared:
                    answer.found, answer.modules = found, _state(found["modules"])
                return found
    return _ask(component, kind, fault, config)


def _state(modules: Iterable[str]) -> tuple[int, ...]:
    state: list[int] = []
    for module in modules:
        try:
            status = Path(module).stat()
        except OSError:  # deleted; the import reports it with a better message
            return ()
        state += status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return tuple(state)


def _ask(
    component: Component, kind: str, fault: _Fault, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Import a component in its environment, and return its description."""
    if reason := missing_interpreter(component):
        raise fault("python", reason)
    with temporary_folder() as folder:
        answer = folder / "description.json"
        try:
            run_component(
                component,
                kind,
                {"describe": str(answer), "config": dict(config)},
                folder=folder,
                is_temporary=True,
                timeout_seconds=DESCRIBE_SECONDS,
                on_line=lambda *_: None,
            )
        except (OSError, ValueError) as error:
            raise fault("use", f"{component.use!r} cannot be described.\n{error}") from error
        data = read_file(answer, DESCRIPTION_LIMIT)
    if data is None:
        raise fault("use", f"{component.use!r}: {interpreter(component)} wrote no description.")
    return _checked(data, component, fault)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_object_of_texts(value: object) -> bool:
    return isinstance(value, dict) and _is_list_of_texts([*value.values()])


def _is_text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


_Form = dict[str, tuple[str, Callable[[Any], bool]]]
_FAULTS: _Form = {
    "faults": ("a list of texts", lambda value: bool(value) and _is_list_of_texts(value)),
}
_FORM: _Form = {
    "options": ("an object", _is_object),
    "version": ("text or null", _is_text_or_null),
    "modules": ("a list of texts", _is_list_of_texts),
    "base_model": ("text or null", _is_text_or_null),
    "depends_on_config": ("true or false", lambda value: isinstance(value, bool)),
    "measured": ("a list of texts", _is_list_of_texts),
    "better": ("an object of texts", _is_object_of_texts),
}
"""The form of each key of a description, which the code of a component can write itself."""


def _checked(data: bytes, component: Component, fault: _Fault) -> dict[str, Any]:
    try:
        found = parse_json(data, "description")
    except CorruptFileError as error:
        raise fault("use", f"{component.use!r}: {error}") from error
    if "error" in found:
        raise fault("use", f"{component.use!r}: {found['error']}")
    form = _FAULTS if "faults" in found else _FORM
    for key, (expected, is_valid) in form.items():
        if key not in found or not is_valid(found[key]):
            value = truncated_repr(found[key]) if key in found else "nothing"
            reason = f"its description: {key}: expected {expected}, found {value}."
            raise fault("use", f"{component.use!r}: {reason}")
    if "faults" in found:
        faults = [_option_fault(each, component, fault) for each in found["faults"]]
        raise ComponentError("\n".join(map(str, faults)))
    better = found["better"]
    for name in [*found["measured"], *better]:
        if not is_metric_name(name):
            reason = f"expected names of metrics, found {truncated_repr(name)}."
            raise fault("use", f"{component.use!r}: measured, better: {reason}")
    for name, direction in better.items():
        if direction not in ("higher", "lower"):
            raise fault(
                "use",
                f"{component.use!r}: better: {truncated_repr(name)}: expected 'higher' or 'lower', "
                f"found {truncated_repr(direction)}.",
            )
    if not found["version"] and not found["modules"]:
        raise fault("use", f"{component.use!r} has neither a file nor a version.")
    return found


def _option_fault(message: str, component: Component, fault: _Fault) -> ComponentError:
    name, colon, _ = message.partition(":")
    is_option = bool(colon) and (name in component.options or name.isidentifier())
    if is_option:
        return fault(f"options.{name}", message[len(name) + 1 :].strip())
    return fault("options", message)
