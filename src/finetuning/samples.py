"""The lines of a data.jsonl as samples: a prompt, and the completion that a model learns."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from src.errors import truncated_repr

__all__ = ["EncodedSample", "Sample", "Template", "encode_sample", "is_held_out", "read_samples"]

MAX_SHOWN = 10  # fields of a line that an error names
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # which JSON can have, and no text
_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


class Template:
    """Text with fields of a line, such as `{input}`; `{{` and `}}` are braces.

    Raises:
        ValueError: A brace is not part of a field.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        for part in _PART.finditer(text):
            if len(part[0]) == 1:
                raise ValueError(
                    f"expected fields such as '{{input}}', found {part[0]!r} at character "
                    f"{part.start() + 1} of {truncated_repr(text)}. Write `{{{{` or `}}}}` for a "
                    "brace."
                )

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the text with the values of its fields.

        Raises:
            ValueError: A field is missing, or is not text that can be encoded; names the field.
        """

        def value(part: re.Match[str]) -> str:
            name = part[1]
            if name is None:
                return part[0][0]
            if name not in values:
                names = [truncated_repr(each) for each in islice(values, MAX_SHOWN)]
                more = ", ..." if len(values) > MAX_SHOWN else ""
                found = ", ".join(names) or "none"
                raise ValueError(f"no field {name!r}. Found: {found}{more}.")
            if not isinstance(values[name], str):
                found = truncated_repr(values[name])
                raise ValueError(f"field {name!r}: expected text, found {found}.")
            if _LONE_SURROGATE.search(values[name]):
                raise ValueError(f"field {name!r}: has an escape that is half of a character.")
            return str(values[name])

        return _PART.sub(value, self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One line of a data.jsonl.

    Attributes:
        line: Its number, from 1.
        prompt: What the model is given.
        completion: What it learns to continue with.
        is_held_out: Whether it is kept out of the training.
    """

    line: int
    prompt: str
    completion: str
    is_held_out: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSample:
    """The tokens of a sample.

    Attributes:
        line: The number of its line.
        tokens: Those of the prompt, of the completion, and the one that ends a text.
        prompt_length: The number of tokens of the prompt.
        is_cut: Whether further tokens were cut off.
    """

    line: int
    tokens: Sequence[int]
    prompt_length: int
    is_cut: bool


def read_samples(
    path: Path, *, prompt: Template, completion: Template, held_out: float
) -> Iterator[Sample]:
    """Read the samples of a data.jsonl.

    Args:
        path: The file.
        prompt: Makes the prompt of a line.
        completion: Makes the completion of a line.
        held_out: The fraction of the lines to hold out; see `is_held_out`.

    Raises:
        ValueError: A line is not a JSON object, or lacks a field; names the line.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                values = _parse(line)
                yield Sample(
                    line=number,
                    prompt=prompt.fill(values),
                    completion=completion.fill(values),
                    is_held_out=is_held_out(line, held_out),
                )
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from error


def _parse(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        text = line.decode(errors="replace").strip()
        raise ValueError(f"expected a JSON object, found {truncated_repr(text)}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object, found {truncated_repr(values)}.")
    return values


def is_held_out(line: bytes, fraction: float) -> bool:
    """Return whether a line belongs to the held-out part of a dataset.

    This depends on the bytes of the line alone: equal lines are all held out or none of them, and
    other lines do not change it.

    Args:
        line: The line; its end does not count.
        fraction: The part of all lines that is held out on average, from 0, below 1.
    """
    digest = sha256(line.rstrip(b"\r\n")).hexdigest()
    return int(digest[:13], 16) / 16**13 < fraction


def encode_sample(
    sample: Sample, encode: Callable[[str, bool], list[int]], *, end: int, max_length: int
) -> EncodedSample:
    """Return the tokens of a sample.

    Args:
        sample: The sample.
        encode: Returns the tokens of a text; with `True`, also those that begin a text.
        end: The token that ends a text.
        max_length: The most tokens of a sample; further ones are cut off.

    Raises:
        ValueError: No token of the completion is left.
    """
    prompt, completion = encode(sample.prompt, True), encode(sample.completion, False)
    if len(prompt) >= max_length:
        raise ValueError(
            f"line {sample.line}: its prompt has {len(prompt):,} tokens, and max_length "
            f"{max_length:,} leaves none for the completion. Raise max_length, or remove the line."
        )
    tokens = [*prompt, *completion, end]
    return EncodedSample(
        line=sample.line,
        tokens=tokens[:max_length],
        prompt_length=len(prompt),
        is_cut=len(tokens) > max_length,
    )
