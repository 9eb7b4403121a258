"""Real models that are trained again: `verify --retrain` on the demonstration tiny_lora."""

import json

import pytest

from src.records.canonical import canonical_json


@pytest.fixture
def model(project):
    """The folder of `short_undisturbed`, whose files are restored after the test."""
    folder = project.folder / "artifacts/models/short_undisturbed"
    data = project.folder / "artifacts/datasets/dataset_v1/data.jsonl"
    before = {path: path.read_bytes() for path in [*folder.rglob("*"), data] if path.is_file()}
    yield folder
    for path, content in before.items():
        path.write_bytes(content)


def retrain(project, code=0, **env):
    done = project.llm_train("verify", "short_undisturbed", "--retrain", code=code, env=env)
    return done.stdout


def test_a_model_that_is_trained_again_has_the_same_bytes(project, model, tree):
    before = tree(project.folder / "artifacts")
    output = retrain(project)
    assert output.startswith(("MATCH ", "AS RECORDED "))
    assert "  training: Trained again, with the same result: 5 files, " in output
    assert tree(project.folder / "artifacts") == before


def test_another_capability_of_the_processor_is_a_mismatch_that_names_it(project, model):
    statement = json.loads((model / "provenance.json").read_bytes())
    inputs = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    [environment] = [each for each in inputs if each["name"] == "training environment"]
    if environment["annotations"]["torch"]["cpu_capability"] == "DEFAULT":
        pytest.skip("a processor with one capability only")
    output = retrain(project, code=1, ATEN_CPU_CAPABILITY="default")
    assert "diverged  environment" in output
    assert "tensors differ, by at most " in output
    assert "The first step that differs is step " in output
    assert " now; lines " in output
    assert "variables.ATEN_CPU_CAPABILITY: none recorded, default now" in output


def test_one_byte_of_the_weights_is_named_with_its_tensor(project, model):
    path = model / "weights/adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    output = retrain(project, code=1)
    assert "weights/adapter_model.safetensors: expected sha256 " in output
    assert "Altered since it was recorded: adapter_model.safetensors: 1 of 10 tensors " in output


def test_one_option_in_the_statement_is_named(project, model):
    path = model / "provenance.json"
    statement = json.loads(path.read_bytes())
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    parameters["trainer"]["options"]["rank"] = 4
    path.write_bytes(canonical_json(statement))
    assert "trainer.options.rank: recorded 4, now 8" in retrain(project, code=1)


def test_one_line_of_other_data_is_named(project, model):
    path = project.folder / "artifacts/datasets/dataset_v1/data.jsonl"
    path.write_bytes(path.read_bytes().replace(b"21 September 1999", b"22 September 1999", 1))
    output = retrain(project, code=1)
    assert "  dataset bytes\n" in output
    assert "found     data.jsonl: sha256 " in output


def test_weights_and_metrics_are_both_computed_again(project):
    done = project.llm_train("verify", "undisturbed", "--retrain", "--reevaluate")
    assert done.stdout.startswith("MATCH ")
