"""Verification of models that a trainer made, after an edit of their record."""

import json
import shutil
from pathlib import Path

import pytest

from src.evaluation.evaluator import simulated_metrics
from src.lineage.verify import verdict, verify
from src.records.canonical import canonical_json, sha256
from src.records.evaluation import evaluation_bytes
from src.training.pipeline import run_training_pipeline
from tests.trainers import CONFIG_PATH, trained, write_config, write_module


def edit(folder, change):
    """Change a statement below `artifacts/`; return its new SHA-256."""
    path = Path("artifacts", folder, "provenance.json")
    value = json.loads(path.read_bytes())
    change(value, value["predicate"]["buildDefinition"])
    path.write_bytes(canonical_json(value))
    return sha256(path.read_bytes())


def edit_both(version, change):
    """Change the statement of a model, and let that of its evaluation agree."""
    digest = edit(f"models/{version}", change)

    def agree(value, definition):
        inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
        inputs["provenance.json"]["digest"]["sha256"] = digest

    edit(f"evaluations/{version}", agree)


def keep(definition, build_type, parameters, dependencies):
    definition["buildType"] = f"urn:llm-training-pipeline:{build_type}"
    given = definition["externalParameters"]
    definition["externalParameters"] = {name: given[name] for name in parameters}
    inputs = definition["resolvedDependencies"]
    inputs[:] = [each for each in inputs if each["name"] in dependencies]


def simulate(version):
    """Turn a trained model into a simulated one, in all files of the record."""
    metadata = json.loads(Path(f"artifacts/models/{version}/metadata.json").read_bytes())
    evaluation = evaluation_bytes(metadata, simulated_metrics(metadata))
    Path(f"artifacts/evaluations/{version}/evaluation.json").write_bytes(evaluation)
    shutil.rmtree(f"artifacts/models/{version}/weights")
    Path(f"artifacts/models/{version}/training.jsonl").unlink()

    def downgrade_model(value, definition):
        del value["subject"][1:]
        names = ("config", "dataset", "dataset metadata", "base config", "code", "core", "python")
        keep(definition, "train:v1", ("config", "model_version"), (*names, "packages"))

    def downgrade_evaluation(value, definition):
        value["subject"][0]["digest"]["sha256"] = sha256(evaluation)
        names = ("metadata.json", "provenance.json", "core")
        keep(definition, "evaluate:v1", ("model_version",), names)

    edit(f"evaluations/{version}", downgrade_evaluation)
    edit_both(version, downgrade_model)


def mismatch(version):
    [check] = [each for each in verify(version) if each.verdict == "MISMATCH"]
    return check.what, check.note


def test_a_trained_model_that_was_turned_into_a_simulated_one_is_found_by_its_config(project):
    run_training_pipeline(trained(steps=1), "model_v1")
    assert verdict(verify("model_v1")) == "AS RECORDED"
    simulate("model_v1")
    what, note = mismatch("model_v1")
    assert what == "provenance.json"
    assert note.startswith(f"trainer: in {CONFIG_PATH} {{")
    assert note.endswith(", recorded None.")


def test_a_variant_of_a_config_is_found_by_its_base_config(project):
    from src.artifacts import Artifacts
    from src.training.grids import write_variant

    variant = write_variant(trained(steps=1), ["epochs=5"], Artifacts.open())
    run_training_pipeline(variant, "model_v1")
    simulate("model_v1")
    assert "trainer: in " in mismatch("model_v1")[1]


def test_a_statement_without_the_base_config_that_its_config_names_is_a_mismatch(project):
    from src.artifacts import Artifacts
    from src.training.grids import write_variant

    variant = write_variant(trained(steps=1), ["epochs=5"], Artifacts.open())
    run_training_pipeline(variant, "model_v1")

    def drop(value, definition):
        inputs = definition["resolvedDependencies"]
        inputs[:] = [each for each in inputs if each["name"] != "base config"]

    edit_both("model_v1", drop)
    assert mismatch("model_v1") == (
        "provenance.json",
        f"base config: {variant} names one, found none.",
    )


def test_without_its_config_it_is_found_by_its_derived_name(project):
    version = run_training_pipeline(trained(steps=1))["model_version"]
    Path(CONFIG_PATH).unlink()
    assert verdict(verify(version)) == "AS RECORDED"
    simulate(version)
    simulated = run_training_pipeline(write_config())["model_version"]
    Path(CONFIG_PATH).unlink()
    assert mismatch(version) == (
        "provenance.json",
        f"Its config, data and trainer give the name {simulated}.",
    )


@pytest.mark.parametrize(
    ("trainer", "note"),
    [
        ({"use": "other:train"}, "trainer.use: in {path} 'mine:train', recorded 'other:train'."),
        ({"seed": 8}, "trainer.seed: in {path} 7, recorded 8."),
        ({"argv": ["x"]}, "trainer.argv: in {path} None, recorded ['x']."),
    ],
    ids=["name", "seed", "argv"],
)
def test_another_trainer_than_the_config_names_is_a_mismatch(trainer, note, project):
    run_training_pipeline(trained(steps=1), "model_v1")
    edit_both(
        "model_v1",
        lambda _, definition: definition["externalParameters"]["trainer"].update(trainer),
    )
    assert mismatch("model_v1") == ("provenance.json", note.format(path=CONFIG_PATH))


def test_a_config_that_names_another_trainer_since_is_no_mismatch(project):
    run_training_pipeline(trained(steps=1), "model_v1")
    write_config({"use": "mine:train", "seed": 8}, {"use": "mine:evaluate"})
    assert verdict(verify("model_v1")) == "AS RECORDED"


def test_options_that_a_trainer_adds_are_no_mismatch(project):
    write_module(
        "def train(run):\n"
        "    (run.output / 'w').write_text('1')\n"
        "train.check_options = lambda options: {'alpha': 16, **options}\n"
    )
    run_training_pipeline(write_config({"use": "mine:train", "options": {"rank": 4}}), "model_v1")
    assert verdict(verify("model_v1")) == "MATCH"


def test_the_name_of_a_version_that_only_looks_derived_is_a_mismatch_and_others_are_free(project):
    config = write_config()
    derived = run_training_pipeline(config)["model_version"]
    assert verdict(verify(derived)) == "MATCH"
    other = derived[:-1] + ("0" if derived[-1] != "0" else "1")
    run_training_pipeline(config, other)
    assert mismatch(other) == (
        "provenance.json",
        f"Its config, data and trainer give the name {derived}.",
    )
    run_training_pipeline(config, derived[:-1])
    assert verdict(verify(derived[:-1])) == "MATCH"
