import json
import re
import shutil
from pathlib import Path

import pytest

from flows.audit_models import audit_models
from flows.report import report_link
from src.report.charts import ExtraMissingError
from src.storage import FolderStore
from src.training.pipeline import run_training_pipeline
from src.training.trainer import train_model
from tests.flows.runs import artifact, failure, flow_run, newest_artifact

DATA = "datasets/dataset_v1/data.jsonl"
EVALUATION = Path("artifacts/evaluations/model_v2/evaluation.json")
PAGE, VERDICTS = Path("artifacts/reports/report.html"), Path("artifacts/reports/verdicts.json")


@pytest.fixture(autouse=True)
def _no_extra(monkeypatch):
    """Run without the extra `report`, whether it is installed or not."""

    def check_extra():
        raise ExtraMissingError

    monkeypatch.setattr("src.report.page.check_extra", check_extra)


@pytest.fixture
def models(project):
    for version in ("model_v1", "model_v2"):
        run_training_pipeline("config.yaml", version)


def description(key):
    """Return the description of the newest artifact of a key."""
    return newest_artifact(key).description


def table():
    """Return the rows of the table: verdict, model and failed checks."""
    return [(row["verdict"], row["model"], row["details"]) for row in json.loads(artifact("audit"))]


def test_an_audit_of_undamaged_models_finds_a_match_for_each(models):
    assert audit_models() == {"model_v1": "MATCH", "model_v2": "MATCH"}
    assert [row[:2] for row in table()] == [
        ("MATCH", "[model_v1](/artifacts/key/training-model-v1--d64be24a37a18742)"),
        ("MATCH", "[model_v2](/artifacts/key/training-model-v2--7e0100779fc594a5)"),
    ]
    assert table()[0][2].startswith("Made by commit ")


def test_a_mismatch_fails_the_audit_and_the_message_names_the_model(models):
    EVALUATION.write_text(EVALUATION.read_text().replace('"latency_ms": ', '"latency_ms": 1'))
    before = EVALUATION.read_bytes()
    state = audit_models(return_state=True)
    recorded = flow_run(state.state_details.flow_run_id).state
    assert (recorded.name, recorded.message) == (
        "Failed",
        "1 of 2 models match their record. These do not: model_v2 (evaluation.json).",
    )
    (first, model, what), (second, _, _) = table()
    assert (first, second) == ("MISMATCH", "MATCH")
    assert model == "[model_v2](/artifacts/key/training-model-v2--7e0100779fc594a5)"
    assert what.startswith("evaluation.json: expected ")
    assert EVALUATION.read_bytes() == before


def test_an_unfinished_model_is_counted_and_does_not_fail_the_audit(models):
    for version in ("model_v3", "model_v4"):
        train_model("config.yaml", version)
    assert audit_models() == {
        "model_v1": "MATCH",
        "model_v2": "MATCH",
        "model_v3": "UNFINISHED",
        "model_v4": "UNFINISHED",
    }
    assert description("audit") == (
        "2 of 4 models match their record. 2 are UNFINISHED: run them again. "
        "`make report` installs what a page of all models needs."
    )
    assert [verdict for verdict, _, _ in table()] == ["UNFINISHED", "UNFINISHED", "MATCH", "MATCH"]
    assert table()[0][1] == report_link("model_v3")
    assert table()[0][2].startswith(
        "missing: registry entry, evaluation.json,<br>evaluation's provenance; run it again"
    )


def test_an_unfinished_model_hides_no_mismatch_of_another(models):
    train_model("config.yaml", "model_v3")
    EVALUATION.write_text("{}")
    assert failure(audit_models) == (
        "1 of 3 models match their record. 1 is UNFINISHED: run it again. These do not: model_v2 "
        "(evaluation.json)."
    )
    assert [verdict for verdict, _, _ in table()] == ["MISMATCH", "UNFINISHED", "MATCH"]


@pytest.mark.parametrize(("count", "length"), [(5, 128), (40, 20), (3, 1)])
def test_the_message_of_an_audit_is_short_and_its_table_is_complete(
    count, length, models, monkeypatch
):
    monkeypatch.setattr("flows.verdicts.TABLE_ROWS", 2)
    versions = [f"v{number}".ljust(length, "x") for number in range(count)]
    for version in versions:
        run_training_pipeline("config.yaml", version)
        Path(f"artifacts/evaluations/{version}/evaluation.json").write_text("{}")
    message = failure(audit_models)
    assert len(message) < 300
    assert message.startswith(f"2 of {count + 2} models match their record. ")
    assert [model for _, model, _ in table()] == [report_link(version) for version in versions]


def failing(monkeypatch, method, key, error):
    """Make a method of the folder store raise `error` for one key."""
    original = getattr(FolderStore, method)

    def call(store, found, *arguments):
        if found == key:
            raise error
        return original(store, found, *arguments)

    monkeypatch.setattr(FolderStore, method, call)


