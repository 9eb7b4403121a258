"""Lines of a data.jsonl as samples: templates, the held-out split, tokens."""

import json

import pytest

from src.finetuning.samples import Sample, Template, encode_sample, is_held_out, read_samples
from tests.conftest import REPOSITORY

DATASET = REPOSITORY / "artifacts/datasets/dataset_v1/data.jsonl"


def samples(tmp_path, *lines, held_out=0.0):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    templates = {"prompt": Template("{input}\n"), "completion": Template("{output}")}
    return list(read_samples(path, **templates, held_out=held_out))


def line(number):
    return json.dumps({"input": f"question {number}", "output": f"answer {number}"}).encode()


# --- Templates -----------------------------------------------------------------------------------


def test_a_template_is_filled_with_the_fields_of_a_line():
    values = {"a b": "1", "input": "{input} {0} %s", "unused": 3}
    assert Template("{input}:{a b}").fill(values) == "{input} {0} %s:1"


def test_two_braces_are_one_brace():
    assert Template('{{"q": "{input}"}}').fill({"input": "x"}) == '{"q": "x"}'


@pytest.mark.parametrize("text", ["{", "a } b", "{}", "{input", "{{a}"])
def test_a_brace_that_is_not_part_of_a_field_is_refused(text):
    with pytest.raises(ValueError, match=r"expected fields such as '\{input\}', found '[{}]' at"):
        Template(text)


def test_a_template_reaches_no_attribute_of_a_value():
    with pytest.raises(ValueError, match=r"no field 'input\.__class__'"):
        Template("{input.__class__}").fill({"input": "x"})


# --- Lines ---------------------------------------------------------------------------------------


def test_samples_have_the_numbers_of_their_lines(tmp_path):
    assert samples(tmp_path, line(1), line(2)) == [
        Sample(line=1, prompt="question 1\n", completion="answer 1", is_held_out=False),
        Sample(line=2, prompt="question 2\n", completion="answer 2", is_held_out=False),
    ]


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (b'{"input": "x"}', "no field 'output'. Found: 'input'."),
        (b'{"input": 3, "output": "x"}', "field 'input': expected text, found 3."),
        (
            b'{"input": "\\ud800", "output": "x"}',
            "field 'input': has an escape that is half of a character.",
        ),
        (
            b"{%s}" % b", ".join(b'"%d": 1' % number for number in range(12)),
            "no field 'input'. Found: '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ....",
        ),
        (b"[1]", "expected a JSON object, found [1]."),
        (b"", "expected a JSON object, found ''."),
        (b"\xff", "expected a JSON object, found '\N{REPLACEMENT CHARACTER}'."),
    ],
)
def test_a_line_that_is_no_sample_is_an_error_with_file_line_and_field(tmp_path, second, fault):
    with pytest.raises(ValueError) as caught:
        samples(tmp_path, line(1), second)
    assert str(caught.value) == f"{tmp_path / 'data.jsonl'}:2: {fault}"


# --- The held-out split --------------------------------------------------------------------------


def test_the_same_lines_of_a_dataset_are_always_held_out():
    templates = {"prompt": Template("{input}"), "completion": Template("{output}")}
    found = read_samples(DATASET, **templates, held_out=0.01)
    assert [each.line for each in found if each.is_held_out] == [
        30,
        129,
        151,
        259,
        437,
        490,
        653,
        781,
        804,
        822,
    ]


def test_equal_lines_are_on_one_side_also_with_other_line_ends(tmp_path):
    found = samples(tmp_path, line(1), line(2), line(1) + b"\r", line(1), held_out=0.5)
    assert found[0].is_held_out == found[2].is_held_out == found[3].is_held_out


def test_a_larger_fraction_holds_out_the_lines_of_a_smaller_one_and_more():
    sides = {
        fraction: {number for number in range(1000) if is_held_out(line(number), fraction)}
        for fraction in (0.0, 0.1, 0.5)
    }
    assert sides[0.0] == set() < sides[0.1] < sides[0.5]
    assert (len(sides[0.1]), len(sides[0.5])) == (105, 484)


# --- Tokens --------------------------------------------------------------------------------------


def encoded(prompt, completion, max_length=10):
    sample = Sample(line=7, prompt=prompt, completion=completion, is_held_out=False)

    def encode(text, is_start):
        return [*([1] if is_start else []), *map(ord, text)]

    return encode_sample(sample, encode, end=2, max_length=max_length)


def test_a_sample_begins_with_its_prompt_and_ends_with_the_token_that_ends_a_text():
    found = encoded("ab", "c")
    assert (found.line, found.tokens) == (7, [1, ord("a"), ord("b"), ord("c"), 2])
    assert (found.prompt_length, found.is_cut) == (3, False)


def test_a_sample_that_is_too_long_is_cut_at_its_end():
    found = encoded("ab", "cde", max_length=5)
    assert (found.tokens, found.is_cut) == ([1, *map(ord, "abcd")], True)
    assert not encoded("ab", "c", max_length=5).is_cut


def test_a_prompt_that_leaves_no_token_for_the_completion_is_an_error():
    with pytest.raises(ValueError) as caught:
        encoded("abc", "d", max_length=4)
    assert str(caught.value) == (
        "line 7: its prompt has 4 tokens, and max_length 4 leaves none for the completion. Raise "
        "max_length, or remove the line."
    )
