"""Evaluators of the user, in real child processes, and conflicts between evaluators."""

import json
import re
import sys
from pathlib import Path

import pytest

from src.components.description import ComponentError, InputChangedError
from src.errors import CorruptFileError
from src.evaluation.components import EvaluatorOutputError
from src.evaluation.evaluator import EvaluationConflict, evaluate_model, simulated_metrics
from src.lineage.verify import evidence, failed_checks, verdict, verify, verify_all
from src.records.canonical import canonical_json, sha256
from src.storage import StorePath
from src.supervision.errors import CommandError
from src.training.config import read_config_file
from src.training.pipeline import config_evaluator, run_training_pipeline
from tests.supervision.conftest import wait_until
from tests.trainers import CONFIG_PATH, calls, statement, trained, write_config, write_module

FOLDER = Path("artifacts/evaluations/model_v1")
FILE = FOLDER / "evaluation.json"
SIMULATED = "configs/training/mistral_finetune.yaml"


def run(config=CONFIG_PATH, **arguments):
    return run_training_pipeline(config, "model_v1", **arguments)


def evaluate(config=CONFIG_PATH, **arguments):
    from src.artifacts import Artifacts

    evaluator = config_evaluator(read_config_file(config), "dataset_v1", Artifacts.open())
    return evaluate_model("model_v1", metrics=evaluator, **arguments)


def verdict_of(**arguments):
    [(_, checks)] = verify_all(versions=["model_v1"], **arguments)
    return verdict(checks)


def metrics():
    return json.loads(FILE.read_bytes())["metrics"]


def measure_again():
    """Write a config with another evaluator, and return its path."""
    write_module("def measure(run):\n    return {'loss': 0.5}\n", "other.py")
    path = Path("configs/training/other.yaml")
    path.write_text(Path(CONFIG_PATH).read_text().replace("mine:evaluate", "other:measure"))
    return str(path)


# --- What is in the record -----------------------------------------------------------------------


def test_the_statement_names_the_evaluator_and_the_weights_that_it_measured(project):
    run(trained(steps=2))
    definition = statement("evaluations/model_v1")["predicate"]["buildDefinition"]
    assert definition["buildType"] == "urn:llm-training-pipeline:evaluate:v2"
    assert definition["externalParameters"]["evaluator"] == {
        "use": "mine:evaluate",
        "seed": 0,
        "measured": ["seconds"],
        "better": {"loss": "lower"},
    }
    inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
    subjects = statement("models/model_v1")["subject"]
    assert inputs["weights"]["annotations"]["files"] == {
        each["name"].removeprefix("weights/"): each["digest"]["sha256"]
        for each in subjects
        if each["name"].startswith("weights/")
    }


