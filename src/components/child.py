"""The child process of a component that is written in Python.

Imports only the standard library, so that the environment of a component needs no package of this
project. A component is a callable with these optional attributes:

- `version`: its version, for a component of a package. It identifies the code.
- `check_options(options)`: returns the options with their defaults; raises `ValueError`, with a
  message that starts with the name of an option.
- `base_model(config, options)`: of a trainer: the folder of the base model, or `None`. Raises as
  `check_options` does.
- `code`: paths of further files of its code.
- `measured`: of an evaluator: names of the metrics that are measured on the clock.
- `better`: of an evaluator: `higher` or `lower` by the name of a metric.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from typing import Any

__all__ = ["FAULT_FILE", "METRICS_FILE", "RUN_VARIABLE", "plain_number", "serve", "write_json"]

RUN_VARIABLE = "LLM_TRAIN_RUN"
METRICS_FILE = "metrics.json"  # what an evaluator leaves in its output folder
MAX_WRAPPERS = 50  # of decorators around one function
FAULT_FILE = ".fault.json"  # why there is no METRICS_FILE, if the evaluator returned no metrics
GROUPS = {
    "trainer": "llm_training_pipeline.trainers",
    "evaluator": "llm_training_pipeline.evaluators",
}


class _SourceLoader(SourceFileLoader):
    """Loads a module from its source, never from cached bytecode, and caches none.

    Python uses cached bytecode if the size of the source and its modification time, in whole
    seconds, match. After two edits within a second, it could run the first one while the second
    one is recorded.
    """

    def get_data(self, path: str) -> bytes:
        """Return the bytes of a source file; a file of bytecode is not found."""
        if not path.endswith(tuple(SOURCE_SUFFIXES)):
            raise FileNotFoundError(path)
        return super().get_data(path)

    def set_data(self, *_: object, **__: object) -> None:
        """Do nothing: no bytecode is cached."""


def _source_finder(folder: str) -> FileFinder:
    """Return a finder that loads the modules in a folder from their sources.

    For `sys.path_hooks`. Modules without a source are loaded as usual.

    Raises:
        ImportError: The folder is not one of user code: part of the standard library or of
            installed packages, or no folder. Python then uses its next hook.
    """
    path = Path(folder).resolve()
    if not path.is_dir() or _is_library(path):
        raise ImportError(folder)
    return FileFinder(
        folder,
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_SourceLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )


class _NotInstalledError(Exception):
    """Raised when no package has installed a component of a name."""


def plain_number(value: Any) -> Any:
    """Return the number in a value of a tensor library; any other value as it is."""
    return value.item() if hasattr(value, "item") else value


def write_json(path: str | Path, value: object) -> None:
    """Write a value to a JSON file atomically."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    text = json.dumps(value)
    temporary.unlink(missing_ok=True)
    with temporary.open("x", encoding="utf-8") as file:  # "x" follows no link
        file.write(text)
    temporary.replace(path)


def serve(kind: str, call: Callable[[Callable[..., Any], dict[str, Any], int], None]) -> None:
    """Describe or run the component that the run names.

    Args:
        kind: `trainer` or `evaluator`.
        call: Receives the component, the run, and the descriptor of the real stdout; runs it.
    """
    # What the component prints goes to the log; stdout has the points of the history.
    points = os.dup(1)
    os.dup2(2, 1)
    run = json.loads(Path(os.environ[RUN_VARIABLE]).read_bytes())
    sys.path.insert(0, str(Path.cwd()))
    sys.path_hooks.insert(0, _source_finder)
    sys.path_importer_cache.clear()
    component = _load(kind, run)
    if component is None:
        return
    if run["describe"]:
        modules = _modules(component, _module_and_path(run["use"], GROUPS[kind])[0])
        write_json(run["describe"], _describe(component, run, modules))
        return
    try:
        call(component, run, points)
    except Exception as error:  # of the component: without the frames of this project
        trace = error.__traceback__
        while trace and trace.tb_frame.f_globals.get("__name__") in ("__main__", __name__):
            trace = trace.tb_next
        traceback.print_exception(error.with_traceback(trace))
        first, *others = "".join(traceback.format_exception_only(error)).splitlines()
        if others:  # the last line that is printed is the reason in the message of the run
            sys.stderr.write(f"{first}\n")
        raise SystemExit(1) from None


