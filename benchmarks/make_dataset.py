"""Generate dataset versions of any size, in which every answer is correct.

The pipeline only reads datasets; the data platform creates them. But a checkout needs one to run
on, and a benchmark needs one of many gigabytes. Neither has to be downloaded: the same name, seed
and number of samples give the same bytes on every machine.

    python -m benchmarks.make_dataset dataset_v1 --samples 1000
    python -m benchmarks.make_dataset dataset_2gb --size 2GB --seed 3
"""

import argparse
import calendar
import filecmp
import hashlib
import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

__all__ = ["make_dataset"]

# Identifies the lines that each seed generates: raise the number if any of them changes.
_GENERATOR = "benchmarks.make_dataset/1"
_DATASETS_DIR = Path("artifacts/datasets")
_SEED = 1

# Only conversions with a finite decimal factor, so no answer is rounded.
_UNITS = [
    (source, Decimal(factor), target)
    for source, factor, target in re.findall(
        r"(\D+) ([\d.]+) (\D+); ",
        "miles 1.609344 kilometers; miles 5280 feet; feet 12 inches; feet 0.3048 meters; "
        "inches 2.54 centimeters; yards 0.9144 meters; nautical miles 1.852 kilometers; "
        "pounds 0.45359237 kilograms; pounds 16 ounces; grams 0.001 kilograms; acres 43560 "
        "square feet; US gallons 3.785411784 liters; milliliters 0.001 liters; hours 60 minutes; "
        "days 24 hours; weeks 7 days; kilowatt hours 3.6 megajoules; "
        "degrees Celsius 1.8 degrees Fahrenheit; degrees Celsius 1 kelvins; ",
    )
]
_AT_ZERO_CELSIUS = {"degrees Fahrenheit": Decimal(32), "kelvins": Decimal("273.15")}
# Written out, because strftime and calendar.month_name depend on the locale.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September"]
_MONTHS += ["October", "November", "December"]
_BASES = (("binary", "b"), ("octal", "o"), ("decimal", "d"), ("hexadecimal", "X"))
_ROMAN_DIGITS = [
    ("", i, i + i, i * 3, i + v, v, v + i, v + i + i, v + i * 3, i + x)
    for i, v, x in ("IVX", "XLC", "CDM")
]
_WORDS = [
    theme.split()
    for theme in (
        "apricot banana cherry lemon mango papaya peach pear plum raspberry strawberry",
        "badger beaver cheetah dolphin falcon giraffe hamster otter penguin rabbit squirrel",
        "anchor blanket candle compass hammer ladder lantern mirror needle pillow umbrella",
        "bridge canyon desert forest glacier harbor island meadow river summit valley volcano",
        "banjo cello clarinet drum flute harp oboe piano trombone trumpet tuba violin",
    )
]
# Cities with one offset all year, each with a different one.
_CITIES = [
    (f"{city} (UTC{sign}{hours}:{minutes})", int(sign + hours) * 60 + int(sign + minutes))
    for city, sign, hours, minutes in re.findall(
        r"(\D+)([+-])(\d\d):(\d\d) ",
        "Honolulu-10:00 Phoenix-07:00 Bogotá-05:00 La Paz-04:00 São Paulo-03:00 Accra+00:00 "
        "Lagos+01:00 Johannesburg+02:00 Nairobi+03:00 Dubai+04:00 Kabul+04:30 Mumbai+05:30 "
        "Kathmandu+05:45 Dhaka+06:00 Jakarta+07:00 Singapore+08:00 Tokyo+09:00 Brisbane+10:00 ",
    )
]

_T = TypeVar("_T")


@cache
def _split(phrases: str) -> list[str]:
    return phrases.split("|")


class _Draw(random.Random):
    """Random choices, from `random()` alone: Python guarantees the sequence of no other method."""

    def below(self, stop: int) -> int:
        return int(self.random() * stop)

    def pick(self, items: Sequence[_T]) -> _T:
        return items[int(self.random() * len(items))]

    def render(self, questions: str, answers: str, *values: object) -> tuple[str, str]:
        """Return one of the `|`-separated questions and one of the answers, with the values."""
        question, answer = self.pick(_split(questions)), self.pick(_split(answers))
        return question.format(*values), answer.format(*values)