def test_an_evaluator_measures_on_its_own_dataset_which_is_recorded_by_its_digest(project):
    write_module("def count(run):\n    return {'count': run.dataset.num_samples}\n")
    folder = Path("artifacts/datasets/eval_v1")
    folder.mkdir()
    (folder / "data.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    config = write_config(None, {"use": "mine:count", "dataset_version": "eval_v1"})
    assert run(config)["metrics"] == {"count": 2}
    (folder / "data.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(EvaluationConflict, match="evaluation dataset: recorded"):
        run(config)


def test_an_evaluator_that_is_a_command_writes_metrics_json(project):
    write_module(
        "import json, os, pathlib\n"
        "run = json.load(open(os.environ['LLM_TRAIN_RUN']))\n"
        "weights = pathlib.Path(run['model'], 'samples.txt').read_text()\n"
        "path = pathlib.Path(run['output'], 'metrics.json')\n"
        "path.write_text(json.dumps({'samples': int(weights), 'seconds': 1.5}))\n",
        "measure.py",
    )
    write_module()
    command = {
        "use": "command",
        "argv": [sys.executable, "measure.py"],
        "measured": ["seconds"],
        "better": {"samples": "higher"},
    }
    assert run(write_config({"use": "mine:train"}, command))["metrics"] == {
        "samples": 3,
        "seconds": 1.5,
    }


def test_folders_that_an_evaluator_has_nested_deeply_are_removed(project, monkeypatch, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    write_module(
        "import json, os\n"
        "os.chdir(json.load(open(os.environ['LLM_TRAIN_RUN']))['output'])\n"
        "open('metrics.json', 'w').write('{\"loss\": 1.5}')\n"
        "for _ in range(1500):\n"
        "    os.mkdir('d')\n"
        "    os.chdir('d')\n",
        "measure.py",
    )
    command = {"use": "command", "argv": [sys.executable, "measure.py"]}
    assert run(write_config(None, command))["metrics"] == {"loss": 1.5}
    assert list(folder.iterdir()) == []


# --- Verdicts ------------------------------------------------------------------------------------


def test_numbers_of_an_evaluator_that_was_not_run_again_are_as_recorded(project):
    run(trained())
    [check] = [each for each in verify("model_v1") if each.what == "evaluation.json"]
    assert check.verdict == "AS RECORDED"
    assert check.note == "Measured by evaluator 'mine:evaluate', and not measured again."
    assert calls() == ["train", "evaluate"]


def test_numbers_that_are_measured_again_match(project):
    run(trained())
    assert verdict_of(reevaluate=True) == "MATCH"
    assert calls() == ["train", "evaluate", "evaluate"]


def test_other_numbers_with_a_statement_that_agrees_are_found_by_measuring_again(project):
    run(trained())
    forge(loss=0.001)
    assert verdict_of() == "AS RECORDED"
    assert verdict_of(reevaluate=True) == "MISMATCH"


def forge(**numbers):
    """Replace metrics, and adapt the statement of the evaluation."""
    evaluation = json.loads(FILE.read_bytes())
    evaluation["metrics"] |= numbers
    data = json.dumps(evaluation, sort_keys=True, indent=2).encode() + b"\n"
    FILE.write_bytes(data)
    path = FOLDER / "provenance.json"
    value = json.loads(path.read_bytes())
    value["subject"][0]["digest"]["sha256"] = sha256(data)
    path.write_bytes(json.dumps(value, sort_keys=True, indent=2).encode() + b"\n")


def test_edited_numbers_are_a_mismatch_without_measuring_again(project):
    run(trained())
    FILE.write_bytes(FILE.read_bytes().replace(b"0.1", b"0.2"))
    assert verdict_of() == "MISMATCH"


def test_code_that_is_gone_or_a_config_that_was_edited_is_not_run(project, warnings):
    run(trained())
    with Path(CONFIG_PATH).open("a") as config:
        config.write("# edited\n")
    assert verdict_of(reevaluate=True) == "AS RECORDED"
    assert "as the model was trained with, found" in warnings[0][1]
    Path(CONFIG_PATH).unlink()
    assert verdict_of(reevaluate=True) == "AS RECORDED"
    assert calls() == ["train", "evaluate"]


def test_simulated_numbers_are_derived_again_also_if_the_config_was_edited(project, warnings):
    run(SIMULATED)
    with Path(SIMULATED).open("a") as config:
        config.write("# edited\n")
    assert verdict_of(reevaluate=True) == "MATCH"
    assert warnings == []


def test_no_name_of_an_evaluator_keeps_simulated_numbers_from_being_derived_again(project):
    run(SIMULATED)
    forge(quality_score=0.99)
    assert verdict_of() == "MISMATCH"


def edit_statement(folder, change):
    """Change a statement, and write it in canonical form."""
    path = folder / "provenance.json"
    value = json.loads(path.read_bytes())
    change(value["predicate"]["buildDefinition"])
    path.write_bytes(canonical_json(value))


def name_simulated(definition):
    definition["externalParameters"]["evaluator"] = {"use": "simulated", "seed": 1}


def drop_weights(definition):
    dependencies = definition["resolvedDependencies"]
    dependencies[:] = [each for each in dependencies if each["name"] != "weights"]


def alter_weights(definition):
    [weights] = [each for each in definition["resolvedDependencies"] if each["name"] == "weights"]
    weights["annotations"]["files"]["samples.txt"] = "0" * 64


def alter_code(definition):
    [code] = [each for each in definition["resolvedDependencies"] if each["name"] == "evaluator"]
    code["digest"]["sha256"] = "0" * 64


def downgrade(definition):
    del definition["externalParameters"]["evaluator"]
    definition["buildType"] = "urn:llm-training-pipeline:evaluate:v1"
    dependencies = definition["resolvedDependencies"]
    names = ("metadata.json", "provenance.json", "core")
    dependencies[:] = [each for each in dependencies if each["name"] in names]


@pytest.mark.parametrize(
    "change", [name_simulated, drop_weights, alter_weights, alter_code, downgrade]
)
def test_a_forged_statement_of_an_evaluation_is_a_mismatch(change, project):
    run(trained())
    edit_statement(FOLDER, change)
    assert verdict_of() == "MISMATCH"


def parameters(**values):
    """Return a change of the evaluator in a statement."""
    return lambda definition: definition["externalParameters"]["evaluator"].update(values)


def without_seed(definition):
    definition["externalParameters"]["evaluator"] = {"use": "mine:evaluate"}


def dependency(**values):
    """Return a change of the data in a statement of an evaluation."""

    def change(definition):
        inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
        inputs["evaluation dataset"] |= values

    return change


def without_data(definition):
    inputs = definition["resolvedDependencies"]
    inputs[:] = [each for each in inputs if each["name"] != "evaluation dataset"]


@pytest.mark.parametrize(
    ("change", "field", "expected", "found"),
    [
        (parameters(seed=1), "evaluator.seed", "0", "1"),
        (parameters(options={"a": 1}), "evaluator.options", "None", "{'a': 1}"),
        (
            parameters(measured=["loss", "seconds"]),
            "evaluator.measured",
            "['seconds']",
            "['loss', 'seconds']",
        ),
        (parameters(better={"loss": "higher"}), "evaluator.better.loss", "'lower'", "'higher'"),
        (parameters(use="mine:other"), "evaluator.use", "'mine:evaluate'", "'mine:other'"),
        (without_seed, "evaluator.seed", "0", "None"),
        (without_data, "evaluation dataset", "{", "None"),
    ],
    ids=["seed", "options", "measured", "direction", "name", "a function", "no data"],
)
def test_what_the_config_and_the_evaluator_do_not_declare_is_a_mismatch_that_names_both_values(
    change, field, expected, found, project
):
    run(trained())
    edit_statement(FOLDER, change)
    assert verdict_of() == "AS RECORDED"
    [(_, checks)] = verify_all(versions=["model_v1"], reevaluate=True)
    [check] = [each for each in checks if each.verdict == "MISMATCH"]
    assert check.what == "evaluation's provenance"
    assert f"{field}: expected {expected}" in check.found
    assert f", found {found}" in check.found


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (parameters(seed=-1), "seed: expected an integer >= 0, found -1"),
        (
            parameters(better={"loss": "best"}),
            "better: expected an object whose values are 'higher' or 'lower', found",
        ),
        (parameters(dataset_version="eval_v1"), "uri: expected 'eval_v1', found 'dataset_v1'"),
        (dependency(uri="../x"), "uri: expected the name of a dataset version, found '../x'"),
    ],
    ids=["seed", "direction", "another dataset", "no dataset version"],
)
def test_a_statement_of_an_evaluation_that_contradicts_itself_is_a_mismatch(change, fault, project):
    run(trained())
    edit_statement(FOLDER, change)
    [check] = [each for each in verify("model_v1") if each.verdict == "MISMATCH"]
    assert fault in check.found


def test_another_count_of_the_data_of_an_evaluation_is_a_mismatch(project):
    run(trained())
    edit_statement(FOLDER, dependency(annotations={"num_samples": 4}))
    [check] = [each for each in verify("model_v1") if each.verdict == "MISMATCH"]
    assert (check.what, check.note) == (
        "evaluation dataset bytes",
        "expected 4 samples, found 3.",
    )


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"dataset_version": "other"}, "Expected model_version, dataset_version and metrics"),
        ({"more": 1}, "Expected model_version, dataset_version and metrics"),
        ({"metrics": [1]}, "Expected model_version, dataset_version and metrics"),
        ({"metrics": {"loss": "low"}}, "metrics of 'model_v1': loss: expected a finite number"),
        ({"metrics": {"a\x1b": 1}}, "metrics of 'model_v1': expected names of 1 to 128 printable"),
    ],
    ids=["a version", "a field", "a list", "text", "a name"],
)
def test_an_evaluation_of_another_form_is_a_mismatch_without_measuring_again(values, note, project):
    run(trained())
    evaluation = canonical_json({**json.loads(FILE.read_bytes()), **values})
    FILE.write_bytes(evaluation)
    path = FOLDER / "provenance.json"
    value = json.loads(path.read_bytes())
    value["subject"][0]["digest"]["sha256"] = sha256(evaluation)
    path.write_bytes(canonical_json(value))
    [check] = [each for each in verify("model_v1") if each.verdict == "MISMATCH"]
    assert check.what == "evaluation.json"
    assert check.note.startswith(note)