def _load(kind: str, run: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return the component; `None` if the description has the reason why there is none."""
    try:
        component = _find(run["use"], GROUPS[kind])
        reason = f"expected a function, found {type(component).__name__}."
    except _NotInstalledError as error:
        component, reason = None, str(error)
    except (ImportError, AttributeError, LookupError) as error:
        component, reason = None, f"{type(error).__name__}: {error}"
    if callable(component):
        return component  # type: ignore[no-any-return]
    if not run["describe"]:
        raise SystemExit(reason)
    write_json(run["describe"], {"error": reason})
    return None


def _find(use: str, group: str) -> Any:
    module, path = _module_and_path(use, group)
    component: Any = importlib.import_module(module)
    for name in filter(None, path.split(".")):
        component = getattr(component, name)
    return component


def _module_and_path(use: str, group: str) -> tuple[str, str]:
    """Return the module that defines a component, and its path there."""
    module, colon, path = use.partition(":")
    if colon:
        return module, path
    from importlib.metadata import entry_points  # slow to import, also for `write_json` alone

    installed = entry_points(group=group)
    if use not in installed.names:
        names = ", ".join(sorted(installed.names)) or "none"
        raise _NotInstalledError(f"not installed for {sys.executable}. Installed: {names}.")
    return installed[use].module, installed[use].attr


def _describe(
    component: Callable[..., Any], run: Mapping[str, Any], modules: list[str]
) -> dict[str, Any]:
    options = run["options"]
    check, base_model = (getattr(component, name, None) for name in ("check_options", "base_model"))
    try:
        options = check(dict(options)) if check else options
        folder = base_model(run["config"], dict(options)) if base_model else None
    except ValueError as error:
        return {"faults": str(error).splitlines() or ["not valid."]}
    version = getattr(component, "version", None)
    measured, better = getattr(component, "measured", ()), getattr(component, "better", {})
    code = getattr(component, "code", ())
    for name, value, items in (("measured", measured, "names"), ("code", code, "paths")):
        if isinstance(value, str) or not isinstance(value, Iterable):
            found = type(value).__name__
            return {"error": f"{name}: expected a list of {items}, found {found}."}
    if not isinstance(better, Mapping):
        return {"error": f"better: expected a dict, found {type(better).__name__}."}
    return {
        "options": dict(options),
        "version": None if version is None else str(version),
        "modules": [] if version is not None else _code_files(modules, code),
        "base_model": None if folder is None else str(Path(folder).resolve()),
        "depends_on_config": base_model is not None,
        "measured": sorted(map(str, measured)),
        "better": {str(name): str(direction) for name, direction in better.items()},
    }


def _code_files(modules: Iterable[str], code: Iterable[Any]) -> list[str]:
    """Return the files of the modules and those of the attribute `code`, each once."""
    return [*dict.fromkeys([*modules, *(str(Path(str(each)).resolve()) for each in code)])]


def _modules(component: Any, used: str) -> list[str]:
    """Return the files of the module `used` and of the modules that define the component.

    A decorator or `functools.partial` returns an object of another module. The libraries that it is
    from are not code of the component.
    """
    names, part = [used], component
    while len(names) < MAX_WRAPPERS and callable(part):
        names.append(getattr(part, "__module__", None) or type(part).__module__)
        part = getattr(part, "__wrapped__", None) or getattr(part, "func", None)
    files: dict[str, None] = {}
    for name in names:
        file = getattr(sys.modules.get(str(name)), "__file__", None)
        if file is None:
            continue
        path = Path(file).resolve()
        if str(name).partition(".")[0] == used.partition(".")[0] or not _is_library(path):
            files[str(path)] = None
    return [*files]


def _is_library(path: Path) -> bool:
    """Return whether a file is part of the standard library, or of an installed package."""
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    return is_installed or path.is_relative_to(Path(os.__file__).resolve().parent)