def _unit_conversion(draw: _Draw) -> tuple[str, str]:
    source, factor, target = draw.pick(_UNITS)
    # Not a multiple of ten: so never "1 miles" and, with these factors, never "1 kilograms".
    amount = Decimal(10 * draw.below(999) + 11 + draw.below(9)).scaleb(-draw.below(2))
    found = _plain(amount * factor + _AT_ZERO_CELSIUS.get(target, 0))
    questions = "Convert {0} {1} to {3}.|What is {0} {1} in {3}?|How many {3} is {0} {1}?"
    answers = "{0} {1} is {2} {3}.|{0} {1} equals {2} {3}.|{2} {3}"
    return draw.render(questions, answers, _plain(amount), source, found, target)


def _plain(value: Decimal) -> str:
    return f"{value.normalize():,f}"


def _date_arithmetic(draw: _Draw) -> tuple[str, str]:
    kind, style, gap = draw.below(10), draw.below(3), 2 + draw.below(998)
    # From 1900 to 2102; ordinal 1 is a Monday.
    start = 693_596 + draw.below(73_000)
    early, late = _date(start, style), _date(start + gap, style)
    if kind < 3:
        questions = "What day of the week is {0}?|On which day of the week does {0} fall?"
        return draw.render(questions, "{0} is a {1}.|{1}", early, _WEEKDAYS[(start - 1) % 7])
    if kind < 6:
        questions = "How many days are there from {0} to {1}?|How many days after {0} is {1}?"
        return draw.render(questions, "{2} days|{1} is {2} days after {0}.", early, late, gap)
    if kind < 9:
        known, found, way = draw.pick(((early, late, "after"), (late, early, "before")))
        questions = "What is the date {0} days {1} {2}?|Which date falls {0} days {1} {2}?"
        return draw.render(questions, "{0} days {1} {2} is {3}.|{3}", gap, way, known, found)
    year = draw.pick((1800 + draw.below(1000), 1800 + 100 * draw.below(10)))
    answers = "Yes, {} is a leap year." if calendar.isleap(year) else "No, {} is not a leap year."
    return draw.render("Is {} a leap year?|Does February {} have 29 days?", answers, year)


def _date(ordinal: int, style: int) -> str:
    day = date.fromordinal(ordinal)
    if style == 0:
        return day.isoformat()
    month = _MONTHS[day.month - 1]
    return f"{month} {day.day}, {day.year}" if style == 1 else f"{day.day} {month} {day.year}"


