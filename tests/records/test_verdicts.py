import json

import pytest

from src.errors import CorruptFileError
from src.records.canonical import canonical_json
from src.records.verdicts import Audit, ModelVerdict, parse_audit

AUDIT = Audit(
    audited_on="2026-11-23T04:00:00.000Z",
    models={
        "model_v1": ModelVerdict(verdict="MATCH"),
        "model_v2": ModelVerdict(verdict="MISMATCH", details=("epochs: expected 3, found 4",)),
    },
)
FILE = b"""\
{
  "audited_on": "2026-11-23T04:00:00.000Z",
  "models": {
    "model_v1": {
      "verdict": "MATCH"
    },
    "model_v2": {
      "details": [
        "epochs: expected 3, found 4"
      ],
      "verdict": "MISMATCH"
    }
  }
}
"""


def test_verdicts_are_written_as_canonical_json_and_read_back_equal():
    assert AUDIT.to_bytes() == FILE
    assert parse_audit(FILE, "verdicts.json") == AUDIT


def test_many_and_long_details_are_cut_off():
    details = tuple(f"{number}" * 2000 for number in range(20))
    audit = Audit(audited_on="", models={"m": ModelVerdict(verdict="MISMATCH", details=details)})
    found = parse_audit(audit.to_bytes(), "").models["m"].details
    assert [len(each) for each in found] == [1000] * 10


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"audited_on": 3}, "audited_on: expected a time, found 3."),
        ({"models": []}, "models: expected an object, found []."),
        ({"models": {"../x": {}}}, "models: expected names of model versions, found '../x'."),
        ({"models": {"m": 1}}, "models.m: expected an object, found 1."),
        (
            {"models": {"m": {"verdict": "<b>"}}},
            "models.m.verdict: expected one of MATCH, AS RECORDED, MISMATCH, UNREADABLE, "
            "UNFINISHED, found '<b>'.",
        ),
        (
            {"models": {"m": {"verdict": ["MATCH"]}}},
            "models.m.verdict: expected one of MATCH, AS RECORDED, MISMATCH, UNREADABLE, "
            "UNFINISHED, found ['MATCH'].",
        ),
        (
            {"models": {"m": {"verdict": "MATCH", "details": [1]}}},
            "models.m.details: expected a list of texts, found [1].",
        ),
    ],
)
def test_a_file_of_another_form_is_an_error_that_names_the_field(change, fault):
    data = json.dumps(json.loads(FILE) | change).encode()
    with pytest.raises(CorruptFileError) as raised:
        parse_audit(data, "verdicts.json")
    assert str(raised.value) == f"verdicts.json: {fault} Left as found."


def test_details_of_a_file_that_another_program_wrote_are_bounded():
    models = {"model_v1": {"verdict": "MISMATCH", "details": ["x" * 2000] * 100}}
    audit = parse_audit(canonical_json({"audited_on": "now", "models": models}), "f")
    assert audit.models["model_v1"].details == ("x" * 1000,) * 10