def test_a_simulated_evaluation_in_place_of_one_by_the_evaluator_of_the_config_is_a_mismatch(
    project,
):
    write_module("def count(run):\n    return {'count': run.dataset.num_samples}\n")
    run(SIMULATED)
    config = write_config(None, {"use": "mine:count"})
    with pytest.raises(EvaluationConflict):
        run(config)
    assert verdict_of() == "MATCH"
    assert verdict_of(reevaluate=True) == "MATCH"
    assert verdict_of(reevaluate=True, config_file=read_config_file(config)) == "MISMATCH"


def test_an_evaluation_by_another_config_is_measured_again_with_that_config(project):
    run(trained())
    other = measure_again()
    evaluate(other, replace=True)
    assert verdict_of() == "AS RECORDED"
    assert verdict_of(reevaluate=True) == "MISMATCH"
    assert verdict_of(reevaluate=True, config_file=read_config_file(other)) == "MATCH"


def test_code_of_an_evaluator_that_changed_is_noted(project):
    run(trained())
    with Path("mine.py").open("a") as module:
        module.write("# changed\n")
    [(_, checks)] = verify_all(reevaluate=True)
    assert verdict(checks) == "MATCH"
    assert checks[-1].note == "The code of the evaluator changed since."


def own_data(text='{"a": 1}\n'):
    """Evaluate a model on other data than that of the model; return the file of the data."""
    write_module("def count(run):\n    return {'count': run.dataset.num_samples}\n")
    data = Path("artifacts/datasets/eval_v1/data.jsonl")
    data.parent.mkdir()
    data.write_text(text)
    run(write_config(None, {"use": "mine:count", "dataset_version": "eval_v1"}))
    return data


