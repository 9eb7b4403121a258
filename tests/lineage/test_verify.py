import json
import shutil
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pytest

from src.lineage import verify as module
from src.lineage.verify import Check, verify, verify_all
from src.storage import canonical_json
from src.training.dataset import count_and_hash
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError
from src.training.trainer import model_metadata, write_metadata

A = Path("artifacts")
METADATA = A / "models/model_v1/metadata.json"
PROVENANCE = A / "models/model_v1/provenance.json"
REGISTRY = A / "models/registry.json"
EVALUATION = A / "evaluations/model_v1/evaluation.json"
STATEMENT = A / "evaluations/model_v1/provenance.json"
DATA = A / "datasets/dataset_v1/data.jsonl"
RECORD = A / "datasets/dataset_v1/metadata.json"
METADATA_SHA256 = "e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7"

WHAT = [
    "registry entry",
    "metadata.json",
    "provenance.json",
    "config",
    "dataset bytes",
    "dataset metadata",
    "code",
    "evaluation.json",
    "evaluation's provenance",
]
OUTPUTS = [
    "registry entry",
    "metadata.json",
    "provenance.json",
    "evaluation.json",
    "evaluation's provenance",
]


def mismatches(version="model_v1", **arguments):
    return [check.what for check in verify(version, **arguments) if check.verdict != "MATCH"]


def check_of(what, **arguments):
    [check] = [check for check in verify("model_v1", **arguments) if check.what == what]
    return check


# --- An undamaged record -------------------------------------------------------------------------


def test_an_undamaged_record_matches_in_all_its_parts(models):
    checks = verify("model_v1")
    assert [check.what for check in checks] == WHAT
    assert {check.verdict for check in checks} == {"MATCH"}
    assert {check.diverged for check in checks} == {None}
    assert checks[0] == Check(
        what="registry entry",
        verdict="MATCH",
        expected=f"sha256 {METADATA_SHA256}",
        found=f"sha256 {METADATA_SHA256}",
    )


def test_of_two_hundred_undamaged_models_none_has_a_mismatch(models):
    for number in range(198):
        run_training_pipeline("one.yaml" if number % 2 else "two.yaml", f"m{number}")
    verdicts = {version: {check.verdict for check in checks} for version, checks in verify_all()}
    assert len(verdicts) == 200
    assert list(verdicts)[:3] == ["model_v1", "model_v2", "m0"]
    assert all(found == {"MATCH"} for found in verdicts.values())


def test_a_dataset_is_read_once_however_many_models_were_trained_on_it(models):
    run_training_pipeline("one.yaml", "model_v3")
    read = []

    def hash_dataset(path):
        read.append(str(path))
        return count_and_hash(path)

    assert len(list(verify_all(hash_dataset=hash_dataset))) == 3
    assert read == [str(DATA), "artifacts/datasets/dataset_v2/data.jsonl"]


def test_only_the_versions_asked_for_are_verified(models):
    assert [version for version, _ in verify_all(versions=["model_v2"])] == ["model_v2"]


