"""The command `doctor`."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from cli.options import artifacts_option, check_working_directory, json_option
from cli.terminal import print_json, print_line
from src.artifacts import Artifacts
from src.diagnosis.configs import check_configs
from src.diagnosis.datasets import check_datasets
from src.diagnosis.environment import (
    extras_finding,
    locked_packages,
    packages_finding,
    python_finding,
)
from src.diagnosis.finding import Finding, fault, run_check
from src.diagnosis.root import check_root
from src.environment import installed_packages
from src.storage import read_file
from src.training.config import CONFIGS

__all__ = ["doctor"]

PROJECT = Path(__file__).parents[1]
LOCK = "requirements/main.lock"
LOCK_LIMIT = 1 << 24  # bytes
SECONDS = 30.0
COLOURS = {"OK": "green", "WARNING": "yellow", "FAULT": "red"}


@click.command()
@artifacts_option(click.Path())
@json_option
def doctor(artifacts_dir: str, as_json: bool) -> None:
    """Check whether this set-up is sound.

    Checks Python and its packages, the artifacts root, the datasets, the configs, Prefect's
    settings, and the server, deployments and workers if a server is configured. Prints a line for
    each: OK, WARNING or FAULT, what was found, and what to do. Writes a file in the artifacts root,
    and removes it. Exits with 1 if there is a fault.
    """
    findings = []
    for finding in _findings(artifacts_dir):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.level == "FAULT" for finding in findings):
        raise SystemExit(1)


def _findings(artifacts_dir: str) -> Iterator[Finding]:
    yield python_finding(sys.version_info[:2])
    yield from run_check(SECONDS, "packages", _packages)
    is_usable = True
    for finding in check_root(artifacts_dir):
        yield finding
        is_usable = is_usable and (finding.check, finding.level) != ("artifacts root", "FAULT")
    configs = CONFIGS / "training"
    if is_usable:
        yield from run_check(
            SECONDS, "datasets", lambda: check_datasets(Artifacts.open(artifacts_dir), configs)
        )
    yield from run_check(SECONDS, "configs", lambda: check_configs(configs))
    try:
        check_working_directory(artifacts_dir)  # Prefect reads settings there
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a circle of links
        yield fault("prefect", f"not checked. {error}")
        return
    from ops.doctor import check_prefect  # slow to import

    yield from check_prefect(lambda: click.echo("Loading Prefect ...", err=True))


def _packages() -> list[Finding]:
    installed = installed_packages(sys.path)
    lock = (read_file(PROJECT / LOCK, LOCK_LIMIT) or b"").decode(errors="replace")
    return [
        packages_finding(locked_packages(lock), installed),
        extras_finding(installed, PROJECT),
    ]


def _print(finding: Finding) -> None:
    level = click.style(finding.level.ljust(7), fg=COLOURS[finding.level])
    text = f"{finding.check.ljust(14)}  {finding.found}"
    click.echo(f"{level}  ", nl=False)
    print_line(text if finding.action is None else f"{text} {finding.action}")