def test_a_dataset_of_an_evaluator_that_does_not_exist_stops_the_run_before_anything_is_written(
    project,
):
    write_module()
    with pytest.raises(FileNotFoundError, match="eval_v1"):
        run(write_config(None, {"use": "mine:evaluate", "dataset_version": "eval_v1"}))
    assert not Path("artifacts/models").exists()


@pytest.mark.parametrize("reevaluate", [False, True])
def test_data_of_an_evaluator_that_was_deleted_is_named(reevaluate, project):
    data = own_data()
    data.unlink()
    [(_, checks)] = verify_all(reevaluate=reevaluate)
    [check] = [each for each in checks if each.verdict == "MISMATCH"]
    assert (check.what, check.found) == (
        "evaluation dataset bytes",
        "artifacts/datasets/eval_v1/data.jsonl: no such file",
    )


@pytest.mark.parametrize("reevaluate", [False, True])
def test_data_of_an_evaluator_that_was_altered_is_named(reevaluate, project):
    data = own_data()
    data.write_text('{"a": 2}\n')
    [(_, checks)] = verify_all(reevaluate=reevaluate)
    found = {each.what: each.found for each in checks if each.verdict == "MISMATCH"}
    assert found["evaluation dataset bytes"] == (
        "sha256 4356524800e99cb1d0f41e9376cc484ece80e8ccef54d6152ea3a7a89a160c33"
    )


