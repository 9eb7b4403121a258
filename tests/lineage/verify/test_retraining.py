"""Models that are trained again, and compared with their record."""

from pathlib import Path

import pytest

from src.lineage.verify import verdict, verify_all
from src.training.config import read_config_file
from src.training.pipeline import run_training_pipeline
from tests.lineage.verify.test_trained import edit_both
from tests.trainers import calls, write_config, write_module

DATA = Path("artifacts/datasets/dataset_v1/data.jsonl")
MODEL = Path("artifacts/models/model_v1")
TENSORS = MODEL / "weights/model.safetensors"

TRAINER = '''
"""Adds the length of each line to two weights."""
import json, os, struct
from pathlib import Path

def train(run):
    with open("calls", "a") as calls:
        calls.write("train\\n")
    a, b = float(run.seed), run.options["start"]
    for step, line in enumerate(open(run.dataset.path), start=1):
        a += run.config.learning_rate * len(line)
        if os.environ.get("MKL_CBWR"):
            a += 0.5
        run.log(step, loss=a, lines=[step], total_steps=run.dataset.num_samples)
    header = {"a": (0, 4), "b": (4, 8)}
    if run.settings.get("is_reversed"):
        header = dict(reversed(header.items()))
    text = json.dumps({
        **run.settings.get("metadata", {}),
        **{name: {"dtype": "F32", "shape": [1], "data_offsets": at} for name, at in header.items()},
    }).encode()
    (run.output / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + struct.pack("<2f", a, b)
    )
    (run.output / "vocabulary.txt").write_text("words")

train.check_options = lambda options: {"start": 1.0} | options
'''


@pytest.fixture
def model(project):
    write_module(TRAINER)
    path = write_config({"use": "mine:train", "seed": 7, "base_model": "base.txt"})
    Path("base.txt").write_text("the base model")
    run_training_pipeline(path, "model_v1")
    return path


def retrained(**arguments):
    """Train the model again; return its verdict and the check of the training."""
    [(_, checks)] = verify_all(versions=["model_v1"], retrain=True, **arguments)
    [check] = [check for check in checks if check.what == "training"] or [None]
    return verdict(checks), check


def test_a_model_that_is_trained_again_with_the_same_result_is_a_match(model, tree):
    before = tree(Path("artifacts"))
    points = []
    result, check = retrained(on_point=lambda version, point: points.append((version, point)))
    assert result == "MATCH"
    size = sum(path.stat().st_size for path in (MODEL / "weights").iterdir())
    assert check.details == (f"Trained again, with the same result: 2 files, {size} bytes.",)
    assert calls() == ["train", "train"]
    assert [(version, point["step"]) for version, point in points] == [
        ("model_v1", 0),
        ("model_v1", 1),
        ("model_v1", 2),
        ("model_v1", 3),
    ]
    assert tree(Path("artifacts")) == before


def test_a_model_is_trained_again_only_on_request(model):
    [(_, checks)] = verify_all(versions=["model_v1"])
    assert "training" not in [check.what for check in checks]
    assert calls() == ["train"]


def test_a_model_that_was_not_trained_has_no_check_of_its_training(project):
    run_training_pipeline(write_config(), "model_v1")
    assert retrained() == ("MATCH", None)


