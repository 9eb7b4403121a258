"""The pages of the documentation as a reader uses them: their code blocks, and a terminal.

| block | what a reader does |
|---|---|
| `sh` | runs it; it must succeed |
| `console` | runs the lines after `$`; the output must be as printed |
| `python` | runs it |
| any language with a title that is a path | writes the file |
| `sh` with another title | see the test that `RUN_ELSEWHERE` names |
| `text`, and `yaml` without a title | looks at it |

In the output of a console block, `...` matches any text, and digests, ids, times and versions of
Python match any other.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.checkout import ROOT

__all__ = [
    "DOCS",
    "RUN_ELSEWHERE",
    "Block",
    "Terminal",
    "blocks",
    "files",
    "follow",
]

DOCS = ROOT / "docs"
RUN_ELSEWHERE = {
    "Every terminal": "tests/e2e/test_operations.py",
    "On another host": "tests/e2e_cloud/test_hosts.py",
    "Other terminal": "tests/e2e/test_operations.py",
    "Settings": "tests/e2e/test_operations.py",
    "Real training": "tests/test_makefile.py",  # make e2e-train trains tiny_lora
    "With a bucket": "tests/e2e_cloud/test_documents.py",
    "With make up": "tests/e2e/test_deployments.py",
}
"""Titles of blocks that `follow` leaves out, each with the test that runs them."""

FENCE = re.compile(r'^```(\S*)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
DIGEST = r"(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})"  # or the id of a run without Prefect
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
PYTHON = r"3\.\d+\.\d+"
VOLATILE = {
    **{rf"\b{pattern}\b": pattern for pattern in (DIGEST, UUID, TIME, PYTHON)},
    r"\.\.\.": r"(?:.|\n)*?",
}
END = "-- end of block --"


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A fenced code block.

    Attributes:
        page: The page, relative to docs/.
        line: The number of its first line.
        language: The word after the fence.
        title: Its title; empty without one.
        text: Its lines.
    """

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"docs/{self.page}:{self.line}"

    @property
    def is_file(self) -> bool:
        """Return whether the title is the path of a file."""
        return re.search(r"\.\w+$", self.title) is not None


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page in their order.

    Raises:
        AssertionError: A fence has another form than these.
    """
    text = (DOCS / page).read_text()
    found = [
        Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=match[1],
            title=match[2] or "",
            text=match[3],
        )
        for match in FENCE.finditer(text)
    ]
    assert 2 * len(found) == len(re.findall("^ *```", text, re.MULTILINE)), page
    return found


def files(page: str) -> dict[str, str]:
    """Return the files that a page prints, by path."""
    return {block.title: block.text for block in blocks(page) if block.is_file}


class Terminal:
    """A shell in which the blocks of a page are run one after the other.

    Args:
        folder: Where it starts.
        code: The checkout whose code the commands run; that of the environment if `None`.
        variables: Further variables of its environment, which has those of this process without
            Prefect's, and the commands of this project on its PATH.
    """

    def __init__(
        self, folder: Path, *, code: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if "PREFECT" not in key and not key.startswith(("MAKE", "LLM_TRAIN"))
        }
        self.env = inherited | {
            "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
            "COLUMNS": "200",
            **({"PYTHONPATH": str(code)} if code else {}),
            **(variables or {}),
        }
        self._script = folder.with_name(f"{folder.name}.block.sh")
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, commands: str) -> str:
        """Run commands, which must succeed; return their output."""
        return self._run(commands, "set -e; . {script} < /dev/null; set +e; code=0")[0]

    def try_to_run(self, commands: str) -> tuple[str, int]:
        """Run commands in a subshell; return their output and their exit code."""
        return self._run(commands, "code=0; (. {script} < /dev/null) || code=$?")

    def _run(self, commands: str, line: str) -> tuple[str, int]:
        # From a file, so that no command reads the following ones as its stdin.
        assert self._bash.stdin
        assert self._bash.stdout
        self._script.write_text(commands)
        self._bash.stdin.write(f'{line.format(script=self._script)}; echo "{END}$code"\n')
        self._bash.stdin.flush()
        output = ""
        for read in self._bash.stdout:
            before, end, code = read.partition(END)
            output += before
            if end:
                return output, int(code)
        raise AssertionError(f"{commands}\nended with {self._bash.wait()}:\n{output}")

    def folder(self) -> Path:
        """Return its working directory."""
        return Path(self.run("pwd").strip())

    def end(self) -> None:
        """Close the terminal."""
        assert self._bash.stdin
        self._bash.stdin.close()
        assert self._bash.wait(60) == 0

    def kill(self) -> None:
        """Kill the terminal."""
        self._bash.kill()
        self._bash.wait(60)


def follow(
    page: Iterable[Block],
    terminal: Terminal,
    values: Mapping[str, str] | None = None,
    *,
    is_output_compared: bool = True,
) -> Iterator[tuple[Block, str]]:
    """Do what the blocks of a page say, in order; yield each block that was run, and its output.

    Args:
        page: The blocks.
        terminal: Where they are run.
        values: Texts in place of those in angle brackets, e.g. `<address>`.
        is_output_compared: Whether the output of console blocks must be as printed; exit codes
            always must.
    """
    for block in page:
        text = block.text
        for placeholder, value in (values or {}).items():
            text = text.replace(placeholder, value)
        if block.is_file:
            path = terminal.folder() / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif block.title:
            assert block.title in RUN_ELSEWHERE, block
        elif block.language == "sh":
            yield block, terminal.run(text)
        elif block.language == "python":
            yield block, terminal.run(f"python - <<'END OF BLOCK'\n{text}END OF BLOCK\n")
        elif block.language == "console":
            for command, expected in _commands(text):
                output, code = terminal.try_to_run(command)
                is_error = any(line.startswith("error: ") for line in expected.splitlines())
                assert (code != 0) == is_error, f"{block}: {command}: exit code {code}\n{output}"
                is_equal = _pattern(expected).fullmatch(_stripped(output)) is not None
                assert is_equal or not is_output_compared, (
                    f"{block}: $ {command}\n--- on the page\n{expected}\n--- found\n{output}"
                )
                yield block, output
        else:
            assert block.language in ("text", "yaml"), block


def _commands(session: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console session, and the output that is printed below it."""
    assert session.startswith("$ "), session
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        size = next(n for n, line in enumerate(lines, 1) if not line.endswith("\\"))
        yield "\n".join(lines[:size]), "\n".join(lines[size:])


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def _pattern(expected: str) -> re.Pattern[str]:
    """Return a pattern of the outputs that are as this one, except in what changes every time."""
    tokens = re.compile("|".join(f"({each})" for each in VOLATILE))
    patterns = list(VOLATILE.values())
    pattern, end, text = "", 0, _stripped(expected)
    for match in tokens.finditer(text):
        pattern += re.escape(text[end : match.start()])
        assert match.lastindex
        pattern += patterns[match.lastindex - 1]
        end = match.end()
    return re.compile(pattern + re.escape(text[end:]))
