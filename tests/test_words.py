"""The project is written in standard technical English: a list of words that it does not use."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "benchmarks",
    "cli",
    "configs",
    "docs",
    "examples",
    "flows",
    "ops",
    "src",
    "tasks",
    "tests",
)
KINDS = {".md", ".py", ".toml", ".yaml"}
FIXTURES = ROOT / "tests/fixtures"
FORMER_NAME = (
    "Tell of failed training runs"  # of an automation on servers, which ops.notify deletes
)

BANNED = {
    r"accuses?|accused": "differs from, contradicts",
    r"anew": "again",
    r"at odds": "differs from, does not match",
    r"at once": "immediately; at the same time",
    r"by itself": "automatically, alone",
    r"(give|gives|gave) back": "return",
    r"goes on|went on": "continue",
    r"knows?|knew": "contains, records, has",
    r"lends?|lent": "yield, open, acquire",
    r"mends?|mended": "fix, repair",
    r"nobody|somebody": "no process, another process, a user",
    r"of (its|their|your|our|one's) own": "separate, its",
    r"promises?|promised": "guarantee",
    r"shall": "must, will",
    r"stands?|stood": "is, remains",
    r"tells|told": "return, report, log",
    r"(tell|telling) of": "describe, report",
    r"vouch\w*": "attest",
    r"whatever|whoever|whosoever": "name the subject",
}
VERBS = r'"""(Give|Gives|Tell|Tells|Lend|Lends|Make sure|Does)\b'
PATTERN = re.compile("|".join(rf"\b(?:{words})\b" for words in BANNED), re.IGNORECASE)


def texts() -> Iterator[Path]:
    """Yield the files that people read."""
    yield from (path for path in ROOT.iterdir() if path.suffix in KINDS)
    yield ROOT / "Makefile"
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in KINDS and FIXTURES not in path.parents:
                yield path


def found(path: Path) -> Iterator[str]:
    """Yield each banned word of a file with its line; an underscore separates words."""
    if path == Path(__file__):
        return
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        spaced = line.replace("_", " ").replace(FORMER_NAME, "")
        for match in [*PATTERN.finditer(spaced), *re.finditer(VERBS, line)]:
            yield f"{path.relative_to(ROOT)}:{number}: {match[0]!r}"


def test_no_file_has_a_banned_word():
    paths = list(texts())
    assert len(paths) > 100
    assert [each for path in paths for each in found(path)] == []


def test_the_check_finds_banned_words_in_names_texts_and_docstrings(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "a.py"
    file.write_text('def test_the_user_is_told():\n    """Give it. Understand the standard."""\n')
    assert list(found(file)) == ["a.py:1: 'told'", 'a.py:2: \'"""Give\'']
