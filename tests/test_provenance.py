import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from src import __version__, provenance
from src.evaluation.evaluator import evaluate_model
from src.provenance import (
    Invocation,
    Material,
    Provenance,
    bind_model,
    check_provenance,
    parse_provenance,
    read_provenance,
)
from src.source import CORE, source_digest
from src.storage import CorruptFileError, canonical_json
from src.training.config import load_training_config
from src.training.dataset import resolve_dataset
from src.training.pipeline import run_training_pipeline
from src.training.trainer import model_metadata, train_model, write_metadata
from src.versions import ModelVersionConflict
from tests.examples import CONFIG as CONFIG_TEXT
from tests.examples import DATA_SHA256

CONFIG = "configs/training/mistral_finetune.yaml"
MODEL = Path("artifacts/models/model_v1")
FILE = MODEL / "provenance.json"
EVALUATION = Path("artifacts/evaluations/model_v1/evaluation.json")
STATEMENT = EVALUATION.with_name("provenance.json")
METADATA_SHA256 = "e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7"
EVALUATION_SHA256 = "a809825432d24bc91db6339de1f87432a0588af97636da123c3ea835d5d5c0b2"
OTHER_DATA = b'{"text": "one"}\n{"text": "TWO"}\n{"text": "three"}\n'
RUN = Invocation(
    id="run-1",
    url="http://127.0.0.1:4200/runs/flow-run/run-1",
    builder="urn:builder",
    started_on="2024-02-29T10:00:00.000Z",
    clock=lambda: "2024-02-29T10:00:01.500Z",
)


@pytest.fixture(autouse=True)
def _in_project(project):
    """Every test works in a project of its own."""


def digest_of(path):
    return sha256(Path(path).read_bytes()).hexdigest()


def run(**arguments):
    return run_training_pipeline(CONFIG, "model_v1", **arguments)


def change_data():
    dataset = Path("artifacts/datasets/dataset_v1")
    (dataset / "data.jsonl").write_bytes(OTHER_DATA)
    (dataset / "metadata.json").unlink()


def edit(path, change):
    whole = json.loads(path.read_bytes())
    change(whole)
    path.write_bytes(canonical_json(whole))


# --- Its form ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [FILE, STATEMENT], ids=["model", "evaluation"])
@pytest.mark.parametrize("invocation", [RUN, None], ids=["named run", "unnamed run"])
def test_it_is_a_statement_of_slsa_provenance_to_others(path, invocation):
    run(invocation=invocation)
    # Both parsers refuse a field that they do not know.
    message = json_format.Parse(path.read_text(), StatementMessage())
    Statement.copy_from_pb(message).validate()
    assert message.predicate_type == "https://slsa.dev/provenance/v1"
    predicate = json_format.Parse(
        json_format.MessageToJson(message.predicate), provenance_pb2.Provenance()
    )
    assert predicate.build_definition.build_type.startswith("urn:llm-training-pipeline:")
    [subject] = message.subject
    assert dict(subject.digest) == {"sha256": digest_of(path.with_name(subject.name))}