def test_an_evaluator_that_fails_when_it_is_run_again_stops_no_verification(project, warnings):
    run(trained())
    text = Path("mine.py").read_text()
    write_module(
        text.replace('    return {"loss"', "    raise RuntimeError('no GPU')\n    return {\"loss\"")
    )
    assert verdict_of(reevaluate=True) == "AS RECORDED"
    assert "no GPU" in warnings[-1][1]


CHANGE_CODE = "open(__file__, 'a').write('# changed')"
CHANGE_DATA = "open('artifacts/datasets/eval_v1/data.jsonl', 'a').write('{}')"


def test_an_evaluator_that_is_edited_during_the_training_is_recorded_as_it_measures(project):
    write_module(
        f"def train(run): (run.output / 'w').write_text('1'); {CHANGE_CODE}\n"
        "def count(run): return {'count': 1.0}\n"
    )
    run(write_config({"use": "mine:train"}, {"use": "mine:count"}))
    definition = statement("evaluations/model_v1")["predicate"]["buildDefinition"]
    [evaluator] = [
        each for each in definition["resolvedDependencies"] if each["name"] == "evaluator"
    ]
    text = Path("mine.py").read_bytes()
    assert text.endswith(b"# changed")
    assert evaluator["annotations"]["files"] == {"mine.py": sha256(text)}


@pytest.mark.parametrize(
    ("by", "change", "name"),
    [
        ("count", CHANGE_CODE, "mine.py"),
        ("count", CHANGE_DATA, "data.jsonl"),
        ("train", CHANGE_DATA, "data.jsonl"),
    ],
    ids=["code", "data", "data during the training"],
)
def test_an_evaluation_with_other_code_or_data_than_described_is_not_written(
    by, change, name, project
):
    bodies = {"train": "(run.output / 'w').write_text('1')", "count": "return {'count': 1.0}"}
    bodies[by] = f"{change}; {bodies[by]}"
    write_module("".join(f"def {each}(run): {body}\n" for each, body in bodies.items()))
    data = Path("artifacts/datasets/eval_v1/data.jsonl")
    data.parent.mkdir()
    data.write_text("{}\n")
    config = write_config(
        {"use": "mine:train"}, {"use": "mine:count", "dataset_version": "eval_v1"}
    )
    with pytest.raises(InputChangedError) as caught:
        run(config)
    assert re.fullmatch(
        rf"\S*{name}: changed from sha256 [0-9a-f]{{64}} to [0-9a-f]{{64}} since the run began\.\n"
        "Evaluator 'mine:count' measured with it. No evaluation was written; run again.",
        str(caught.value),
    )
    assert not FOLDER.exists()


# --- Conflicts between evaluators ----------------------------------------------------------------


def test_another_evaluator_changes_nothing_and_both_are_named(project, tree):
    run(trained())
    before = tree(FOLDER)
    with pytest.raises(EvaluationConflict) as caught:
        run(measure_again())
    assert "measured by evaluator 'mine:evaluate', and now by 'other:measure'" in str(caught.value)
    assert "`llm-train evaluate model_v1 --replace`" in str(caught.value)
    assert tree(FOLDER) == before