def _integer_arithmetic(draw: _Draw) -> tuple[str, str]:
    kind, a, b = draw.below(5), 2 + draw.below(9998), 2 + draw.below(998)
    if kind == 0:
        questions = "Divide {:,} by {:,} and give the quotient and the remainder."
        answers = "The quotient is {2:,} and the remainder is {3:,}."
        return draw.render(questions, answers, a, b, a // b, a % b)
    if kind == 1:
        questions = "A warehouse holds {:,} crates of {:,} oranges each. How many oranges is that?"
        return draw.render(questions, "{0:,} * {1:,} = {2:,}|{2:,} oranges", a, b, a * b)
    sign, result = draw.pick((("+", a + b), ("-", a - b), ("*", a * b)))
    questions = "What is {:,} {} {:,}?|Calculate {:,} {} {:,}.|Work out {:,} {} {:,}."
    return draw.render(questions, "{0:,} {1} {2:,} = {3:,}|{3:,}", a, sign, b, result)


def _number_bases(draw: _Draw) -> tuple[str, str]:
    value, first = 2 + draw.below(64 << draw.below(13)), draw.below(4)
    (source, code), (target, wanted) = _BASES[first], _BASES[(first + 1 + draw.below(3)) % 4]
    questions = (
        "Convert {1} from {0} to {2}.|What is the {0} number {1} in {2}?|Write {0} {1} in {2}."
    )
    answers = "{1} in {0} is {3} in {2}.|{3}"
    return draw.render(
        questions, answers, source, format(value, code), target, format(value, wanted)
    )


def _roman_numerals(draw: _Draw) -> tuple[str, str]:
    number = 1 + draw.below(3999)
    ones, tens, hundreds = _ROMAN_DIGITS
    roman = "M" * (number // 1000) + hundreds[number // 100 % 10]
    roman += tens[number // 10 % 10] + ones[number % 10]
    if draw.below(2):
        questions = "Write {0} as a Roman numeral.|What is {0} in Roman numerals?"
        return draw.render(questions, "{0} is {1} in Roman numerals.|{1}", number, roman)
    questions = (
        "What number is the Roman numeral {0}?|Write the Roman numeral {0} in ordinary digits."
    )
    return draw.render(questions, "{0} is {1}.|{1}", roman, number)


def _percentages(draw: _Draw) -> tuple[str, str]:
    percent, whole = 1 + draw.below(95), 2 + draw.below(9998)
    if draw.below(2):
        part = _plain(Decimal(percent * whole).scaleb(-2))
        questions = "What is {0}% of {1:,}?|Calculate {0}% of {1:,}.|How much is {0}% of {1:,}?"
        return draw.render(questions, "{0}% of {1:,} is {2}.|{2}", percent, whole, part)
    price = Decimal(whole * (100 - percent)).scaleb(-2)
    questions = "A price of ${0:,} is cut by {1}%. What is the new price?|What is ${0:,} less {1}%?"
    return draw.render(questions, "The new price is ${2:,.2f}.|${2:,.2f}", whole, percent, price)


def _words(draw: _Draw) -> tuple[str, str]:
    kind, first, length = draw.below(3), draw.below(5), 1 + draw.below(3)
    words = [draw.pick(theme) for theme in (_WORDS * 2)[first : first + length + 2]]
    if kind == 0:
        questions = (
            "Sort these words alphabetically: {0}.|Put these words in alphabetical order: {0}."
        )
        return draw.render(questions, "{1}", ", ".join(words), ", ".join(sorted(words)))
    text, letter = " ".join(words[:length]), draw.pick("aeilnort")
    if kind == 1:
        questions = 'How many letters are there in "{0}"?|Count the letters in "{0}".'
        return draw.render(questions, '"{0}" has {1} letters.|{1}', text, len(text) - length + 1)
    questions = 'How many times does the letter "{0}" occur in "{1}"?'
    return draw.render(questions, "The answer is {2}.|{2}", letter, text, text.count(letter))


def _time_zones(draw: _Draw) -> tuple[str, str]:
    first, start = draw.below(len(_CITIES)), 5 * draw.below(7 * 24 * 12)
    here, offset = _CITIES[first]
    there, far_offset = _CITIES[(first + 1 + draw.below(len(_CITIES) - 1)) % len(_CITIES)]
    now, then = _clock(start), start + far_offset - offset
    if draw.below(2):
        questions = "It is {0} in {1}. What time is it in {2}?|{0} in {1} is what time in {2}?"
        return draw.render(questions, "It is {3}.|{3}", now, here, there, _clock(then))
    hours, minutes = 2 + draw.below(14), 5 + 5 * draw.below(11)
    questions = (
        "A job started in {0} at {1} takes {3} h {4} min. What time is it in {2} when it ends?"
    )
    ended = _clock(then + 60 * hours + minutes)
    return draw.render(questions, "It is {5}.|{5}", here, now, there, hours, minutes, ended)


def _clock(minute_of_week: int) -> str:
    day, minute = divmod(minute_of_week, 24 * 60)
    return f"{minute // 60:02}:{minute % 60:02} on {_WEEKDAYS[day % 7]}"


_FAMILIES: tuple[tuple[str, str, Callable[[_Draw], tuple[str, str]]], ...] = (
    ("unit", "synthetic/unit-conversion", _unit_conversion),
    ("date", "synthetic/date-arithmetic", _date_arithmetic),
    ("integer", "synthetic/integer-arithmetic", _integer_arithmetic),
    ("base", "synthetic/number-bases", _number_bases),
    ("roman", "synthetic/roman-numerals", _roman_numerals),
    ("percent", "synthetic/percentages", _percentages),
    ("words", "synthetic/words", _words),
    ("zone", "synthetic/time-zones", _time_zones),
)


def _lines(seed: int) -> Iterator[bytes]:
    """Yield the lines of a seed, without end: a smaller dataset is the start of a larger one."""
    draw, quote = _Draw(seed), json.JSONEncoder(ensure_ascii=False).encode
    for index in count():
        prefix, source, family = draw.pick(_FAMILIES)
        question, answer = family(draw)
        yield (
            f'{{"id": "{prefix}-{index:06}", "input": {quote(question)}, '
            f'"output": {quote(answer)}, "source": "{source}"}}\n'
        ).encode()


def make_dataset(
    name: str,
    *,
    samples: int | None = None,
    size: int | None = None,
    seed: int = _SEED,
    datasets_dir: Path = _DATASETS_DIR,
) -> Path:
    """Generate one dataset version, completely or not at all, and return its folder.

    A version that exists with the same content is left unchanged.

    Args:
        name: Name of the new folder below `datasets_dir`; receives data.jsonl and metadata.json.
        samples: Number of lines of data.jsonl. Either this or `size` is required.
        size: Size of data.jsonl in bytes; the file ends with the first line that reaches it.
        seed: Selects the lines; seeds that differ only in sign select the same lines.
        datasets_dir: Created if it is missing.

    Raises:
        FileExistsError: The version exists with other content. It is left as found.
        ValueError: `name` is not a valid name, or the amount is not exactly one number >= 1.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        rule = "1 to 128 letters, digits, '.', '_' and '-', starting with a letter or digit"
        raise ValueError(
            f"dataset version: expected {rule}, found {name!r}. Write e.g. dataset_v2."
        )
    amounts = [amount for amount in (samples, size) if amount is not None]
    if len(amounts) != 1 or amounts[0] < 1:
        raise ValueError(f"expected either samples or size, >= 1, found {samples=}, {size=}.")
    datasets_dir.mkdir(parents=True, exist_ok=True)
    target = datasets_dir / name
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=datasets_dir) as scratch:
        # One level deeper, so that the folder has the mode of mkdir, not the 0700 of mkdtemp.
        new = Path(scratch, name)
        new.mkdir()
        _write(new, seed, samples, size)
        try:
            new.rename(target)
        except OSError:
            # A rename replaces no folder that has files, even if it was created just now.
            if not target.exists():
                raise
            files = ["data.jsonl", "metadata.json"]
            if filecmp.cmpfiles(new, target, files, shallow=False)[0] != files:
                advice = "Choose another name, or remove that folder first."
                raise FileExistsError(
                    f"{target}: exists with other content. Left as found. {advice}"
                ) from None
    _sync(datasets_dir)
    return target


def _write(folder: Path, seed: int, samples: int | None, size: int | None) -> None:
    written = lines = 0
    digest = hashlib.sha256()
    with (folder / "data.jsonl").open("wb", buffering=1 << 20) as file:
        for line in islice(_lines(seed), samples):
            file.write(line)
            digest.update(line)
            lines += 1
            written += len(line)
            if size is not None and written >= size:
                break
    metadata = {
        "dataset_version": folder.name,
        "num_samples": lines,
        "config": {"generator": _GENERATOR, "samples": lines, "seed": seed},
        "dataset_hash": digest.hexdigest(),
    }
    text = json.dumps(metadata, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    (folder / "metadata.json").write_bytes(text.encode())
    for path in (folder / "data.jsonl", folder / "metadata.json", folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(I?)B", text.upper())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected e.g. 500MB, 2GB or 1.5GiB, found {text!r}")
    number, prefix, binary = found.groups()
    return int(Fraction(number) * (1024 if binary else 1000) ** " KMGT".index(prefix or " "))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Generate a dataset version of any size.")
    parser.add_argument("name", help="dataset version, e.g. dataset_v1")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--samples", type=int, help="number of samples")
    amount.add_argument(
        "--size", type=_size, help="stop at the first sample that reaches this size, e.g. 2GB"
    )
    parser.add_argument("--seed", type=int, default=_SEED, help="default: %(default)s")
    parser.add_argument("--datasets-dir", type=Path, default=_DATASETS_DIR)
    options = vars(parser.parse_args(arguments))
    try:
        folder = make_dataset(options.pop("name"), **options)
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2
    metadata = json.loads((folder / "metadata.json").read_bytes())
    samples, digest = metadata["num_samples"], metadata["dataset_hash"][:12]
    size = (folder / "data.jsonl").stat().st_size
    sys.stdout.write(f"{folder}: {samples:,} samples, {size:,} bytes, sha256:{digest}…\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