def test_that_of_a_model_says_what_the_model_was_made_of():
    run(invocation=RUN)
    statement = json.loads(FILE.read_bytes())
    assert FILE.read_bytes() == canonical_json(statement)
    materials = statement["predicate"]["buildDefinition"].pop("resolvedDependencies")
    assert statement == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "metadata.json", "digest": {"sha256": METADATA_SHA256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:llm-training-pipeline:train:v1",
                "externalParameters": {
                    "config": {
                        "base_model": "mistral-7b",
                        "dataset_version": "dataset_v1",
                        "learning_rate": 2e-05,
                        "epochs": 3,
                        "batch_size": 16,
                    },
                    "model_version": "model_v1",
                },
            },
            "runDetails": {
                "builder": {
                    "id": "urn:builder",
                    "version": {"llm-training-pipeline": __version__},
                },
                "metadata": {
                    "invocationId": "run-1",
                    "startedOn": "2024-02-29T10:00:00.000Z",
                    "finishedOn": "2024-02-29T10:00:01.500Z",
                },
                "byproducts": [{"name": "run", "uri": "http://127.0.0.1:4200/runs/flow-run/run-1"}],
            },
        },
    }
    code = [each for each in materials if each["name"] == "code"]
    packages = materials.pop()
    assert [each for each in materials if each["name"] != "code"] == [
        {
            "name": "config",
            "uri": CONFIG,
            "digest": {"sha256": sha256(CONFIG_TEXT.encode()).hexdigest()},
        },
        {
            "name": "dataset",
            "uri": "datasets/dataset_v1/data.jsonl",
            "digest": {"sha256": DATA_SHA256},
            "annotations": {"num_samples": 3},
        },
        {
            "name": "dataset metadata",
            "uri": "datasets/dataset_v1/metadata.json",
            "digest": {"sha256": digest_of("artifacts/datasets/dataset_v1/metadata.json")},
        },
        {"name": "core", "digest": {"sha256": source_digest(CORE)}},
        {
            "name": "python",
            "annotations": {
                "version": "{}.{}.{}".format(*sys.version_info),
                "implementation": sys.implementation.name,
            },
        },
    ]
    assert all(set(each) == {"name", "digest", "annotations"} for each in code)
    assert packages["name"] == "packages"
    assert {"filelock", "pyyaml", "in-toto-attestation"} <= set(packages["annotations"])


def test_that_of_an_evaluation_names_the_models_by_its_digest():
    run(invocation=RUN)
    statement = json.loads(STATEMENT.read_bytes())
    assert statement["subject"] == [
        {"name": "evaluation.json", "digest": {"sha256": EVALUATION_SHA256}}
    ]
    assert statement["predicate"]["buildDefinition"] == {
        "buildType": "urn:llm-training-pipeline:evaluate:v1",
        "externalParameters": {"model_version": "model_v1"},
        "resolvedDependencies": [
            {
                "name": "metadata.json",
                "uri": "models/model_v1/metadata.json",
                "digest": {"sha256": METADATA_SHA256},
            },
            {
                "name": "provenance.json",
                "uri": "models/model_v1/provenance.json",
                "digest": {"sha256": digest_of(FILE)},
            },
            {"name": "core", "digest": {"sha256": source_digest(CORE)}},
        ],
    }


def test_a_run_that_nobody_named_gets_an_id_and_the_time():
    run()
    made = read_provenance(FILE)
    assert re.fullmatch("[0-9a-f]{32}", made.invocation_id)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made.started_on)
    assert made.started_on <= made.finished_on
    assert made.url is None
    assert read_provenance(STATEMENT).invocation_id == made.invocation_id


def test_it_is_read_back_as_it_was_written():
    run(invocation=RUN)
    statement = json.loads(FILE.read_bytes())
    assert Provenance.from_dict(statement).to_dict() == statement


def test_what_it_does_not_name_has_no_digest():
    run()
    made = read_provenance(STATEMENT)
    assert made.digest("dataset") is None
    assert made.annotations("dataset") == {}
    assert made.digest("core", "gitCommit") is None


def test_where_there_is_none_there_is_nothing_to_read():
    assert read_provenance(FILE) is None


def test_a_config_whose_path_is_not_text_is_named_as_well_as_can_be():
    path = os.fsdecode(b"c\xff.yaml")
    Path(path).write_text(CONFIG_TEXT)
    run_training_pipeline(path, "model_v1")
    assert read_provenance(FILE).material("config").uri == "c\\udcff.yaml"


def test_the_release_is_that_of_the_project():
    text = (CORE.parent / "pyproject.toml").read_text()
    assert f'\nversion = "{__version__}"\n' in text


# --- Written once --------------------------------------------------------------------------------


def test_a_later_run_does_not_replace_who_was_first(project, tree):
    run(invocation=RUN)
    before = tree(project)
    run()
    assert tree(project) == before


def test_a_later_run_does_not_ask_for_the_environment(monkeypatch):
    run()
    monkeypatch.setattr(provenance, "_environment", None)
    monkeypatch.setattr(provenance, "source_digest", None)
    run()


