import json
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from flows.audit_models import audit_models
from src.training import dataset
from src.training.pipeline import run_training_pipeline
from tests.flows.conftest import artifact


@pytest.fixture
def models(project):
    for version in ("model_v1", "model_v2"):
        run_training_pipeline("config.yaml", version)


def test_an_audit_of_an_undamaged_record_finds_a_match_for_every_model(models):
    assert audit_models() == {"model_v1": "MATCH", "model_v2": "MATCH"}
    assert [
        (row["verdict"], row["model"], row["what"]) for row in json.loads(artifact("audit"))
    ] == [
        ("MATCH", "[model_v1](/artifacts/key/training-model-v1)", ""),
        ("MATCH", "[model_v2](/artifacts/key/training-model-v2)", ""),
    ]


def test_an_audit_fails_with_a_sentence_that_names_what_does_not_match(models):
    path = Path("artifacts/evaluations/model_v2/evaluation.json")
    path.write_text(path.read_text().replace('"latency_ms": ', '"latency_ms": 1'))
    before = path.read_bytes()
    state = audit_models(return_state=True)
    with get_client(sync_client=True) as client:
        shown = client.read_flow_run(state.state_details.flow_run_id).state
    assert (shown.name, shown.message) == (
        "Failed",
        "1 of 2 models match their record. These do not: model_v2 (evaluation.json).",
    )
    first, second = json.loads(artifact("audit"))
    assert (first["verdict"], second["verdict"]) == ("MISMATCH", "MATCH")
    assert first["what"].startswith("evaluation.json: expected ")
    assert path.read_bytes() == before


def test_an_audit_reads_a_dataset_once_whatever_the_number_of_models(models, monkeypatch):
    opened = []
    fdopen = dataset.open if hasattr(dataset, "open") else open

    def counting(path, *arguments, **options):
        opened.append(Path(path).name)
        return fdopen(path, *arguments, **options)

    monkeypatch.setattr(dataset, "open", counting, raising=False)
    audit_models()
    assert opened == ["data.jsonl"]


def test_an_audit_of_nothing_is_no_failure(project):
    assert audit_models() == {}
