import json

import pytest

from src.environment import Invocation
from src.errors import CorruptFileError
from src.evaluation.evaluator import evaluate_model
from src.lineage.rebuild import RegistryExistsError, plan_rebuild, write_registry
from src.records.canonical import canonical_json
from src.training.hashing import count_and_hash
from src.training.pipeline import run_training_pipeline
from src.training.registry import check_registry, list_models, register_model
from src.training.trainer import train_model
from tests.stores import delete

EMPTY = b'{\n  "models": []\n}\n'


def contents(path):
    return path.read(1 << 20)


def rebuild(artifacts):
    plan = plan_rebuild(artifacts.root)
    write_registry(plan, artifacts.root)
    return plan


def at(time):
    """Return a run in which every result is finished at one time."""
    return Invocation(id="run", clock=lambda: f"2026-11-24T10:00:00.{time:03}Z")


def run(artifacts, version, **options):
    run_training_pipeline("one.yaml", version, artifacts_dir=artifacts.root, **options)


def versions(artifacts):
    return [model["model_version"] for model in list_models(artifacts.registry)]


def later_models(artifacts):
    """Return the models of a rebuilt registry, in their order, without those of `models`."""
    listed = [metadata["model_version"] for metadata in plan_rebuild(artifacts.root).entries]
    return [version for version in listed if version not in ("model_v1", "model_v2")]


def test_a_deleted_registry_is_rebuilt_to_the_byte(models, files):
    for version in ("model_a", "model_0", "model_v9"):
        run(models, version)
    before = files(models)
    assert versions(models) == ["model_v1", "model_v2", "model_a", "model_0", "model_v9"]
    delete(models.registry)
    assert rebuild(models).left_out == {}
    assert files(models) == before


@pytest.mark.parametrize("emptied", [b"", b"\n", b"\0" * 900, EMPTY, b'{"models": []}'])
def test_an_emptied_registry_is_rebuilt_to_the_byte(emptied, models, files):
    before = files(models)
    models.registry.replace(emptied)
    assert rebuild(models).left_out == {}
    assert files(models) == before


def test_fields_that_a_newer_release_wrote_to_an_emptied_registry_are_kept(models):
    entries = json.loads(contents(models.registry))["models"]
    models.registry.replace(b'{"models": [], "release": 9}')
    rebuild(models)
    assert contents(models.registry) == canonical_json({"models": entries, "release": 9})


def test_a_rebuilt_registry_is_a_registry_to_the_pipeline(models):
    delete(models.registry)
    rebuild(models)
    check_registry(models)
    run(models, "model_v3")
    assert versions(models) == ["model_v1", "model_v2", "model_v3"]


def test_models_are_listed_in_the_order_in_which_their_training_finished(models):
    for version, time in (("model_b", 2), ("model_a", 3), ("model_c", 1)):
        run(models, version, invocation=at(time))
    delete(models.registry)
    assert later_models(models) == ["model_c", "model_b", "model_a"]


def test_the_order_of_equal_times_is_that_of_the_evaluations_and_then_of_the_names(models):
    for version, time in (("model_b", 1), ("model_a", 1), ("model_c", 1), ("model_d", 1)):
        train_model(
            "one.yaml",
            version,
            models.models,
            datasets_dir=models.datasets,
            invocation=at(time),
        )
    for version, time in (("model_b", 3), ("model_a", 3), ("model_c", 2), ("model_d", 4)):
        evaluate_model(version, models.models, models.evaluations, invocation=at(time))
    delete(models.registry)
    assert later_models(models) == ["model_c", "model_a", "model_b", "model_d"]


def test_a_new_evaluation_of_an_old_model_does_not_change_its_place(models):
    before = contents(models.registry)
    path = models.evaluations / "model_v1/provenance.json"
    delete(path)
    evaluate_model("model_v1", models.models, models.evaluations)
    delete(models.registry)
    rebuild(models)
    assert contents(models.registry) == before


def test_planning_writes_no_file(models, files):
    delete(models.registry)
    before = files(models)
    assert [metadata["model_version"] for metadata in plan_rebuild(models.root).entries] == [
        "model_v1",
        "model_v2",
    ]
    assert files(models) == before


