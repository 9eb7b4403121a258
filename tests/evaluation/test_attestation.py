import json
from hashlib import sha256
from pathlib import Path

import pytest

from src.artifacts import read_statement
from src.environment import CORE, Invocation, source_digest
from src.errors import CorruptFileError
from src.evaluation.attestation import attest_evaluation
from src.evaluation.evaluator import SIMULATED_EVALUATOR, evaluate_model
from src.records.canonical import canonical_json
from src.records.statement import ResolvedDependency
from src.training.pipeline import run_training_pipeline
from tests.stores import delete

CONFIG = "configs/training/mistral_finetune.yaml"
RUN = Invocation(id="run-1")
INPUTS = [ResolvedDependency(name="metadata.json", digest={"sha256": "0" * 64})]


@pytest.fixture
def folder(artifacts):
    """The folder of the evaluation of `model_v1` on each back end in turn; it has no file yet."""
    return artifacts.evaluations / "model_v1"


def run(artifacts, **arguments):
    return run_training_pipeline(CONFIG, "model_v1", artifacts_dir=artifacts.root, **arguments)


def evaluate(artifacts, **arguments):
    evaluate_model("model_v1", artifacts.models, artifacts.evaluations, **arguments)


def attest(folder, evaluation=b"{}", run_id="run-1"):
    attest_evaluation(
        evaluation,
        folder,
        INPUTS,
        Invocation(id=run_id),
        model_version="model_v1",
        evaluator=SIMULATED_EVALUATOR,
        weights={},
    )


def other_metrics(metadata):
    return {"quality_score": 1.0}


def digest_of(path):
    return sha256(path.read(1 << 20)).hexdigest()


def test_the_statement_of_an_evaluation_names_its_inputs_and_the_core(folder):
    attest(folder)
    statement = read_statement(folder)
    assert statement.subject == "evaluation.json"
    assert statement.subject_sha256 == (
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
    assert statement.build_type == "urn:llm-training-pipeline:evaluate:v1"
    assert statement.parameters == {"model_version": "model_v1"}
    core = ResolvedDependency(name="core", digest={"sha256": source_digest(CORE)})
    assert statement.dependencies == (*INPUTS, core)
    assert statement.invocation_id == "run-1"


def test_a_later_run_with_the_same_evaluation_changes_nothing(folder, artifacts, files):
    attest(folder)
    before = files(artifacts)
    attest(folder, run_id="run-2")
    assert files(artifacts) == before


def test_another_evaluation_gets_another_statement(artifacts, folder):
    run(artifacts)
    evaluate(artifacts, metrics=other_metrics, replace=True, invocation=RUN)
    statement = read_statement(folder)
    assert statement.subject_sha256 == digest_of(folder / "evaluation.json")
    assert statement.invocation_id == "run-1"


def test_a_restored_evaluation_keeps_the_statement_of_its_first_run(artifacts, folder):
    run(artifacts)
    before = (folder / "provenance.json").read(1 << 20)
    (folder / "evaluation.json").replace(b"{}")
    run(artifacts, invocation=RUN)
    assert (folder / "provenance.json").read(1 << 20) == before
    assert read_statement(folder).subject_sha256 == digest_of(folder / "evaluation.json")


def test_a_deleted_statement_is_written_again(artifacts, folder):
    run(artifacts)
    delete(folder / "provenance.json")
    run(artifacts, invocation=RUN)
    assert read_statement(folder).invocation_id == "run-1"


def test_the_evaluation_of_a_model_without_a_statement_has_none(artifacts, folder, metadata):
    (artifacts.models / "model_v1/metadata.json").replace(canonical_json(metadata))
    evaluate(artifacts)
    assert (folder / "evaluation.json").read(1 << 20) is not None
    assert read_statement(folder) is None


def test_a_damaged_statement_is_left_as_found(artifacts, folder, files):
    (folder / "provenance.json").replace(b"{}")
    before = files(artifacts)
    with pytest.raises(CorruptFileError) as caught:
        attest(folder)
    assert str(caught.value) == (
        "artifacts/evaluations/model_v1/provenance.json: _type: expected text, found nothing. "
        "Left as found."
    )
    assert files(artifacts) == before


@pytest.mark.parametrize(
    ("evaluation", "run_id"), [(b"{}", "faster"), (b"[]", "run-1")], ids=["the same", "another"]
)
def test_a_statement_written_first_is_kept_only_if_it_attests_the_same_evaluation(
    evaluation, run_id, folder, monkeypatch
):
    create = folder.store.create

    def late(key, data):
        monkeypatch.setattr(folder.store, "create", create)
        attest(folder, evaluation, "faster")
        return create(key, data)

    monkeypatch.setattr(folder.store, "create", late)
    attest(folder)
    statement = read_statement(folder)
    assert statement.invocation_id == run_id
    assert statement.subject_sha256 == sha256(b"{}").hexdigest()


def test_a_run_killed_while_an_evaluation_changes_can_be_repeated(project, crashes, monkeypatch):
    run_training_pipeline(CONFIG, "model_v1")
    work = """
from src.evaluation.evaluator import evaluate_model
def metrics(_): return {"quality_score": 1.0}
def work(): evaluate_model("model_v1", metrics=metrics, replace=True)
"""
    folder = Path("artifacts/evaluations/model_v1")

    def is_attested():
        statement = json.loads((folder / "provenance.json").read_bytes())
        [subject] = statement["subject"]
        data = (folder / "evaluation.json").read_bytes()
        return subject["digest"]["sha256"] == sha256(data).hexdigest()

    attested = set()
    for step in crashes(work, project):
        monkeypatch.chdir(step)
        attested.add(is_attested())
        evaluate_model("model_v1", metrics=other_metrics, replace=True)
        assert is_attested()
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["earlier", "evaluation.json", "provenance.json"]
    assert attested == {True, False}