def test_a_version_without_one_gets_it_from_the_next_run_with_a_warning(warnings):
    run()
    FILE.unlink()
    run(invocation=RUN)
    assert read_provenance(FILE).invocation_id == "run-1"
    assert warnings == [
        (
            "WARNING",
            "artifacts/models/model_v1/provenance.json: there was none beside metadata.json, "
            "which an older release wrote, or it was deleted. Written: it tells of this run, not "
            "of the first.",
        )
    ]


def test_a_new_version_is_no_cause_for_a_warning(warnings):
    run()
    run()
    assert warnings == []


def test_without_materials_none_is_written(metadata):
    write_metadata(metadata)
    evaluate_model("model_v1")
    assert not FILE.exists()
    assert not STATEMENT.exists()


# --- A version is bound to its data --------------------------------------------------------------


def test_other_data_of_the_same_count_is_a_conflict_that_names_both_digests(project, tree):
    run()
    change_data()
    before = tree(project)
    with pytest.raises(ModelVersionConflict) as caught:
        run()
    assert str(caught.value) == (
        "artifacts/models/model_v1/provenance.json: model version 'model_v1' is already bound to "
        "other content:\n"
        f"  data_sha256: recorded '{DATA_SHA256}', now '{sha256(OTHER_DATA).hexdigest()}'\n"
        "Nothing was changed. A version never changes: choose another model_version."
    )
    assert tree(project) == before


def test_a_version_stays_bound_to_config_and_data_when_only_its_provenance_is_left(project, tree):
    train_model(CONFIG, "model_v1")
    (MODEL / "metadata.json").unlink()
    change_data()
    Path(CONFIG).write_text(CONFIG_TEXT.replace("epochs: 3", "epochs: 4"))
    before = tree(project)
    with pytest.raises(ModelVersionConflict) as caught:
        train_model(CONFIG, "model_v1")
    assert caught.value.details == [
        "training_config.epochs: recorded 3, now 4",
        f"data_sha256: recorded '{DATA_SHA256}', now '{sha256(OTHER_DATA).hexdigest()}'",
    ]
    assert tree(project) == before


def test_an_older_version_without_provenance_is_not_bound_to_its_data():
    run()
    FILE.unlink()
    change_data()
    run()
    assert read_provenance(FILE).digest("dataset") == sha256(OTHER_DATA).hexdigest()


def test_checking_gives_the_bytes_that_bind_or_none(metadata):
    assert check_provenance(metadata, MODEL, DATA_SHA256) is None
    run()
    assert check_provenance(metadata, MODEL, DATA_SHA256) == FILE.read_bytes()
    with pytest.raises(ModelVersionConflict):
        check_provenance(metadata, MODEL, "0" * 64)


@pytest.mark.parametrize("other", [False, True], ids=["the same", "other data"])
def test_of_two_that_bind_one_version_at_once_the_first_wins(other, metadata, monkeypatch):
    create = provenance.create
    theirs = [Material(name="dataset", digest={"sha256": "1" * 64 if other else DATA_SHA256})]
    ours = [Material(name="dataset", digest={"sha256": DATA_SHA256})]

    def late(path, data, *, root):
        monkeypatch.setattr(provenance, "create", create)
        assert bind_model(metadata, MODEL, theirs, RUN, root=MODEL)
        return create(path, data, root=root)

    monkeypatch.setattr(provenance, "create", late)
    if other:
        with pytest.raises(ModelVersionConflict):
            bind_model(metadata, MODEL, ours, Invocation(), root=MODEL)
    else:
        assert not bind_model(metadata, MODEL, ours, Invocation(), root=MODEL)
    assert read_provenance(FILE).invocation_id == "run-1"


def test_one_that_was_put_in_place_of_the_one_found_is_checked_as_well(metadata, monkeypatch):
    run()
    create = provenance.create
    theirs = [Material(name="dataset", digest={"sha256": "1" * 64})]
    ours = [Material(name="dataset", digest={"sha256": DATA_SHA256})]

    def late(path, data, *, root):
        path.unlink()
        monkeypatch.setattr(provenance, "create", create)
        assert bind_model(metadata, MODEL, theirs, RUN, root=MODEL)
        return create(path, data, root=root)

    monkeypatch.setattr(provenance, "create", late)
    with pytest.raises(ModelVersionConflict):
        bind_model(metadata, MODEL, ours, Invocation(), root=MODEL)