def test_other_results_name_the_first_step_the_tensors_and_the_environment(model, monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    result, check = retrained()
    assert result == "MISMATCH"
    assert check.verdict == "MISMATCH"
    assert check.found == (
        "model.safetensors: 1 of 2 tensors differ, by at most 1.5. "
        "The first: a: 1 of 1 values differ, by at most 1.5"
    )
    assert check.diverged == "environment"
    step, environment = check.details
    assert step.startswith("The first step that differs is step 1: loss ")
    assert step.endswith("; lines 1 of data.jsonl.")
    assert environment == (
        "The environment is not as recorded: variables.MKL_CBWR: none recorded, COMPATIBLE now."
    )


def test_a_training_whose_environment_is_as_recorded_is_called_not_reproducible(model):
    write_module(TRAINER.replace('"words"', "os.urandom(4).hex()"))
    run_training_pipeline(model, "model_v2")
    [(_, checks)] = verify_all(versions=["model_v2"], retrain=True)
    [check] = [check for check in checks if check.what == "training"]
    assert check.verdict == "MISMATCH"
    assert check.found.startswith("vocabulary.txt: sha256 ")
    assert check.diverged is None
    assert check.details == (
        "Code and environment are as recorded, so the training is not reproducible.",
    )


def test_the_same_result_of_other_code_is_a_match_that_names_the_code(model):
    write_module(TRAINER + "\n# tidied up\n")
    result, check = retrained()
    assert result == "MATCH"
    assert check.details[1:] == ("Trained by other code than recorded: mine.py.",)


def test_another_result_of_other_code_names_the_code(model):
    write_module(TRAINER.replace("len(line)", "len(line) * 2"))
    result, check = retrained()
    assert (result, check.diverged) == ("MISMATCH", "code")
    assert check.details[1:] == ("Trained by other code than recorded: mine.py.",)


def test_other_code_is_run_with_the_recorded_options_not_with_its_own_defaults(model):
    write_module(TRAINER.replace('"start": 1.0', '"start": 2.0'))
    result, check = retrained()
    assert result == "MATCH"
    assert "Trained by other code" in check.details[1]


def other_config(**run):
    """Write a config of the same training, with settings under `run`; return it."""
    trainer = {"use": "mine:train", "seed": 7, "base_model": "base.txt", "run": run}
    return read_config_file(write_config(trainer, path="configs/training/other.yaml"))


def test_the_same_tensors_in_another_order_of_the_header_are_a_match_with_a_note(model):
    result, check = retrained(config_file=other_config(is_reversed=True))
    assert result == "MATCH"
    assert check.details[0].endswith(
        " model.safetensors: the same 2 tensors, in files with different headers."
    )


def test_the_same_tensors_with_other_metadata_are_a_mismatch(model):
    config = other_config(metadata={"__metadata__": {"alpha": "16"}})
    result, check = retrained(config_file=config)
    assert result == "MISMATCH"
    assert check.found == "model.safetensors: the same 2 tensors, with other metadata"


def test_weights_that_the_trainer_alters_while_it_trains_again_are_not_a_match(model):
    text = f'def train(run):\n    Path("{TENSORS}").write_bytes(b"altered")'
    write_module(TRAINER.replace("def train(run):", text))
    result, check = retrained()
    assert (result, check.verdict) == ("UNREADABLE", "UNREADABLE")
    assert check.found == (f"{MODEL / 'weights'}: changed during the training. Restore a backup.")


def test_one_altered_byte_of_the_weights_is_a_mismatch_that_names_the_tensor(model):
    data = bytearray(TENSORS.read_bytes())
    data[-1] ^= 1
    TENSORS.write_bytes(data)
    [(_, checks)] = verify_all(versions=["model_v1"], retrain=True)
    weights, training = (check for check in checks if check.what in ("weights", "training"))
    assert weights.verdict == "MISMATCH"
    assert weights.found.startswith("weights/model.safetensors: expected sha256 ")
    assert training.verdict == "MATCH"
    assert (
        "Altered since it was recorded: model.safetensors: 1 of 2 tensors differ"
        in training.details[1]
    )
    assert "The first: b: 1 of 1 values differ" in training.details[1]


def not_trained(expected, **arguments):
    notes = {
        "MISMATCH": "Nothing was trained, because an input is not as recorded.",
        "UNREADABLE": "The training could not be repeated, so the weights were not compared.",
    }
    _, check = retrained(**arguments)
    assert (check.verdict, check.details) == (expected, (notes[expected],))
    assert calls() == ["train"]
    return check.found


def test_one_line_of_other_data_is_a_mismatch_and_nothing_is_trained(model):
    data = DATA.read_bytes()
    DATA.write_bytes(data.replace(b"e", b"E", 1))
    assert not_trained("MISMATCH").startswith("data.jsonl: sha256 ")


def test_another_base_model_is_a_mismatch_and_nothing_is_trained(model):
    Path("base.txt").write_text("another base model")
    assert not_trained("MISMATCH").startswith("base model: base.txt: recorded ")


def test_another_option_in_the_statement_is_a_mismatch_that_names_it(model):
    def change(value, definition):
        definition["externalParameters"]["trainer"]["options"]["start"] = 5.0

    edit_both("model_v1", change)
    assert not_trained("MISMATCH") == "trainer.options.start: recorded 5.0, now 1.0"


def test_another_setting_in_a_given_config_is_a_mismatch(model):
    other = Path("configs/training/other.yaml")
    other.write_text(Path(model).read_text().replace("epochs: 3", "epochs: 4"))
    found = not_trained("MISMATCH", config_file=read_config_file(other))
    assert found == "epochs: recorded 3, in configs/training/other.yaml 4"


def test_a_name_in_an_altered_statement_is_shown_on_one_line_and_truncated(model):
    name = "cpu\nTrained again, with the same result" + "n" * 1_000_000

    def change(value, definition):
        inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
        inputs["training environment"]["annotations"][name] = "x"

    edit_both("model_v1", change)
    _, check = retrained()
    summary, environment = check.details
    assert summary.startswith("Trained again, with the same result: 2 files")
    start = "The environment is not as recorded: cpu\\nTrained again, with the same resultnnn"
    assert environment.startswith(start)
    assert len(environment) < 2000


def test_a_config_that_was_edited_is_not_used(model):
    Path(model).write_text(Path(model).read_text() + "# a comment\n")
    assert "Restore the file, or pass `--config FILE`" in not_trained("UNREADABLE")


def test_a_config_without_a_trainer_is_a_mismatch(model):
    config = read_config_file(write_config(path="configs/training/other.yaml"))
    expected = "configs/training/other.yaml: names no trainer"
    assert not_trained("MISMATCH", config_file=config) == expected


def test_an_interpreter_that_is_missing_is_not_a_mismatch(model):
    config = read_config_file(
        write_config(
            {"use": "mine:train", "seed": 7, "base_model": "base.txt", "python": "no/python"},
            path="configs/training/other.yaml",
        )
    )
    assert "no/python" in not_trained("UNREADABLE", config_file=config)


def test_a_trainer_that_fails_is_not_a_mismatch(model):
    write_module(TRAINER.replace("def train(run):", "def train(run):\n    raise OSError('no GPU')"))
    result, check = retrained()
    assert (result, check.verdict) == ("UNREADABLE", "UNREADABLE")
    assert "no GPU" in check.found
    assert check.details == (
        "The training could not be repeated, so the weights were not compared.",
    )


def test_a_trainer_that_changes_its_data_meanwhile_gives_no_verdict_on_the_weights(model):
    write_module(TRAINER.replace('open("calls", "a")', 'open(run.dataset.path, "a")'))
    assert "during the training" in retrained()[1].found


def test_nothing_is_left_of_a_training(model, monkeypatch, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert retrained()[0] == "MATCH"
    assert list(folder.iterdir()) == []
    assert not Path("artifacts/.work/model_v1").exists()


def test_one_file_of_weights_is_called_one_file(project):
    write_module("def train(run):\n    (run.output / 'w').write_text('12')\n")
    run_training_pipeline(write_config({"use": "mine:train"}), "model_v1")
    Path("artifacts/models/model_v1/weights/w").write_text("13")
    [(_, checks)] = verify_all(versions=["model_v1"], retrain=True)
    assert [check.expected for check in checks if check.what in ("weights", "training")] == [
        "1 file, 2 bytes, as provenance.json lists them",
        "1 file, 2 bytes, trained again from the recorded inputs",
    ]


def test_folders_that_a_trainer_has_nested_deeply_are_removed(model, monkeypatch, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    write_module(
        TRAINER.replace(
            "def train(run):",
            "def train(run):\n"
            "    here = os.getcwd()\n"
            "    os.chdir(run.checkpoints)\n"
            "    for _ in range(1500):\n"
            "        os.mkdir('d')\n"
            "        os.chdir('d')\n"
            "    os.chdir(here)",
        )
    )
    assert retrained()[0] == "MATCH"
    assert list(folder.iterdir()) == []


def test_a_file_that_is_not_trained_again_is_named(model):
    write_module(TRAINER.replace('"vocabulary.txt"', '"words.txt"'))
    _, check = retrained()
    assert check.found == (
        "vocabulary.txt: recorded, but not trained again; "
        "words.txt: trained again, but not recorded"
    )