def test_a_model_that_does_not_verify_is_left_out_with_the_reason(models):
    delete(models.registry)
    path = models.evaluations / "model_v1/evaluation.json"
    found = contents(path)
    path.replace(found.replace(b"0.9031", b"0.9999"))
    plan = rebuild(models)
    assert versions(models) == ["model_v2"]
    assert plan.left_out.keys() == {"model_v1"}
    assert plan.left_out["model_v1"].startswith("evaluation.json: expected sha256 ")


def test_a_model_without_evaluation_is_left_out_and_its_next_run_adds_it(models):
    train_model("one.yaml", "model_v3", models.models, datasets_dir=models.datasets)
    delete(models.registry)
    plan = rebuild(models)
    path = models.evaluations / "model_v3/evaluation.json"
    assert f"found {path}: no such file" in plan.left_out["model_v3"]
    run(models, "model_v3")
    assert versions(models) == ["model_v1", "model_v2", "model_v3"]


def test_a_model_of_an_older_release_without_statements_is_left_out_and_its_next_run_adds_it(
    models,
):
    for folder in (models.models, models.evaluations):
        delete(folder / "model_v1/provenance.json")
    delete(models.registry)
    plan = rebuild(models)
    path = models.models / "model_v1/provenance.json"
    assert (
        f"provenance.json: expected unknown, found {path}: no such file"
        in (plan.left_out["model_v1"])
    )
    run(models, "model_v1")
    assert versions(models) == ["model_v2", "model_v1"]


def test_a_registry_with_entries_is_left_as_found(models, files):
    before = files(models)
    with pytest.raises(RegistryExistsError) as caught:
        plan_rebuild(models.root)
    assert str(caught.value) == (
        "artifacts/models/registry.json: not lost: it has 2 entries. Left as found. To add one "
        "model, run its config again; to rebuild the whole list, move the file away first."
    )
    assert files(models) == before


def test_a_registry_that_another_process_wrote_meanwhile_is_left_as_found(models, files):
    [metadata, _] = list_models(models.registry)
    delete(models.registry)
    plan = plan_rebuild(models.root)
    register_model(metadata, models.registry)
    before = files(models)
    with pytest.raises(RegistryExistsError, match="not lost: it has 1 entry"):
        write_registry(plan, models.root)
    assert files(models) == before


@pytest.mark.parametrize("damaged", [b"{}", b"3", b'{\n  "models": [\n', b'{"models": [{}]}'])
def test_a_damaged_registry_is_left_as_found_and_the_error_says_what_to_do(damaged, models, files):
    models.registry.replace(damaged)
    before = files(models)
    with pytest.raises(CorruptFileError) as caught:
        plan_rebuild(models.root)
    assert str(caught.value).startswith("artifacts/models/registry.json: ")
    assert str(caught.value).endswith("Left as found. Move it away, then rebuild the registry.")
    assert files(models) == before


def test_data_that_is_gone_leaves_its_models_out(models):
    delete(models.registry)
    delete(models.datasets / "dataset_v1/data.jsonl")
    plan = plan_rebuild(models.root)
    assert [metadata["model_version"] for metadata in plan.entries] == ["model_v2"]
    assert "dataset_v1/data.jsonl: no such file" in plan.left_out["model_v1"]


def test_a_model_that_another_evaluator_measured_is_listed_if_its_digests_agree(models):
    def metrics(_):
        return {"accuracy": 0.5}

    run(models, "model_v3", metrics=metrics)
    delete(models.registry)
    assert plan_rebuild(models.root).left_out == {}
    assert plan_rebuild(models.root, metrics=metrics).left_out == {}


def test_a_file_that_is_edited_after_its_verification_is_not_listed(models):
    before = contents(models.registry)
    delete(models.registry)
    metadata = models.models / "model_v1/metadata.json"

    def edit_and_hash(path):
        metadata.replace(contents(metadata).replace(b"mistral-7b", b"backdoored"))
        return count_and_hash(path)

    plan = plan_rebuild(models.root, hash_dataset=edit_and_hash)
    write_registry(plan, models.root)
    assert contents(models.registry) == before
    assert b"backdoored" in contents(metadata)