@pytest.mark.parametrize("options", [{"n": [True, 2.0]}, {"n": [1, 2], "m": None}])
def test_options_that_are_other_json_are_another_evaluator(options, project, tree):
    write_module("def measure(run): return {'loss': 0.5}\n")
    run(write_config(None, {"use": "mine:measure", "options": {"n": [1, 2]}}))
    before = tree(FOLDER)
    config = write_config(None, {"use": "mine:measure", "options": options})
    with pytest.raises(EvaluationConflict):
        run(config)
    assert tree(FOLDER) == before
    from src.artifacts import Artifacts

    other = config_evaluator(read_config_file(config), "dataset_v1", Artifacts.open())
    assert verdict_of(metrics=other) == "AS RECORDED"


def test_the_numbers_of_a_function_are_not_replaced_by_simulated_ones(project, tree):
    def accuracy(_):
        return {"accuracy": 0.5}

    assert run(SIMULATED, metrics=accuracy)["metrics"] == {"accuracy": 0.5}
    before = tree(FOLDER)
    with pytest.raises(EvaluationConflict):
        run(SIMULATED)
    assert tree(FOLDER) == before
    assert verdict_of() == "AS RECORDED"
    assert verdict_of(metrics=accuracy) == "MATCH"
    assert run(SIMULATED, metrics=accuracy)["metrics"] == {"accuracy": 0.5}


def test_an_edited_number_is_restored_and_one_of_the_clock_is_kept(project, warnings):
    first = run(trained())["metrics"]
    text = FILE.read_text().replace(f'"loss": {first["loss"]}', '"loss": 0.0')
    FILE.write_text(text)
    assert run()["metrics"] == first
    assert [message.split(": ")[0] for _, message in warnings] == [str(FILE)]


def test_a_deleted_evaluation_is_measured_again(project):
    first = run(trained())["metrics"]
    FILE.unlink()
    assert run()["metrics"]["loss"] == first["loss"]
    assert verdict_of(reevaluate=True) == "MATCH"


def test_replacing_an_evaluation_keeps_the_old_one_with_its_statement(project):
    run(trained())
    old = FILE.read_bytes(), (FOLDER / "provenance.json").read_bytes()
    evaluate(measure_again(), replace=True)
    assert metrics() == {"loss": 0.5}
    [earlier] = (FOLDER / "earlier").iterdir()
    kept = (earlier / "evaluation.json").read_bytes(), (earlier / "provenance.json").read_bytes()
    assert kept == old
    assert verdict_of() == "AS RECORDED"


def stop_before_the_evaluation(patch):
    """Raise an error in place of writing evaluation.json."""
    replace = StorePath.replace

    def stop(path, data):
        if path.name == "evaluation.json":
            raise KeyboardInterrupt
        return replace(path, data)

    patch.setattr(StorePath, "replace", stop)


def test_a_run_that_is_stopped_between_the_files_of_an_evaluation_is_unfinished(project):
    config = trained()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_before_the_evaluation(patch)
        run(config)
    assert [path.name for path in FOLDER.iterdir()] == ["provenance.json"]
    checks = failed_checks(verify("model_v1"))
    assert [(check.what, check.verdict) for check in checks] == [("evaluation.json", "UNFINISHED")]
    run()
    assert verdict_of() == "AS RECORDED"


def test_the_statement_of_an_evaluator_is_looked_for_again_after_its_evaluation(
    project, monkeypatch
):
    run(trained())
    read, seen = evidence._read, []

    def late(path, *arguments):
        if str(path) == str(FOLDER / "provenance.json") and not seen:
            seen.append(path)
            return evidence.File(path=path, is_missing=True)
        return read(path, *arguments)

    monkeypatch.setattr(evidence, "_read", late)
    assert verdict_of() == "AS RECORDED"
    assert seen


