"""Tests of findings, and of checks that raise or hang."""

import threading

import pytest

from src.diagnosis.finding import Finding, fault, ok, run_check, warning

FOREVER = 1e6  # seconds


def raising(error):
    def run():
        raise error

    return run


def test_the_findings_of_a_check_are_returned():
    assert run_check(FOREVER, "a", lambda: [ok("a", "one."), fault("b", "two.")]) == [
        Finding(check="a", level="OK", found="one."),
        Finding(check="b", level="FAULT", found="two."),
    ]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ValueError("c.yaml:1: expected 1."), "c.yaml:1: expected 1."),
        (OSError(13, "Permission denied", "/x"), "[Errno 13] Permission denied: '/x'."),
        (ValueError(), "no message."),
        (ValueError("one\n  two\n\nthree\nfour"), "one two three."),
        (ValueError("a\x1b[2K\u202e"), "a\\x1b[2K\\u202e."),
        (ValueError("x" * 9999), "x" * 600 + "."),
        (RecursionError("deep"), "RecursionError: deep."),
        (KeyError("name"), "KeyError: 'name'."),
    ],
    ids=repr,
)
def test_an_error_of_a_check_is_a_fault_in_one_line(error, found):
    assert run_check(FOREVER, "a", raising(error), action="Do it.") == [
        Finding(check="a", level="FAULT", found=found, action="Do it.")
    ]


def test_what_a_check_found_before_its_error_is_kept():
    def run():
        yield ok("a", "one.")
        raise ValueError("two.")

    assert [each.found for each in run_check(FOREVER, "a", run)] == ["one.", "two."]


def test_a_fault_names_the_place():
    [found] = run_check(FOREVER, "a", raising(ValueError("no.")), place="http://x")
    assert found.found == "http://x: no."


def test_a_check_that_hangs_is_a_fault_and_what_it_finds_later_is_ignored():
    end, ended = threading.Event(), threading.Event()

    def run():
        end.wait()
        ended.set()
        return [ok("a", "too late.")]

    found = run_check(0.01, "a", run, place="here", action="Wait.")
    end.set()
    assert ended.wait(60)
    assert found == [
        Finding(check="a", level="FAULT", found="here: no result after 0.01 s.", action="Wait.")
    ]


def test_a_warning_may_have_no_action():
    assert warning("a", "b.") == Finding(check="a", level="WARNING", found="b.", action=None)
