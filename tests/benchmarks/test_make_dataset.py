"""The generator: the same bytes everywhere, correct answers, and no file overwritten."""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.make_dataset import main, make_dataset

COMMITTED = Path(__file__).parents[2] / "artifacts" / "datasets" / "dataset_v1"


def rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "data.jsonl").read_bytes().splitlines()]


def metadata(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metadata.json").read_bytes())


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# Same bytes everywhere


def test_the_config_of_the_committed_dataset_reproduces_its_bytes(tmp_path):
    config = metadata(COMMITTED)["config"]
    again = make_dataset(
        COMMITTED.name, samples=config["samples"], seed=config["seed"], datasets_dir=tmp_path
    )
    assert contents(again) == contents(COMMITTED)


def test_a_seed_and_a_number_of_samples_give_exactly_these_bytes(tmp_path):
    folder = make_dataset("tiny", samples=10, seed=7, datasets_dir=tmp_path)
    assert (
        hashlib.sha256((folder / "data.jsonl").read_bytes()).hexdigest()
        == "d5ff1e0750105e86d8606414db11a6541bdde421da0623c517283e02f2d99cae"
    )


def test_the_metadata_has_exactly_these_bytes(tmp_path):
    folder = make_dataset("tiny", samples=10, seed=7, datasets_dir=tmp_path)
    assert (folder / "metadata.json").read_text(encoding="utf-8") == (
        "{\n"
        '  "config": {\n'
        '    "generator": "benchmarks.make_dataset/1",\n'
        '    "samples": 10,\n'
        '    "seed": 7\n'
        "  },\n"
        '  "dataset_hash": "d5ff1e0750105e86d8606414db11a6541bdde421da0623c517283e02f2d99cae",\n'
        '  "dataset_version": "tiny",\n'
        '  "num_samples": 10\n'
        "}\n"
    )


def test_a_smaller_dataset_is_the_start_of_a_larger_one(tmp_path):
    small = make_dataset("small", samples=20, datasets_dir=tmp_path) / "data.jsonl"
    large = make_dataset("large", samples=50, datasets_dir=tmp_path) / "data.jsonl"
    assert large.read_bytes().startswith(small.read_bytes())


def test_another_seed_gives_another_dataset(tmp_path):
    one = make_dataset("one", samples=20, seed=1, datasets_dir=tmp_path)
    two = make_dataset("two", samples=20, seed=2, datasets_dir=tmp_path)
    assert metadata(one)["dataset_hash"] != metadata(two)["dataset_hash"]


# Contents of a dataset


def test_the_committed_metadata_matches_the_committed_data():
    data = (COMMITTED / "data.jsonl").read_bytes()
    assert metadata(COMMITTED) == {
        "config": {"generator": "benchmarks.make_dataset/1", "samples": 1000, "seed": 1},
        "dataset_hash": hashlib.sha256(data).hexdigest(),
        "dataset_version": "dataset_v1",
        "num_samples": data.count(b"\n"),
    }


def test_every_line_is_an_object_of_four_strings_in_the_form_of_json_dumps():
    for line in (COMMITTED / "data.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
        row = json.loads(line)
        assert list(row) == ["id", "input", "output", "source"]
        assert all(type(value) is str and value for value in row.values())
        assert line == json.dumps(row, ensure_ascii=False)


def test_ids_are_unique():
    ids = [row["id"] for row in rows(COMMITTED)]
    assert len(set(ids)) == len(ids) == 1000


def test_the_last_line_is_the_first_to_reach_the_size(tmp_path):
    folder = make_dataset("sized", size=5000, datasets_dir=tmp_path)
    lines = (folder / "data.jsonl").read_bytes().splitlines(keepends=True)
    assert sum(map(len, lines[:-1])) < 5000 <= sum(map(len, lines))


def test_the_number_of_samples_reproduces_a_dataset_of_a_given_size(tmp_path):
    sized = make_dataset("sized", size=5000, datasets_dir=tmp_path / "a")
    samples = metadata(sized)["config"]["samples"]
    counted = make_dataset("sized", samples=samples, datasets_dir=tmp_path / "b")
    assert contents(sized) == contents(counted)


# Correct answers: those of each family are recomputed from the question alone, by other means

NUMBER = r"\d[\d,]*(?:\.\d+)?"
DATE = r"\d{4}-\d\d-\d\d|[A-Z][a-z]+ \d+, \d{4}|\d+ [A-Z][a-z]+ \d{4}"
# Quantity and size of each unit, in the base unit: meters, kilograms, liters, and so on.
UNITS = {
    "miles": ("length", "1609.344"),
    "nautical miles": ("length", "1852"),
    "kilometers": ("length", "1000"),
    "meters": ("length", "1"),
    "yards": ("length", "0.9144"),
    "feet": ("length", "0.3048"),
    "inches": ("length", "0.0254"),
    "centimeters": ("length", "0.01"),
    "kilograms": ("mass", "1"),
    "grams": ("mass", "0.001"),
    "pounds": ("mass", "0.45359237"),
    "ounces": ("mass", "0.028349523125"),
    "acres": ("area", "4046.8564224"),
    "square feet": ("area", "0.09290304"),
    "US gallons": ("volume", "3.785411784"),
    "liters": ("volume", "1"),
    "milliliters": ("volume", "0.001"),
    "weeks": ("time", "604800"),
    "days": ("time", "86400"),
    "hours": ("time", "3600"),
    "minutes": ("time", "60"),
    "seconds": ("time", "1"),
    "kilowatt hours": ("energy", "3600000"),
    "megajoules": ("energy", "1000000"),
}
TEMPERATURES: dict[str, Callable[[Fraction], Fraction]] = {
    "degrees Fahrenheit": lambda celsius: celsius * 9 / 5 + 32,
    "kelvins": lambda celsius: celsius + Fraction("273.15"),
}


def exact(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def read_date(text: str) -> datetime:
    for style in ("%Y-%m-%d", "%B %d, %Y", "%d %B %Y"):
        try:
            return datetime.strptime(text, style)
        except ValueError:
            continue
    raise ValueError(text)


def convert(amount: Fraction, source: str, target: str) -> Fraction:
    if source == "degrees Celsius":
        return TEMPERATURES[target](amount)
    (quantity, size), (other, unit) = UNITS[source], UNITS[target]
    assert quantity == other
    return amount * Fraction(size) / Fraction(unit)


def check_unit_conversion(question: str, answer: str) -> None:
    names = "|".join(sorted([*UNITS, *TEMPERATURES, "degrees Celsius"], key=len, reverse=True))
    given = re.search(rf"({NUMBER}) ({names})", question)
    target = re.search(names, question.replace(given[0], ""))[0]
    answered = re.fullmatch(rf"(?:({NUMBER} .+) (?:is|equals) )?({NUMBER}) ({names})(\.?)", answer)
    assert answered[1] in (None, given[0])
    assert answered[3] == target
    assert exact(answered[2]) == convert(exact(given[1]), given[2], target)
    assert answered[2] != "1", "a plural with the number 1"


def check_date_arithmetic(question: str, answer: str) -> None:
    asked = [read_date(found) for found in re.findall(DATE, question)]
    if not asked:
        year = int(re.search(r"\d{4}", question)[0])
        days = (datetime(year, 3, 1) - datetime(year, 2, 1)).days
        no_leap, leap = f"No, {year} is not a leap year.", f"Yes, {year} is a leap year."
        assert answer == (leap if days == 29 else no_leap)
    elif "day of the week" in question:
        day, weekday = re.search(DATE, question)[0], f"{asked[0]:%A}"
        assert answer in {weekday, f"{day} is a {weekday}."}
    elif len(asked) == 2:
        answered = re.fullmatch(rf"(?:({DATE}) is )?(\d+) days(?: after ({DATE})\.)?", answer)
        assert int(answered[2]) == (asked[1] - asked[0]).days
        assert answered[1] is None or [read_date(answered[3]), read_date(answered[1])] == asked
    else:
        days, way = re.search(r"(\d+) days (after|before)", question).groups()
        gap = timedelta(int(days))
        expected = asked[0] + gap if way == "after" else asked[0] - gap
        assert read_date(re.findall(DATE, answer)[-1]) == expected
        assert answer.startswith((f"{days} days {way} ", *re.findall(DATE, answer)))


def check_integer_arithmetic(question: str, answer: str) -> None:
    a, b = (int(exact(found)) for found in re.findall(NUMBER, question))
    answered = [int(exact(found)) for found in re.findall(rf"-?{NUMBER}", answer)]
    if "quotient" in question:
        assert answered[0] * b + answered[1] == a
        assert 0 <= answered[1] < b
    elif " + " in question:
        assert answered[-1] - b == a
    elif " - " in question:
        assert answered[-1] + b == a
    else:
        assert " * " in question or "oranges" in question
        assert Fraction(answered[-1], b) == a
    assert " = " not in answer or answered[:2] == [a, b]


def check_number_bases(question: str, answer: str) -> None:
    bases = {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16}
    source, target = re.findall("|".join(sorted(bases, key=len, reverse=True)), question)
    digits = re.search(r"\b[0-9A-F]+\b", question)[0]
    answered = re.fullmatch(rf"(?:{digits} in {source} is (\w+) in {target}\.|(\w+))", answer)
    found = answered[1] or answered[2]
    assert int(found, bases[target]) == int(digits, bases[source])
    assert not found.startswith("0")


def check_roman_numerals(question: str, answer: str) -> None:
    values = {"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}
    roman = re.search(r"\b[MDCLXVI]+\b", question + " " + answer)[0]
    number = int(re.search(r"\d+", question + " " + answer)[0])
    worth = [values[letter] for letter in roman] + [0]
    pairs = pairwise(worth)
    assert sum(-this if this < following else this for this, following in pairs) == number
    # The only accepted spelling: thousands, then at most one standard form per power of ten.
    assert re.fullmatch(
        "M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})",
        roman,
    )
    wanted, given = (str(number), roman) if roman in question else (roman, str(number))
    assert answer in {wanted, f"{given} is {wanted}.", f"{given} is {wanted} in Roman numerals."}


def check_percentages(question: str, answer: str) -> None:
    percent = re.search(rf"({NUMBER})%", question)
    share = exact(percent[1]) / 100
    whole = exact(re.search(NUMBER, question.replace(percent[0], ""))[0])
    money = "$" in question
    assert exact(re.findall(NUMBER, answer)[-1]) == whole * (1 - share if money else share)
    assert " of " not in answer or answer.startswith(
        re.search(rf"{NUMBER}% of {NUMBER}", question)[0]
    )
    assert money == bool(re.search(r"\$[\d,]+\.\d\d\.?$", answer))


def check_words(question: str, answer: str) -> None:
    if "alphabetical" in question:
        listed = re.search(r": (.+)\.$", question)[1].split(", ")
        answered = answer.split(", ")
        assert all(one < other for one, other in pairwise(answered))
        assert set(answered) == set(listed)
        assert len(answered) == len(listed)
        return
    *letter, text = re.findall(r'"([^"]+)"', question)
    counted = [character for character in text if character.isalpha()]
    if letter:
        counted = [character for character in counted if character == letter[0]]
    assert int(re.search(r"\d+", answer)[0]) == len(counted)


def check_time_zones(question: str, answer: str) -> None:
    clock = r"(\d\d):(\d\d) on (\w+day)"
    zones = {
        city: timezone(timedelta(hours=int(sign + hours), minutes=int(sign + minutes)))
        for city, sign, hours, minutes in re.findall(
            r"in ([\w ]+) \(UTC([+-])(\d\d):(\d\d)\)", question
        )
    }
    here, there = zones
    if question.startswith("What time is it in"):
        here, there = there, here
    hour, minute, weekday = re.search(clock, question).groups()
    monday = datetime(2024, 1, 1, int(hour), int(minute), tzinfo=zones[here])
    time = next(
        day for day in (monday + timedelta(days) for days in range(7)) if f"{day:%A}" == weekday
    )
    if took := re.search(r"(\d+) h (\d+) min", question):
        time += timedelta(hours=int(took[1]), minutes=int(took[2]))
    assert re.search(clock, answer)[0] == f"{time.astimezone(zones[there]):%H:%M on %A}"


CHECKS: dict[str, Callable[[str, str], None]] = {
    "synthetic/unit-conversion": check_unit_conversion,
    "synthetic/date-arithmetic": check_date_arithmetic,
    "synthetic/integer-arithmetic": check_integer_arithmetic,
    "synthetic/number-bases": check_number_bases,
    "synthetic/roman-numerals": check_roman_numerals,
    "synthetic/percentages": check_percentages,
    "synthetic/words": check_words,
    "synthetic/time-zones": check_time_zones,
}


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> list[dict[str, str]]:
    folder = make_dataset("many", samples=8000, seed=11, datasets_dir=tmp_path_factory.mktemp("d"))
    return rows(folder) + rows(COMMITTED)


@pytest.mark.parametrize("source", CHECKS)
def test_every_answer_of_a_family_is_correct(many, source):
    family = [row for row in many if row["source"] == source]
    assert len(family) > 500
    for row in family:
        try:
            CHECKS[source](row["input"], row["output"])
        except (AssertionError, ValueError, TypeError, LookupError) as exc:
            exc.add_note(json.dumps(row, ensure_ascii=False))
            raise


def test_the_answers_of_every_family_are_checked(many):
    assert {row["source"] for row in many} == set(CHECKS)


# No file overwritten


def test_generating_the_same_dataset_again_changes_nothing(tmp_path):
    folder = make_dataset("existing", samples=10, datasets_dir=tmp_path)
    before = contents(tmp_path), (folder / "data.jsonl").stat()
    assert make_dataset("existing", samples=10, datasets_dir=tmp_path) == folder
    assert (contents(tmp_path), (folder / "data.jsonl").stat()) == before


@pytest.mark.parametrize("other", [{"samples": 11}, {"samples": 10, "seed": 2}])
def test_an_existing_version_with_other_content_is_refused_and_unchanged(tmp_path, other):
    make_dataset("existing", samples=10, datasets_dir=tmp_path)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError):
        make_dataset("existing", datasets_dir=tmp_path, **other)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("file", ["data.jsonl", "metadata.json"])
def test_a_version_with_one_changed_byte_is_refused_and_unchanged(tmp_path, file):
    path = make_dataset("existing", samples=10, datasets_dir=tmp_path) / file
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    before = contents(tmp_path)
    with pytest.raises(FileExistsError):
        make_dataset("existing", samples=10, datasets_dir=tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path):
    (tmp_path / "existing").mkdir()
    (tmp_path / "existing" / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError):
        make_dataset("existing", samples=10, datasets_dir=tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("step", ["mkdir", "write_bytes", "rename"])
def test_a_failure_at_any_step_leaves_no_file(tmp_path, monkeypatch, step):
    earlier = make_dataset("earlier", samples=10, datasets_dir=tmp_path)
    before = contents(tmp_path)
    real = getattr(Path, step)

    def fail(path: Path, *args: Any, **options: Any) -> Any:
        # Only the creation of the datasets folder itself succeeds.
        if path == tmp_path:
            return real(path, *args, **options)
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(OSError, match=r"^No space left on device$"):
            make_dataset("later", samples=10, datasets_dir=tmp_path)
    assert contents(tmp_path) == before
    assert earlier.is_dir()


# The command


def test_the_command_prints_one_line_about_the_new_version(tmp_path, capsys):
    assert main(["tiny", "--samples", "10", "--seed", "7", "--datasets-dir", str(tmp_path)]) == 0
    size = (tmp_path / "tiny" / "data.jsonl").stat().st_size
    message = f"{tmp_path / 'tiny'}: 10 samples, {size:,} bytes, sha256:d5ff1e075010…\n"
    assert capsys.readouterr() == (message, "")


def test_the_command_refuses_an_existing_name_with_one_line_and_exit_code_2(tmp_path, capsys):
    make_dataset("existing", samples=10, datasets_dir=tmp_path)
    assert main(["existing", "--samples", "11", "--datasets-dir", str(tmp_path)]) == 2
    message = (
        f"error: {tmp_path / 'existing'}: exists with other content. Left as found. "
        "Choose another name, or remove that folder first.\n"
    )
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "_a", "a/b", "a b", "a\n", "é", "a" * 129])
def test_a_name_that_is_not_one_path_component_is_refused_with_exit_code_2(tmp_path, capsys, name):
    datasets_dir = tmp_path / "datasets"
    assert main([name, "--samples", "10", "--datasets-dir", str(datasets_dir)]) == 2
    assert not datasets_dir.exists()
    message = (
        "error: dataset version: expected 1 to 128 letters, digits, '.', '_' and '-', starting "
        f"with a letter or digit, found {name!r}. Write e.g. dataset_v2.\n"
    )
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d..", "a" * 128])
def test_a_name_of_up_to_128_safe_characters_is_accepted(tmp_path, name):
    assert make_dataset(name, samples=1, datasets_dir=tmp_path) == tmp_path / name


@pytest.mark.parametrize("amount", [{}, {"samples": 0}, {"size": 0}, {"samples": 1, "size": 1}])
def test_an_amount_that_is_not_exactly_one_number_is_refused(tmp_path, amount):
    with pytest.raises(ValueError, match=r"^expected either samples or size, >= 1, found "):
        make_dataset("any", datasets_dir=tmp_path, **amount)
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("size", "samples"),
    [("5", None), ("2GX", None), ("1kb", 7), ("1.0KB", 7), ("0.001 MB", 7), ("1KiB", 7)],
)
def test_a_size_is_a_number_with_a_decimal_or_binary_unit(tmp_path, size, samples):
    arguments = ["sized", "--size", size, "--datasets-dir", str(tmp_path)]
    if samples is None:
        with pytest.raises(SystemExit, match=r"^2$"):
            main(arguments)
    else:
        assert main(arguments) == 0
        assert metadata(tmp_path / "sized")["num_samples"] == samples
