"""Check of what trainers and evaluators of configs need: an interpreter, a module, a program."""

import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from shutil import which

from src.components.child import GROUPS
from src.components.component import COMMAND, Component
from src.components.process import missing_interpreter
from src.diagnosis.finding import Finding, ok, warning
from src.rendering.text import truncated_list
from src.training.config import read_config_file

__all__ = ["check_configs", "missing_code"]

CORRECT = "Correct the config, or install what it names."


def check_configs(folder: Path) -> Iterator[Finding]:
    """Check whether the configs below a folder can run here.

    Nothing is imported, so a component that is found can still fail.

    Yields:
        A warning for each reason why configs cannot run, or one finding that all can.
    """
    paths = sorted(folder.rglob("*.yaml"))
    by_reason: dict[str, dict[str, None]] = {}
    for path in paths:
        for reason in _reasons(path):
            by_reason.setdefault(reason, {})[path.name] = None
    for reason, names in by_reason.items():
        yield warning("configs", f"{truncated_list(names)}: {reason}")
    if not paths:
        yield ok("configs", f"no configs in {folder.absolute()}.")
    elif not by_reason:
        yield ok("configs", f"{len(paths)} in {folder}, all can run here.")


def _reasons(path: Path) -> Iterator[str]:
    try:
        config_file = read_config_file(path)
    except (OSError, ValueError) as error:
        yield str(error).splitlines()[0]
        return
    for kind, component in config_file.components.items():
        if reason := missing_code(component, kind):
            yield reason


def missing_code(component: Component, kind: str) -> str | None:
    """Return why a component cannot run here; `None` if nothing is seen to be missing.

    Args:
        component: The component.
        kind: `trainer` or `evaluator`.
    """
    from importlib.metadata import entry_points  # slow to import

    if reason := missing_interpreter(component):
        return reason
    if component.use == COMMAND:
        if which(component.argv[0]) is None:
            return f"{kind}.argv: found no program {component.argv[0]!r}. {CORRECT}"
    elif component.execution.python is not None:
        return None  # in another environment
    elif ":" in component.use:
        module = component.use.partition(":")[0]
        if not _is_found(module):
            return f"{kind}.use: found no module {module!r}. {CORRECT}"
    elif component.use not in entry_points(group=GROUPS[kind]).names:
        return f"{kind}.use: found no installed component {component.use!r}. {CORRECT}"
    return None


def _is_found(module: str) -> bool:
    """Return whether a module exists; imports nothing."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return True
    folders = [str(Path.cwd()), *sys.path]
    for name in module.split("."):
        spec = PathFinder.find_spec(name, folders)
        if spec is None:
            return False
        folders = list(spec.submodule_search_locations or [])
    return True