def kept():
    """Return the names and contents of the files below earlier/, by folder."""
    return {
        folder.name: {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (FOLDER / "earlier").iterdir()
    }


def test_a_replacement_that_was_stopped_is_never_kept_as_a_pair(project):
    run(trained())
    old, old_statement = FILE.read_bytes(), (FOLDER / "provenance.json").read_bytes()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_before_the_evaluation(patch)
        evaluate(measure_again(), replace=True)
    new_statement = (FOLDER / "provenance.json").read_bytes()
    evaluate(measure_again(), replace=True)
    assert kept() == {
        sha256(old_statement)[:16]: {"evaluation.json": old, "provenance.json": old_statement},
        sha256(old)[:16]: {"evaluation.json": old},
        sha256(new_statement)[:16]: {"provenance.json": new_statement},
    }
    assert verdict_of() == "AS RECORDED"


def test_other_numbers_without_a_statement_are_kept_before_they_are_replaced(project, warnings):
    run(trained())
    old = FILE.read_bytes()
    (FOLDER / "provenance.json").unlink()
    run(measure_again())
    assert metrics() == {"loss": 0.5}
    assert kept() == {sha256(old)[:16]: {"evaluation.json": old}}
    [(_, message)] = warnings
    assert message.endswith(f"Replaced. The old one is in {FOLDER}/earlier/.")
    assert verdict_of() == "AS RECORDED"


@pytest.mark.parametrize("replace", [False, True])
def test_an_evaluation_that_exists_is_not_returned_for_altered_weights(replace, project):
    run(trained())
    Path("artifacts/models/model_v1/weights/samples.txt").write_text("9")
    with pytest.raises(CorruptFileError, match=r"samples\.txt: expected sha256"):
        evaluate(CONFIG_PATH, replace=replace)


def test_altered_weights_are_not_evaluated(project):
    write_module()
    run(write_config({"use": "mine:train"}, None))
    Path("artifacts/models/model_v1/weights/samples.txt").write_text("9")
    with pytest.raises(CorruptFileError, match=r"samples\.txt: expected sha256"):
        evaluate(trained(), replace=True)
    assert calls() == ["train"]


# --- Evaluators that fail ------------------------------------------------------------------------


def test_metrics_that_are_a_link_are_refused(project):
    Path("others.json").write_text('{"loss": 0.5}')
    write_module(
        "import json, os, pathlib\n"
        "run = json.load(open(os.environ['LLM_TRAIN_RUN']))\n"
        "pathlib.Path(run['output'], 'metrics.json').symlink_to(os.path.abspath('others.json'))\n",
        "measure.py",
    )
    with pytest.raises(EvaluatorOutputError, match="'command': found a link"):
        run(write_config(None, {"use": "command", "argv": [sys.executable, "measure.py"]}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "found no file"),
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object, found a list"),
        ('{"loss": NaN}', "the number NaN is not finite"),
        ("{}", "found no metrics"),
        ('{"loss": "low"}', "loss: expected a finite number, found 'low'"),
        ('{"loss": true}', "loss: expected a finite number, found True"),
    ],
    ids=["missing", "torn", "a list", "NaN", "empty", "text", "true"],
)
def test_metrics_that_are_no_numbers_are_refused_and_the_next_run_measures(text, message, project):
    body = "pass" if text is None else f"path.write_text({text!r})"
    write_module(
        "import json, os, pathlib\n"
        "run = json.load(open(os.environ['LLM_TRAIN_RUN']))\n"
        "path = pathlib.Path(run['output'], 'metrics.json')\n"
        f"{body}\n",
        "measure.py",
    )
    command = {"use": "command", "argv": [sys.executable, "measure.py"]}
    with pytest.raises((EvaluatorOutputError, ValueError)) as caught:
        run(write_config(None, command))
    assert message in str(caught.value)
    assert not FILE.exists()
    write_module("", "measure.py")
    with pytest.raises(EvaluatorOutputError, match="found no file"):
        run()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("[1, 2]", "expected a dict of numbers, found list."),
        ("None", "expected a dict of numbers, found NoneType."),
        ("'low'", "expected a dict of numbers, found str."),
        ("{1: 2.0}", "expected names that are texts, found 1."),
        ("{'loss': object}", "'loss': expected a number, found <class 'object'> (type)."),
        ("{'loss': None}", "'loss': expected a number, found None (NoneType)."),
        ("{'loss': Array(1, 2)}", "'loss': expected one number, found Array of 2 (Array)."),
    ],
    ids=["a list", "None", "text", "a key", "an object", "nothing", "an array"],
)
def test_an_evaluator_that_returns_no_metrics_is_an_error_that_names_them(result, message, project):
    write_module(ARRAY + f"def measure(run):\n    return {result}\n")
    with pytest.raises(EvaluatorOutputError) as caught:
        run(write_config(None, {"use": "mine:measure"}))
    assert str(caught.value) == f"evaluator 'mine:measure' returned no metrics: {message}"
    assert not FILE.exists()


