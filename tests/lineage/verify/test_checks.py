import pytest

from src.lineage.verify import Check, failed_checks, verdict


def check(outcome, what="metadata.json"):
    return Check(what=what, verdict=outcome, expected="sha256 1", found="sha256 1")


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        ([], "MATCH"),
        (["MATCH"], "MATCH"),
        (["MATCH", "MATCH"], "MATCH"),
        (["MATCH", "UNREADABLE"], "UNREADABLE"),
        (["UNREADABLE", "MATCH", "UNREADABLE"], "UNREADABLE"),
        (["MATCH", "MISMATCH"], "MISMATCH"),
        (["UNREADABLE", "MISMATCH"], "MISMATCH"),
        (["MISMATCH", "UNREADABLE", "MATCH"], "MISMATCH"),
        (["MATCH", "UNFINISHED"], "UNFINISHED"),
        (["UNFINISHED", "UNREADABLE"], "UNREADABLE"),
        (["UNFINISHED", "MISMATCH"], "MISMATCH"),
    ],
)
def test_the_verdict_of_a_model_is_the_worst_of_its_checks(verdicts, worst):
    assert verdict(map(check, verdicts)) == worst


def test_the_failed_checks_are_those_that_do_not_match_in_their_order():
    checks = [
        check("MISMATCH", "registry entry"),
        check("MATCH", "metadata.json"),
        check("UNREADABLE", "dataset bytes"),
        check("MISMATCH", "code"),
    ]
    assert failed_checks(iter(checks)) == [checks[0], checks[2], checks[3]]


def test_no_check_of_a_matching_model_has_failed():
    assert failed_checks([check("MATCH"), check("MATCH", "code")]) == []