@pytest.mark.parametrize("damage", [lambda: None, METADATA.unlink, lambda: DATA.write_bytes(b"")])
def test_verifying_changes_nothing(damage, models):
    def everything():
        return [
            (path, path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
            for path in sorted(models.rglob("*"))
        ]

    damage()
    before = everything()
    verify("model_v1")
    assert everything() == before


@pytest.mark.parametrize("name", ["model_v3", "", "../models", "registry.json", None])
def test_a_version_that_nothing_knows_is_an_error_that_names_the_nearest(name, models):
    with pytest.raises(ModelNotFoundError) as caught:
        verify(name)
    assert str(caught.value).startswith(f"artifacts/models: no model {name!r}. Nearest: model_v")


def test_a_version_that_nothing_knows_is_told_before_any_is_verified(models):
    with pytest.raises(ModelNotFoundError, match="no model 'model_v9'"):
        next(verify_all(versions=["model_v1", "model_v9"]))


def test_a_root_with_nothing_in_it_has_nothing_to_verify(tmp_path):
    assert list(verify_all(tmp_path)) == []
    with pytest.raises(ModelNotFoundError, match=r"Nearest: none\.$"):
        verify("model_v1", tmp_path)


# --- Every kind of damage ------------------------------------------------------------------------


def json_edit(path, *place, value):
    """Change one value in a file of JSON and write it as it would be written."""
    whole = json.loads(path.read_bytes())
    at = whole
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    path.write_bytes(canonical_json(whole))


def edited(path, *place, value):
    return lambda: json_edit(path, *place, value=value)


def dependency(path, name, *place, value):
    """Change something of one of the resolved dependencies of a statement."""

    def damage():
        found = json.loads(path.read_bytes())
        names = [
            each["name"] for each in found["predicate"]["buildDefinition"]["resolvedDependencies"]
        ]
        where = ("predicate", "buildDefinition", "resolvedDependencies", names.index(name))
        json_edit(path, *where, *place, value=value)

    return damage


def parameter(*place, value):
    return edited(
        PROVENANCE, "predicate", "buildDefinition", "externalParameters", *place, value=value
    )


def run_detail(*place, value):
    return edited(PROVENANCE, "predicate", "runDetails", *place, value=value)


def data_edit(change):
    return lambda: DATA.write_bytes(change(DATA.read_bytes()))


def of_other(path):
    return Path(str(path).replace("_v1", "_v2"))


def swapped(path):
    def damage():
        path.rename("aside")
        of_other(path).rename(path)
        Path("aside").rename(of_other(path))

    return damage


def to_each(path):
    """The kinds of damage that any file may take."""
    return {
        f"{path.parent.name}/{path.name} {how}": damage
        for how, damage in {
            "altered": lambda: path.write_bytes(path.read_bytes() + b" \n"),
            "truncated": lambda: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            "emptied": lambda: path.write_bytes(b""),
            "not text": lambda: path.write_bytes(b"\xff\xfe"),
            "deleted": path.unlink,
            "a folder": lambda: (path.unlink(), path.mkdir()),
        }.items()
    }


def together(*damages):
    return lambda: [damage() for damage in damages]


def data_and_record_agree():
    data = DATA.read_bytes().replace(b"two", b"TWO")
    DATA.write_bytes(data)
    json_edit(RECORD, "dataset_hash", value=sha256(data).hexdigest())


def evaluation_and_statement_agree():
    json_edit(EVALUATION, "metrics", "quality_score", value=0.9999)
    digest = sha256(EVALUATION.read_bytes()).hexdigest()
    json_edit(STATEMENT, "subject", 0, "digest", "sha256", value=digest)


def entry_twice():
    models = json.loads(REGISTRY.read_bytes())["models"]
    REGISTRY.write_bytes(canonical_json({"models": [models[0], *models]}))


def entry_removed():
    json_edit(REGISTRY, "models", value=json.loads(REGISTRY.read_bytes())["models"][1:])


ENTRY = ("models", 0)
ZEROS = "0" * 64
KINDS = {
    "metadata.json": {
        **to_each(METADATA),
        "metadata swapped": swapped(METADATA),
        "metadata: base_model": edited(METADATA, "base_model", value="other"),
        "metadata: epochs": edited(METADATA, "training_config", "epochs", value=4),
        "metadata: samples": edited(METADATA, "num_training_samples", value=4),
        "metadata: a type": edited(METADATA, "training_config", "epochs", value=3.0),
        "metadata: a field more": edited(METADATA, "note", value="by hand"),
    },
    "registry entry": {
        **to_each(REGISTRY),
        "entry: model_version": edited(REGISTRY, *ENTRY, "model_version", value="model_v9"),
        "entry: base_model": edited(REGISTRY, *ENTRY, "base_model", value="other"),
        "entry: dataset_version": edited(REGISTRY, *ENTRY, "dataset_version", value="dataset_v2"),
        "entry: samples": edited(REGISTRY, *ENTRY, "num_training_samples", value=4),
        "entry: samples as text": edited(REGISTRY, *ENTRY, "num_training_samples", value="3"),
        "entry: training_config": edited(REGISTRY, *ENTRY, "training_config", value={}),
        **{
            f"entry: {name}": edited(REGISTRY, *ENTRY, "training_config", name, value=value)
            for name, value in {
                "learning_rate": 3e-5,
                "epochs": 4,
                "batch_size": 32,
                "base_model": "other",
                "dataset_version": "dataset_v2",
            }.items()
        },
        "entry: a field more": edited(REGISTRY, *ENTRY, "note", value="by hand"),
        "entry removed": entry_removed,
        "entry twice": entry_twice,
    },
    "provenance.json": {
        **to_each(PROVENANCE),
        "provenance swapped": swapped(PROVENANCE),
        "provenance: type": edited(PROVENANCE, "_type", value="https://in-toto.io/Statement/v0.1"),
        "provenance: subject": edited(PROVENANCE, "subject", 0, "digest", "sha256", value=ZEROS),
        "provenance: subject's name": edited(PROVENANCE, "subject", 0, "name", value="other"),
        "provenance: model_version": parameter("model_version", value="model_v2"),
        "provenance: samples": dependency(
            PROVENANCE, "dataset", "annotations", "num_samples", value=4
        ),
        "provenance: config file": dependency(
            PROVENANCE, "config", "digest", "sha256", value=ZEROS
        ),
        "provenance: config path": dependency(PROVENANCE, "config", "uri", value="two.yaml"),
        "provenance: core": dependency(PROVENANCE, "core", "digest", "sha256", value=ZEROS),
        "provenance: python": dependency(
            PROVENANCE, "python", "annotations", "version", value="2.7"
        ),
        "provenance: a package": dependency(
            PROVENANCE, "packages", "annotations", "filelock", value="0"
        ),
        "provenance: builder": run_detail("builder", "id", value="urn:other"),
        "provenance: run": run_detail("metadata", "invocationId", value="other"),
        "provenance: start": run_detail("metadata", "startedOn", value="2020-01-01T00:00:00Z"),
        "provenance: finish": run_detail("metadata", "finishedOn", value="2020-01-01T00:00:00Z"),
        "provenance: a field more": edited(PROVENANCE, "note", value="by hand"),
    },
    "provenance.json, config": {
        "provenance: config": parameter("config", "epochs", value=4),
        "provenance: no config": parameter("config", value={}),
    },
    "provenance.json, dataset bytes": {
        "provenance: data": dependency(PROVENANCE, "dataset", "digest", "sha256", value=ZEROS),
    },
    "provenance.json, dataset metadata": {
        "provenance: data's metadata": dependency(
            PROVENANCE, "dataset metadata", "digest", "sha256", value=ZEROS
        ),
    },
    "dataset bytes": {
        **to_each(DATA),
        "data swapped": swapped(DATA),
        "data: line added": data_edit(lambda data: data + b"{}\n"),
        "data: line removed": data_edit(lambda data: data.partition(b"\n")[2]),
        "data: lines reordered": data_edit(
            lambda data: b"".join(reversed(data.splitlines(keepends=True)))
        ),
        "data: byte flipped": data_edit(lambda data: data.replace(b"two", b"twp")),
        "data: last line end removed": data_edit(bytes.rstrip),
    },
    "dataset metadata": {
        **to_each(RECORD),
        "data's metadata swapped": swapped(RECORD),
        "data's metadata: samples": edited(RECORD, "num_samples", value=4),
        "data's metadata: hash": edited(RECORD, "dataset_hash", value=ZEROS),
        "data's metadata: name": edited(RECORD, "dataset_version", value="dataset_v2"),
        "data's metadata: a field more": edited(RECORD, "note", value="by hand"),
    },
    "dataset bytes, dataset metadata": {
        "data and its metadata together": data_and_record_agree,
        "data folder deleted": lambda: shutil.rmtree(DATA.parent),
        "data folders swapped": swapped(DATA.parent),
    },
    "evaluation.json": {
        **to_each(EVALUATION),
        "evaluation swapped": swapped(EVALUATION),
        "evaluation: metric": edited(EVALUATION, "metrics", "latency_ms", value=1),
        "evaluation: dataset": edited(EVALUATION, "dataset_version", value="dataset_v2"),
        "evaluation and its statement together": evaluation_and_statement_agree,
    },
    "evaluation's provenance": {
        **to_each(STATEMENT),
        "statement swapped": swapped(STATEMENT),
        "statement: type": edited(STATEMENT, "predicateType", value="other"),
        "statement: subject": edited(STATEMENT, "subject", 0, "digest", "sha256", value=ZEROS),
        "statement: metadata": dependency(
            STATEMENT, "metadata.json", "digest", "sha256", value=ZEROS
        ),
        "statement: no provenance": dependency(STATEMENT, "provenance.json", "digest", value={}),
    },
    "provenance.json (or its digest)": {
        "statement: provenance": dependency(
            STATEMENT, "provenance.json", "digest", "sha256", value=ZEROS
        ),
    },
    "registry entry, metadata.json": {
        "metadata and entry together": together(
            edited(METADATA, "num_training_samples", value=4),
            edited(REGISTRY, *ENTRY, "num_training_samples", value=4),
        ),
    },
    "metadata.json, provenance.json": {
        "model folder deleted": lambda: shutil.rmtree(METADATA.parent),
        "model folders swapped": swapped(METADATA.parent),
    },
    "evaluation.json, evaluation's provenance": {
        "evaluation folder deleted": lambda: shutil.rmtree(EVALUATION.parent),
        "evaluation folders swapped": swapped(EVALUATION.parent),
    },
}


@pytest.mark.parametrize(
    ("expected", "damage"),
    [
        pytest.param(expected.removesuffix(" (or its digest)").split(", "), damage, id=kind)
        for expected, kinds in KINDS.items()
        for kind, damage in kinds.items()
    ],
)
def test_every_kind_of_damage_is_found_and_the_damaged_is_named(expected, damage, models):
    damage()
    assert mismatches() == expected


@pytest.mark.parametrize("path", [METADATA, PROVENANCE, EVALUATION, STATEMENT, DATA, RECORD])
@pytest.mark.parametrize("how", ["truncated", "deleted"])
def test_a_file_that_is_missing_or_unreadable_is_named_with_its_path(path, how, models):
    to_each(path)[f"{path.parent.name}/{path.name} {how}"]()
    [check] = [check for check in verify("model_v1") if check.verdict == "MISMATCH"]
    if how == "deleted":
        assert check.found == f"{path}: no such file"
    elif path not in (DATA, RECORD):
        assert check.found.startswith(f"{path}: line ")


@pytest.mark.parametrize("path", [METADATA, REGISTRY, PROVENANCE, EVALUATION, STATEMENT, RECORD])
@pytest.mark.parametrize("depth", [100, 450, 900, 100_000])
def test_no_depth_of_nesting_is_more_than_a_mismatch(path, depth, models):
    data = path.read_bytes().rstrip().removesuffix(b"}")
    path.write_bytes(data + b',"deep":' + b'{"a":' * depth + b"0" + b"}" * depth + b"}\n")
    assert len(mismatches()) == 1


def test_what_only_a_damaged_file_tells_does_not_match(models):
    shutil.rmtree(A / "evaluations")
    PROVENANCE.unlink()
    REGISTRY.unlink()
    METADATA.write_bytes(b"{")
    assert mismatches() == OUTPUTS


# --- What a check says ---------------------------------------------------------------------------


def test_altered_metadata_is_shown_field_by_field(models):
    json_edit(METADATA, "training_config", "epochs", value=4)
    found = sha256(METADATA.read_bytes()).hexdigest()
    assert check_of("metadata.json") == Check(
        what="metadata.json",
        verdict="MISMATCH",
        expected=f"sha256 {METADATA_SHA256}",
        found=f"sha256 {found}",
        note="training_config.epochs: recorded 3, now 4.",
    )


def test_a_model_without_an_entry_is_a_mismatch_of_the_entry(models):
    entry_removed()
    assert check_of("registry entry") == Check(
        what="registry entry",
        verdict="MISMATCH",
        expected=f"sha256 {METADATA_SHA256}",
        found="artifacts/models/registry.json: no entry of 'model_v1'",
    )
    assert "model_v1" in [version for version, _ in verify_all()]


def test_a_registry_that_cannot_be_read_is_named_with_the_place(models):
    REGISTRY.write_bytes(b'{"models": [3]}')
    assert check_of("registry entry").found == (
        "artifacts/models/registry.json: models[0]: expected an object, found 3. Left as found."
    )


def test_data_of_another_length_is_shown_with_both_counts(models):
    DATA.write_bytes(DATA.read_bytes() + b"{}\n")
    check = check_of("dataset bytes")
    assert check.note == "3 samples are recorded, 4 were found."
    assert check.diverged is None


def test_data_accused_by_an_altered_provenance_is_told_from_altered_data(models):
    dependency(PROVENANCE, "dataset", "digest", "sha256", value=ZEROS)()
    assert check_of("dataset bytes").diverged == "provenance.json"


def test_data_written_to_while_it_is_read_is_a_mismatch_that_says_so(models):
    def hash_dataset(path):
        raise OSError(5, "Input/output error", str(path))

    assert check_of("dataset bytes", hash_dataset=hash_dataset).found == (
        f"[Errno 5] Input/output error: '{DATA}'"
    )


def test_a_dataset_without_metadata_of_its_own_may_stay_so(models):
    RECORD.unlink()
    run_training_pipeline("one.yaml", "model_v3")
    assert mismatches("model_v3") == []
    RECORD.write_text('{"num_samples": 4}')
    assert mismatches("model_v3") == ["dataset metadata"]


def test_a_damaged_provenance_leaves_the_checks_against_the_rest(models):
    PROVENANCE.unlink()
    checks = verify("model_v1")
    assert [check.what for check in checks if check.what not in WHAT] == []
    assert [what for what in WHAT if what not in [check.what for check in checks]] == [
        "config",
        "code",
    ]
    assert check_of("provenance.json").note == (
        "Without it the config, the code and the data's digest are not known. "
        "Older releases wrote none; the next run of the version does."
    )
    data = check_of("dataset bytes")
    assert (data.verdict, data.found, data.note) == (
        "MATCH",
        "3 samples",
        "Its digest is not recorded.",
    )


def test_a_model_of_an_older_release_lacks_its_provenance_and_nothing_else(models):
    PROVENANCE.unlink()
    STATEMENT.unlink()
    assert mismatches() == ["provenance.json", "evaluation's provenance"]
    run_training_pipeline("one.yaml", "model_v1")
    assert mismatches() == []


def test_a_version_of_which_only_the_evaluation_is_left_matches_in_nothing(models):
    entry_removed()
    shutil.rmtree(METADATA.parent)
    STATEMENT.unlink()
    assert [asdict(check) for check in verify("model_v1")][1] == {
        "what": "metadata.json",
        "verdict": "MISMATCH",
        "expected": "unknown",
        "found": f"{METADATA}: no such file",
        "diverged": None,
        "note": None,
    }
    assert mismatches() == OUTPUTS


def test_a_model_that_was_written_and_not_yet_registered_or_evaluated_lacks_just_that(models):
    metadata = {**json.loads(METADATA.read_bytes()), "model_version": "model_v3"}
    write_metadata(metadata)
    assert mismatches("model_v3") == [
        "registry entry",
        "provenance.json",
        "evaluation.json",
        "evaluation's provenance",
    ]


# --- The config file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda path: None, None),
        (lambda path: path.write_bytes(path.read_bytes() + b"# more\n"), "was edited since."),
        (lambda path: path.write_bytes(b"epochs"), "was edited since."),
        (Path.unlink, "is not there any more."),
    ],
    ids=["as it was", "edited", "unreadable", "deleted"],
)
def test_what_became_of_the_config_file_is_a_note_and_no_mismatch(change, note, models):
    change(Path("one.yaml"))
    check = check_of("config")
    assert check.verdict == "MATCH"
    assert check.note == (note and f"one.yaml {note}")