def test_scalars_of_a_tensor_library_are_numbers(project):
    write_module(ARRAY + "def measure(run):\n    return {'loss': Array(0.25), 'n': Array(3)}\n")
    evaluation = run(write_config(None, {"use": "mine:measure"}))
    assert evaluation["metrics"] == {"loss": 0.25, "n": 3}


ARRAY = """
class Array:
    def __init__(self, *values):
        self.values = values
    def item(self):
        [value] = self.values
        return value
    def __repr__(self):
        return f"Array of {len(self.values)}"
"""


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("measured = 'seconds'", "measured: expected a list of names, found str."),
        ("better = ['loss']", "better: expected a dict, found list."),
        ("better = {'a\\n': 'higher'}", "expected names of metrics, found 'a\\n'."),
    ],
)
def test_an_evaluator_that_declares_no_names_is_refused_with_its_line(declared, message, project):
    write_module(f"def measure(run):\n    return {{'loss': 1}}\nmeasure.{declared}\n")
    with pytest.raises(ComponentError) as caught:
        run(write_config(None, {"use": "mine:measure"}))
    assert str(caught.value).startswith(f"{CONFIG_PATH}:8: evaluator.use: 'mine:measure': ")
    assert str(caught.value).endswith(message)


def test_an_evaluator_that_fails_says_so_with_its_last_lines(project):
    write_module("def broken(run):\n    raise RuntimeError('no GPU')\n")
    with pytest.raises(CommandError, match="RuntimeError: no GPU"):
        run(write_config(None, {"use": "mine:broken"}))
    assert not FILE.exists()


def test_a_run_that_is_killed_during_an_evaluation_leaves_no_temporary_folder(
    project, start, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(project / "tmp"))
    Path("tmp").mkdir()
    write_module(
        "import time\ndef measure(run):\n    open('ready', 'w').close()\n    time.sleep(600)\n"
    )
    config = write_config(None, {"use": "mine:measure"})
    child = start(
        "from src.training.pipeline import run_training_pipeline\n"
        f"run_training_pipeline({config!r}, 'model_v1')\n"
    )
    wait_until(Path("ready").exists)
    assert len(list(Path("tmp").iterdir())) == 1
    child.process.kill()
    wait_until(lambda: list(Path("tmp").iterdir()) == [])


def test_an_evaluator_that_cannot_be_imported_is_named_with_its_line(project):
    with pytest.raises(ComponentError, match=f"^{CONFIG_PATH}:8: evaluator.use: 'none:x'"):
        run(write_config(None, {"use": "none:x"}))


def test_without_an_evaluator_a_trained_model_has_simulated_numbers(project, metadata):
    write_module()
    evaluation = run(write_config({"use": "mine:train"}))
    assert evaluation["metrics"] == simulated_metrics(metadata)
    assert verdict_of() == "MATCH"