# --- One that cannot be relied on ----------------------------------------------------------------


def at(*place):
    def change(value):
        def edit(whole):
            for key in place[:-1]:
                whole = whole[key]
            whole[place[-1]] = value

        return edit

    return change


DEPENDENCIES = ("predicate", "buildDefinition", "resolvedDependencies")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("_type")(1), "_type: expected text, found 1."),
        (
            at("_type")("x"),
            "_type: expected 'https://in-toto.io/Statement/v1', found 'x'.",
        ),
        (
            at("predicateType")("x"),
            "predicateType: expected 'https://slsa.dev/provenance/v1', found 'x'.",
        ),
        (at("subject")([]), "subject.0.name: expected text, found nothing."),
        (at("subject")("x"), "subject.0.name: expected text, found nothing."),
        (
            at("predicate")(3),
            "predicate.buildDefinition.resolvedDependencies: expected a list, found nothing.",
        ),
        (
            at("predicate", "runDetails", "metadata")({}),
            "predicate.runDetails.metadata.invocationId: expected text, found nothing.",
        ),
        (
            at("predicate", "buildDefinition", "externalParameters")([]),
            "predicate.buildDefinition.externalParameters: expected an object, found [].",
        ),
        (
            at(*DEPENDENCIES)([3]),
            "predicate.buildDefinition.resolvedDependencies.0.name: expected text, found nothing.",
        ),
        (
            at(*DEPENDENCIES, 1, "digest", "sha256")(5),
            "predicate.buildDefinition.resolvedDependencies.1.digest.sha256: expected text, "
            "found 5.",
        ),
        (
            at(*DEPENDENCIES, 1, "annotations")([]),
            "predicate.buildDefinition.resolvedDependencies.1.annotations: expected an object, "
            "found [].",
        ),
        (
            at(*DEPENDENCIES, 1, "uri")(5),
            "predicate.buildDefinition.resolvedDependencies.1.uri: expected text, found 5.",
        ),
        (
            at("predicate", "buildDefinition", "externalParameters", "model_version")("model_v2"),
            "model_version: expected 'model_v1', found 'model_v2'.",
        ),
    ],
)
@pytest.mark.parametrize("work", [run, lambda: train_model(CONFIG, "model_v1")])
def test_what_is_no_provenance_of_the_version_is_named_with_its_place_and_left(
    work, change, message, project, tree
):
    run()
    edit(FILE, change)
    before = tree(project)
    with pytest.raises(CorruptFileError) as caught:
        work()
    assert str(caught.value) == f"{FILE}: {message} Left as found."
    assert tree(project) == before


@pytest.mark.parametrize("path", [FILE, STATEMENT], ids=["model", "evaluation"])
@pytest.mark.parametrize("data", [b"", b'{"_type": "htt', b"[]"], ids=["empty", "torn", "list"])
def test_a_file_that_is_no_json_object_stops_the_run_and_is_left(path, data, project, tree):
    run()
    path.write_bytes(data)
    before = tree(project)
    with pytest.raises(CorruptFileError, match=f"^{path}: .* Left as found\\.$"):
        run(metrics=lambda _: {"quality_score": 1.0})
    assert tree(project) == before


def test_an_edited_subject_is_named_with_both_digests_and_left(project, tree):
    run()
    edit(FILE, at("subject", 0, "digest", "sha256")("0" * 64))
    before = tree(project)
    with pytest.raises(CorruptFileError) as caught:
        run()
    assert str(caught.value) == (
        f"{FILE}: subject: expected sha256 {METADATA_SHA256} of metadata.json, found "
        f"'{'0' * 64}'. Left as found; restore it, or delete it to have it written again."
    )
    assert tree(project) == before


def test_parsing_says_where_the_bytes_came_from():
    with pytest.raises(CorruptFileError, match=r"^some/file: _type: expected text"):
        parse_provenance(b"{}", Path("some/file"))


# --- That of an evaluation -----------------------------------------------------------------------


def other_metrics(metadata):
    return {"quality_score": 1.0}


def test_another_evaluation_gets_another_statement():
    run()
    evaluate_model("model_v1", metrics=other_metrics, invocation=RUN)
    made = read_provenance(STATEMENT)
    assert made.subject_sha256 == digest_of(EVALUATION)
    assert made.invocation_id == "run-1"


