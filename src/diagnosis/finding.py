"""A finding of a check, and a check that always ends, with a finding."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from src.rendering.text import one_line

__all__ = ["Finding", "Level", "fault", "ok", "run_check", "warning"]

Level = Literal["OK", "WARNING", "FAULT"]
CHECK_IT = "Correct this, or check whether its disk or its server answers."


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check has found.

    Attributes:
        check: The checked thing, e.g. `registry`.
        level: OK; WARNING if something works, but perhaps not as intended; FAULT if something that
            runs need does not work.
        found: One sentence.
        action: What to do; `None` if nothing.
    """

    check: str
    level: Level
    found: str
    action: str | None = None


def ok(check: str, found: str, action: str | None = None) -> Finding:
    """Return a finding of something that is as it should be."""
    return Finding(check=check, level="OK", found=found, action=action)


def warning(check: str, found: str, action: str | None = None) -> Finding:
    """Return a finding of something that works, but perhaps not as intended."""
    return Finding(check=check, level="WARNING", found=found, action=action)


def fault(check: str, found: str, action: str | None = None) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(check=check, level="FAULT", found=found, action=action)


def run_check(
    seconds: float,
    check: str,
    run: Callable[[], Iterable[Finding]],
    *,
    place: str = "",
    action: str = CHECK_IT,
) -> list[Finding]:
    """Run a check; return its findings, or a fault if it raises or does not end in time.

    A check that hangs, e.g. on a file system that does not answer, is left in a thread that ends
    with the process.

    Args:
        seconds: The time limit.
        check: The checked thing.
        run: Returns the findings.
        place: Where the check looks, e.g. a URL; named by a fault.
        action: What to do about a fault.
    """
    prefix = f"{place}: " if place else ""
    findings: list[Finding] = []

    def work() -> None:
        try:
            findings.extend(run())
        except (OSError, ValueError) as error:
            findings.append(fault(check, prefix + _text(error), action))
        except Exception as error:
            found = f"{prefix}{type(error).__name__}: {_text(error)}"
            findings.append(fault(check, found, action))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return [*findings, fault(check, f"{prefix}no result after {seconds:g} s.", action)]
    return findings


def _text(error: BaseException) -> str:
    """Return the first lines of a message as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = one_line(" ".join(lines[:3]))[:600] or "no message"
    return text if text.endswith(".") else f"{text}."
