"""Reading and checking the lines of a data.jsonl."""

import gzip
import json
import subprocess
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.datasets import lines
from src.datasets.lines import InvalidLinesError, LineCheck, read_lines, read_numbered
from src.storage import open_file
from tests.strategies import json_objects

END = "Nothing was added."


def faults(data, size=1 << 20):
    """Return the lines of the error for some data, which arrives in pieces of a size."""
    with pytest.raises(InvalidLinesError) as caught:
        list(LineCheck("f").checked(pieces(data, size)))
    return str(caught.value).split("\n")


def pieces(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(st.lists(json_objects, min_size=1), st.integers(1, 100), st.booleans())
def test_objects_pass_unchanged_in_pieces_of_any_size(objects, size, has_end):
    data = "\n".join(map(json.dumps, objects)).encode() + b"\n" * has_end
    check = LineCheck("f")
    assert b"".join(check.checked(pieces(data, size))) == data
    assert (check.num_lines, check.sha256) == (len(objects), sha256(data).hexdigest())


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", "blank. Remove the line."),
        (b" \t\r", "blank. Remove the line."),
        (b"[1,2]", "expected a JSON object, found [1, 2]."),
        (b"null", "expected a JSON object, found None."),
        (b'{"a": 1', "column 8: not valid JSON, unexpected end of data: '{\"a\": 1'."),
        (b"{'a': 1}", "column 2: not valid JSON, unexpected character, expected a string key"),
        (b'{"a": NaN}', "column 7: not valid JSON, unexpected character, expected a JSON value"),
        (b'{"a": 1e999}', "column 7: not valid JSON, number is infinity when parsed as double"),
        (b'{"a": "\\ud800"}', "column 8: not valid JSON, no low surrogate in string"),
        (b'{"a": "\xff"}', "not UTF-8 text, byte 8 of the line. Save the file as UTF-8."),
        (b'{"a": "\0"}', "has a NUL byte, number 8 of the line. Save the file as UTF-8."),
        (b"\xef\xbb\xbf{}", "has a byte order mark. Save the file as UTF-8 without one."),
        (
            b"\xc2\xa0{}",
            "column 1: not valid JSON, unexpected character, expected a JSON value: '\\xa0{}'.",
        ),
        (b"[" * 2000, "column 1,026: not valid JSON, depth limit exceeded: '[[[[[["),
    ],
)
def test_a_line_that_is_no_object_is_named_with_its_number_and_reason(line, fault, size):
    found = faults(b'{"a": 0}\n' + line + b'\n{"b": 1}\n', size)
    assert found[0].startswith(f"f:2: {fault}")
    assert found[1:] == [f"Found in 3 lines. {END}"]


def test_all_faults_are_named_up_to_twenty():
    assert len(faults(b"1\n" * 19)) == 20
    found = faults(b"{}\n" + b"1\n" * 1000)
    assert found[0] == "f:2: expected a JSON object, found 1."
    assert found[19:] == [
        "f:21: expected a JSON object, found 1.",
        f"Not read further. {END}",
    ]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "f: no lines. Expected one JSON object per line."),
        (b"\n", "f:1: blank. Remove the line."),
    ],
)
def test_data_without_an_object_is_refused(data, fault):
    assert faults(data)[0] == fault


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            gzip.compress(b'{"a": 1}\n' * 100, mtime=0),
            "compressed by gzip. Decompress it: `gunzip -k FILE`, then add",
        ),
        (
            '{"a": 1}\n'.encode("utf-16"),
            "in UTF-16. Convert it: `iconv -f UTF-16 -t UTF-8 FILE > data.jsonl`, then",
        ),
        (
            b"PAR1\x15\x04\n",
            "a Parquet file. Convert it to JSON lines, e.g. by `to_json(lines=True)`",
        ),
        (
            b'[{"a": 1}]\n',
            "begins as a JSON array. Write a line for each item: `jq -c '.[]' FILE > data.jsonl`",
        ),
        (b"[\n{},\n{}\n]\n", "begins as a JSON array."),
        (b'{\n"a": 1\n}\n', "has objects of several lines. Join them: `jq -c . FILE > data.jsonl`"),
        (b"id,text\n1,a\n2,b\n", 'begins as CSV. Convert it: `python -c "import csv, json, sys;'),
        (b"id\ttext\n1\ta\n", "begins as CSV."),
    ],
)
def test_a_file_of_another_format_is_named_once_with_the_command_that_converts_it(data, reason):
    [fault, end] = faults(data)
    assert fault.startswith(f"f: {reason}")
    assert end == f"Expected one JSON object per line. {END}"


def test_the_command_of_the_error_converts_csv():
    data = b'id,text\n1,"a, \xc3\xa9"\n'
    [fault, _] = faults(data)
    command = fault.partition("`")[2].partition(" < FILE")[0]
    done = subprocess.run(command, shell=True, input=data, capture_output=True, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"id": "1", "text": "a, é"}]


def test_lines_that_end_with_cr_lf_are_counted_and_pass_unchanged():
    check = LineCheck("f")
    data = b'{"a": 1}\r\n{"a": 2}\n' * 10
    assert b"".join(check.checked([data])) == data
    assert (check.num_crlf, check.first_crlf) == (10, [1, 3, 5, 7, 9])


def test_a_line_that_is_too_long_ends_the_check_also_if_its_start_is_an_object(monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    for size in (1, 5, 100):
        found = faults(b'{"a": 1}   ' + b" " * 50 + b"x\n{}\n", size)
        assert found[0] == "f:1: longer than 10 bytes. Expected one JSON object per line."
        assert found[-1].endswith(END)


def test_a_line_without_an_end_is_read_up_to_the_limit():
    def endless():
        while True:
            yield b" " * (1 << 20)

    with pytest.raises(InvalidLinesError, match=r"f:1: longer than 16,777,216 bytes\."):
        for _ in LineCheck("f").checked(endless()):
            pass


def test_lines_are_read_with_their_numbers_and_without_their_ends(tmp_path):
    (tmp_path / "f").write_bytes(b'{"a": 1}\r\n\nnot JSON\n{"b": 2}')
    path = open_file(tmp_path / "f")
    assert list(read_lines(path)) == [
        (1, b'{"a": 1}'),
        (2, b""),
        (3, b"not JSON"),
        (4, b'{"b": 2}'),
    ]
    assert read_numbered(path, {4, 1}) == {1: b'{"a": 1}', 4: b'{"b": 2}'}
    assert read_numbered(path, set()) == {}


def test_reading_a_line_that_is_too_long_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    (tmp_path / "f").write_bytes(b"{}\n" + b" " * 11 + b"\n{}\n")
    with pytest.raises(InvalidLinesError, match=r"f:2: longer than 10 bytes\."):
        list(read_lines(open_file(tmp_path / "f")))