def test_a_restored_evaluation_keeps_the_statement_of_who_made_it_first():
    run()
    before = STATEMENT.read_bytes()
    EVALUATION.write_bytes(b"{}")
    run(invocation=RUN)
    assert STATEMENT.read_bytes() == before


def test_a_deleted_statement_comes_back():
    run()
    STATEMENT.unlink()
    run(invocation=RUN)
    assert read_provenance(STATEMENT).invocation_id == "run-1"


def test_a_run_killed_while_an_evaluation_changes_can_be_repeated(project, crashes, monkeypatch):
    run()
    work = """
from src.evaluation.evaluator import evaluate_model
def work(): evaluate_model("model_v1", metrics=lambda _: {"quality_score": 1.0})
"""
    agreed = set()
    for step in crashes(work, project):
        monkeypatch.chdir(step)
        made = read_provenance(STATEMENT)
        agreed.add(made.subject_sha256 == digest_of(EVALUATION))
        evaluate_model("model_v1", metrics=other_metrics)
        assert read_provenance(STATEMENT).subject_sha256 == digest_of(EVALUATION)
        names = sorted(path.name for path in STATEMENT.parent.iterdir())
        assert names == ["evaluation.json", "provenance.json"]
    assert agreed == {True, False}


# --- The code and what runs it -------------------------------------------------------------------


def git(*arguments, folder="."):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    git("init", folder=folder)
    (folder / "a.py").write_text("a = 1\n")
    git("add", "a.py", folder=folder)
    return folder


def test_the_commit_is_that_of_the_checkout(checkout):
    git("commit", "-m", "first", folder=checkout)
    commit = git("rev-parse", "HEAD", folder=checkout)

    def found():
        [material] = provenance._checkout(checkout)
        assert (material.name, material.digest) == ("code", {"gitCommit": commit})
        return material.annotations

    assert found() == {"dirty": False}
    (checkout / "untracked.py").write_text("b = 1\n")
    assert found() == {"dirty": False}
    (checkout / "a.py").write_text("a = 2\n")
    assert found() == {"dirty": True}


def test_without_a_commit_there_is_none(checkout, tmp_path, monkeypatch):
    assert provenance._checkout(checkout) == []  # nothing is committed yet
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "outside").mkdir()
    assert provenance._checkout(tmp_path / "outside") == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance._checkout(checkout) == []  # git is not installed


def test_a_git_that_hangs_is_not_waited_for(checkout, tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(provenance, "GIT_TIMEOUT_SECONDS", 0.1)
    assert provenance._checkout(checkout) == []


def test_packages_other_than_this_are_named_by_their_folders_the_first_on_the_path_counting(
    tmp_path,
):
    for name in ("one/Some_Package-1.0.dist-info", "two/some.package-2.0.dist-info"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "two/other-3!1.0rc1+local.dist-info").mkdir()
    (tmp_path / "two/other.py").touch()
    (tmp_path / "two/llm_training_pipeline-0.0.1.dist-info").mkdir()  # this project itself
    (tmp_path / "file.zip").touch()
    folders = [str(tmp_path / name) for name in ("one", "two", "file.zip", "none")]
    assert provenance._packages([*folders, ""]) == {
        "some-package": "1.0",
        "other": "3!1.0rc1+local",
    }


def test_a_run_for_which_a_config_changes_meanwhile_hashes_what_it_read(monkeypatch):
    def slow(*arguments):
        Path(CONFIG).write_text("epochs: 9\n")
        return resolve_dataset(*arguments)

    monkeypatch.setattr("src.training.trainer.resolve_dataset", slow)
    train_model(CONFIG, "model_v1")
    expected = sha256(CONFIG_TEXT.encode()).hexdigest()
    assert read_provenance(FILE).digest("config") == expected


def test_metadata_alone_can_be_checked_before_it_is_made():
    config, dataset = load_training_config(CONFIG), resolve_dataset("dataset_v1")
    run()
    found = check_provenance(model_metadata(config, dataset, "model_v1"), MODEL, dataset.sha256)
    assert found == FILE.read_bytes()