def test_a_provenance_that_names_no_config_file_says_nothing_of_it(models):
    dependency(PROVENANCE, "config", "name", value="other")()
    assert check_of("config").note is None


# --- Other code, other metrics -------------------------------------------------------------------


@pytest.fixture
def changed_core(monkeypatch):
    monkeypatch.setattr(module, "source_digest", lambda folder: "1" * 64)


def other_metrics(metadata):
    return {"quality_score": 1.0}


def test_changed_code_with_the_same_results_is_a_note_and_no_mismatch(models, changed_core):
    assert mismatches() == []
    check = check_of("code")
    assert check.found == f"sha256 {'1' * 64}"
    assert check.note.endswith("It changed since; the results agree.")


def test_changed_code_with_another_evaluation_is_what_diverged(models, changed_core):
    assert mismatches(metrics=other_metrics) == ["code", "evaluation.json"]
    check = check_of("evaluation.json", metrics=other_metrics)
    assert check.diverged == "code"
    assert check.note == (
        "metrics.cost_per_1k_tokens: recorded None, now 0.015; "
        "metrics.latency_ms: recorded None, now 92; "
        "metrics.quality_score: recorded 1.0, now 0.9031."
    )
    assert check_of("code", metrics=other_metrics).note.endswith("the results differ.")


def test_changed_code_with_other_metadata_is_what_diverged(models, changed_core, monkeypatch):
    def other(*arguments):
        return {**model_metadata(*arguments), "schema": 2}

    monkeypatch.setattr(module, "model_metadata", other)
    assert mismatches() == ["metadata.json", "code"]
    assert check_of("metadata.json").diverged == "code"


def test_the_same_code_with_another_evaluation_points_to_the_metrics(models):
    assert mismatches(metrics=other_metrics) == ["evaluation.json"]
    assert check_of("evaluation.json", metrics=other_metrics).diverged == "metrics"


def test_metrics_that_give_no_number_leave_the_evaluation_to_its_provenance(models):
    assert mismatches(metrics=lambda _: {"quality_score": None}) == []


def test_the_commit_is_noted_where_there_was_one(models):
    where = "predicate", "buildDefinition", "resolvedDependencies"
    code = {"name": "code", "digest": {"gitCommit": "ab" * 20}, "annotations": {"dirty": True}}
    json_edit(PROVENANCE, *where, value=[code])
    assert check_of("code").note.startswith(f"Made by commit {'ab' * 20} with uncommitted changes.")
    json_edit(PROVENANCE, *where, value=[])
    assert check_of("code").note == "It changed since; the results agree."