def test_a_model_with_unreadable_data_counts_as_not_matching(models, monkeypatch, caplog):
    failing(monkeypatch, "open", DATA, OSError(5, "Input/output error", f"artifacts/{DATA}"))
    assert failure(audit_models) == (
        "0 of 2 models match their record. These do not: model_v1 (dataset bytes); "
        "model_v2 (dataset bytes)."
    )
    [first, second] = table()
    reason = f"artifacts/{DATA}: cannot be read (Input/output error)"
    for version, (verdict, model, what) in zip(("v1", "v2"), (first, second), strict=True):
        assert (verdict, model) == ("UNREADABLE", report_link(f"model_{version}"))
        assert what.startswith("dataset bytes: expected sha256 ")
        assert f", found {reason}" in what.replace("<br>", " ")
        [logged] = [each for each in caplog.messages if each.startswith(f"model_{version}: ")]
        digest = logged.split("sha256 ")[1].split(",")[0]
        assert len(digest) == 64
        assert f"expected sha256 {digest[:12]}," in what


def test_a_mismatch_is_worse_than_an_unreadable_file_and_is_listed_first(models, monkeypatch):
    failing(monkeypatch, "open", DATA, PermissionError(13, "Permission denied"))
    EVALUATION.write_text("{}")
    assert failure(audit_models) == (
        "0 of 2 models match their record. These do not: model_v1 (dataset bytes); "
        "model_v2 (dataset bytes, evaluation.json)."
    )
    assert [verdict for verdict, _, _ in table()] == ["MISMATCH", "UNREADABLE"]


def test_a_store_that_cannot_be_reached_fails_the_audit_with_its_error(models, monkeypatch):
    key = "models/model_v2/metadata.json"
    failing(monkeypatch, "read", key, ConnectionError("artifacts: connection refused"))
    assert failure(audit_models) == "artifacts: connection refused"


def test_an_audit_reads_a_dataset_once_for_all_models(models, reads):
    audit_models()
    assert reads == [DATA]


def test_an_audit_without_models_succeeds(project):
    assert audit_models() == {}


def test_text_of_an_altered_file_is_text_in_the_table(models):
    text = EVALUATION.read_text()
    EVALUATION.write_text(text.replace("latency_ms", "<b> ![x](http://e.example) a|b"))
    audit_models(return_state=True)
    [row] = [row for row in json.loads(artifact("audit")) if row["verdict"] != "MATCH"]
    details = row["details"].replace("<br>", " ")
    assert "metrics.\\<b> `![x](http://e.example)` a\\|b: expected None, found " in details


# --- The page ------------------------------------------------------------------------------------


def page_models():
    """Return the models on the page: version, verdict and details."""
    [data] = re.findall('id="content">(.*)</script>', PAGE.read_text())
    return [
        (model["version"], model["verdict"], model["details"])
        for model in json.loads(data)["models"]
    ]


def test_an_audit_writes_a_page_with_its_verdicts_and_names_it_in_its_report(models, empty_charts):
    EVALUATION.write_text("{}")
    failure(audit_models)
    (second, mismatch, details), first = page_models()
    assert (second, mismatch, first) == ("model_v2", "MISMATCH", ("model_v1", "MATCH", []))
    assert details[0].startswith("evaluation.json: expected ")
    assert description("audit") == (
        "1 of 2 models match their record. All models on one page: `artifacts/reports/report.html`."
    )


def test_without_the_extra_an_audit_writes_its_verdicts_and_says_how_to_get_a_page(models):
    audit_models()
    assert description("audit") == (
        "2 of 2 models match their record. `make report` installs what a page of all models needs."
    )
    assert not PAGE.exists()
    assert json.loads(VERDICTS.read_text())["models"] == {
        "model_v1": {"verdict": "MATCH"},
        "model_v2": {"verdict": "MATCH"},
    }


def test_a_page_that_cannot_be_written_does_not_fail_the_audit(models, empty_charts):
    PAGE.parent.write_text("a file")
    assert audit_models() == {"model_v1": "MATCH", "model_v2": "MATCH"}
    assert description("audit").startswith(
        "2 of 2 models match their record. The page of all models was not written: "
    )


def test_an_audit_replaces_the_page_of_the_last_one(models, empty_charts):
    audit_models()
    shutil.rmtree(EVALUATION.parent)
    audit_models()
    assert [row[:2] for row in page_models()] == [("model_v2", "UNFINISHED"), ("model_v1", "MATCH")]


def test_an_audit_that_cannot_reach_the_store_keeps_the_last_page(
    models, empty_charts, monkeypatch
):
    audit_models()
    before = PAGE.read_bytes()
    key = "models/model_v2/metadata.json"
    failing(monkeypatch, "read", key, ConnectionError("artifacts: connection refused"))
    assert failure(audit_models) == "artifacts: connection refused"
    assert PAGE.read_bytes() == before
