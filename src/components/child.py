"""The child process of a component that is written in Python.

Imports only the standard library, so that the environment of a component needs no package of this
project. A component is a callable with these optional attributes:

- `version`: its version, for a component of a package. It identifies the code.
- `check_options(options)`: returns the options with their defaults; raises `ValueError`, with a
  message that starts with the name of an option.
- `base_model(config, options)`: of a trainer: the folder of the base model, or `None`.
- `measured`: of an evaluator: names of the metrics that are measured on the clock.
- `better`: of an evaluator: `higher` or `lower` by the name of a metric.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["FAULT_FILE", "METRICS_FILE", "RUN_VARIABLE", "plain_number", "serve", "write_json"]

RUN_VARIABLE = "LLM_TRAIN_RUN"
METRICS_FILE = "metrics.json"  # what an evaluator leaves in its output folder
FAULT_FILE = ".fault.json"  # why there is no METRICS_FILE, if the evaluator returned no metrics
GROUPS = {
    "trainer": "llm_training_pipeline.trainers",
    "evaluator": "llm_training_pipeline.evaluators",
}


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
    component = _load(kind, run)
    if component is None:
        return
    if run["describe"]:
        write_json(run["describe"], _describe(component, run))
        return
    try:
        call(component, run, points)
    except Exception as error:  # of the component: without the frames of this project
        trace = error.__traceback__
        while trace and trace.tb_frame.f_globals.get("__name__") in ("__main__", __name__):
            trace = trace.tb_next
        traceback.print_exception(error.with_traceback(trace))
        raise SystemExit(1) from None


def _load(kind: str, run: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return the component; `None` if the description has the reason why there is none."""
    try:
        component = _find(run["use"], GROUPS[kind])
        reason = f"expected a function, found {type(component).__name__}."
    except (ImportError, AttributeError, LookupError) as error:
        component, reason = None, f"{type(error).__name__}: {error}"
    if callable(component):
        return component  # type: ignore[no-any-return]
    if not run["describe"]:
        raise SystemExit(reason)
    write_json(run["describe"], {"error": reason})
    return None


def _find(use: str, group: str) -> Any:
    module, colon, path = use.partition(":")
    if colon:
        component: Any = importlib.import_module(module)
        for name in path.split("."):
            component = getattr(component, name)
        return component
    from importlib.metadata import entry_points  # slow to import, also for `write_json` alone

    installed = entry_points(group=group)
    if use not in installed.names:
        names = ", ".join(sorted(installed.names)) or "none"
        raise LookupError(f"not installed for {sys.executable}. Installed: {names}.")
    return installed[use].load()


def _describe(component: Callable[..., Any], run: Mapping[str, Any]) -> dict[str, Any]:
    options = run["options"]
    check = getattr(component, "check_options", None)
    if check is not None:
        try:
            options = check(dict(options))
        except ValueError as error:
            return {"faults": str(error).splitlines() or ["not valid."]}
    base_model = getattr(component, "base_model", None)
    folder = base_model(run["config"], dict(options)) if base_model else None
    version = getattr(component, "version", None)
    measured, better = getattr(component, "measured", ()), getattr(component, "better", {})
    if isinstance(measured, str) or not isinstance(measured, Iterable):
        return {"error": f"measured: expected a list of names, found {type(measured).__name__}."}
    if not isinstance(better, Mapping):
        return {"error": f"better: expected a dict, found {type(better).__name__}."}
    return {
        "options": dict(options),
        "version": None if version is None else str(version),
        "module": None if version is not None else _file_of(component),
        "base_model": None if folder is None else str(Path(folder).resolve()),
        "depends_on_config": base_model is not None,
        "measured": sorted(map(str, measured)),
        "better": {str(name): str(direction) for name, direction in better.items()},
    }


def _file_of(component: Callable[..., Any]) -> str | None:
    """Return the file of the module that defines a component."""
    module = getattr(component, "__module__", None) or type(component).__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else str(Path(file).resolve())
