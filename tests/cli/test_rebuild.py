"""Tests of the command `rebuild-registry`."""

from pathlib import Path

import pytest

REGISTRY = Path("artifacts/models/registry.json")
EVALUATION = Path("artifacts/evaluations/model_v1/evaluation.json")


@pytest.fixture
def lost(models) -> bytes:
    """The bytes of the registry of `models`, which is deleted."""
    data = REGISTRY.read_bytes()
    REGISTRY.unlink()
    return data


def test_a_lost_registry_is_written_again_and_its_models_are_printed(lost, llm_train):
    done = llm_train("rebuild-registry")
    assert (done.exit_code, done.stdout) == (0, "model_v1\nmodel_v2\n")
    assert done.stderr == f"{REGISTRY}: 2 models, written.\n"
    assert REGISTRY.read_bytes() == lost


def test_a_dry_run_prints_the_models_and_writes_no_file(lost, llm_train, tree):
    before = tree(Path("artifacts"))
    done = llm_train("rebuild-registry", "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "model_v1\nmodel_v2\n")
    assert done.stderr == f"{REGISTRY}: 2 models, not written.\n"
    assert tree(Path("artifacts")) == before


def test_a_model_that_does_not_verify_is_named_on_stderr_and_exits_with_1(lost, llm_train):
    EVALUATION.unlink()
    done = llm_train("rebuild-registry")
    assert (done.exit_code, done.stdout) == (1, "model_v2\n")
    error, summary = done.stderr.splitlines()
    assert error.startswith("error: model_v1: left out. evaluation.json: expected sha256 ")
    assert error.endswith(f", found {EVALUATION}: no such file.")
    assert summary == f"{REGISTRY}: 1 model, written."


def test_no_registry_is_written_if_no_model_verifies(lost, llm_train):
    for path in Path("artifacts/evaluations").rglob("evaluation.json"):
        path.unlink()
    done = llm_train("rebuild-registry")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith(f"\n{REGISTRY}: 0 models, not written.\n")
    assert not REGISTRY.exists()


def test_the_json_form_has_the_models_and_why_others_are_left_out(lost, as_json):
    EVALUATION.unlink()
    found = as_json("rebuild-registry", "--dry-run")
    [reason] = found.pop("left_out").values()
    assert reason.startswith("evaluation.json: expected sha256 ")
    assert found == {"registry": str(REGISTRY), "models": ["model_v2"], "written": False}
    assert as_json("rebuild-registry")["written"] is True


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_registry_with_entries_is_one_error_and_exit_code_2(models, llm_train, options):
    before = REGISTRY.read_bytes()
    done = llm_train("rebuild-registry", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {REGISTRY}: not lost: it has 2 entries. Left as found. To add one model, run its "
        "config again; to rebuild the whole list, move the file away first.\n"
    )
    assert REGISTRY.read_bytes() == before


def test_a_damaged_registry_is_one_error_and_exit_code_1(models, llm_train):
    REGISTRY.write_bytes(b"{}")
    done = llm_train("rebuild-registry")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {REGISTRY}: models: expected a list, found nothing. Left as found. Move it away, "
        "then rebuild the registry.\n"
    )


def test_an_artifacts_root_without_models_is_one_error_and_exit_code_2(project, llm_train):
    done = llm_train("rebuild-registry")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: artifacts: no models. Train one first.\n"
