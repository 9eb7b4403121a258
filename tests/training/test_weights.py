"""Models whose weights are trained by a trainer of the user, in real child processes."""

import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import venv
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from src.artifacts import Artifacts
from src.components.description import ComponentError
from src.components.work import locked_work, remove_tree
from src.errors import CorruptFileError
from src.lineage.verify import verdict, verify
from src.records.metadata import ModelVersionConflict
from src.supervision.errors import CommandError, CommandStartError, CommandTimeoutError
from src.training import trainer as trainer_module
from src.training.attempt import InputChangedError, TrainerFailedError, TrainingOutputError
from src.training.config import ConfigError
from src.training.pipeline import run_training_pipeline
from src.training.registry import list_models
from tests.conftest import REPOSITORY
from tests.trainers import (
    CONFIG_PATH,
    MODULE,
    calls,
    statement,
    trained,
    write_config,
    write_module,
)

MODEL = Path("artifacts/models/model_v1")
WORK = Path("artifacts/.work")
RUN = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from src.training.pipeline import run_training_pipeline
run_training_pipeline({CONFIG_PATH!r}, "model_v1")
"""


CHANGED = "changed from sha256 [0-9a-f]{64} to [0-9a-f]{64}"


def run(config=CONFIG_PATH, version="model_v1"):
    return run_training_pipeline(config, version)


def start():
    """Start a process that runs the config; it leads a new process group."""
    return subprocess.Popen([sys.executable, "-c", RUN], start_new_session=True)


def digest(path):
    return sha256(path.read_bytes()).hexdigest()


def weights(tree):
    """Return the weights and the history of the model."""
    return {
        name: data
        for name, data in tree(MODEL).items()
        if name not in ("metadata.json", "provenance.json")
    }


def nothing_is_registered():
    return list_models("artifacts/models/registry.json") == [] and not MODEL.exists()


# --- What is in the record -----------------------------------------------------------------------


def test_a_trained_model_has_its_weights_and_its_history(project, tree):
    evaluation = run(trained(steps=2))
    assert weights(tree) == {
        "training.jsonl": (
            b'{"loss": 0.12499989583342012, "step": 1, "total_steps": 2}\n'
            b'{"loss": 0.12499968750078126, "step": 2, "total_steps": 2}\n'
        ),
        "weights/adapter/weights.json": b'{"step": 2, "weight": 7.00002}',
        "weights/samples.txt": b"3",
    }
    assert evaluation["metrics"]["loss"] == 0.12499968750078126


def test_every_file_is_a_subject_of_the_statement_with_size_and_digest(project):
    run(trained(steps=2))
    subjects = statement("models/model_v1")["subject"]
    assert subjects == [
        {"name": "metadata.json", "digest": {"sha256": digest(MODEL / "metadata.json")}},
        *(
            {
                "name": name,
                "digest": {"sha256": digest(MODEL / name)},
                "annotations": {"size": (MODEL / name).stat().st_size},
            }
            for name in ("training.jsonl", "weights/adapter/weights.json", "weights/samples.txt")
        ),
    ]


def test_the_statement_names_the_trainer_its_code_and_its_environment(project):
    run(trained(steps=2))
    definition = statement("models/model_v1")["predicate"]["buildDefinition"]
    assert definition["buildType"] == "urn:llm-training-pipeline:train:v2"
    assert definition["externalParameters"]["trainer"] == {
        "use": "mine:train",
        "seed": 7,
        "options": {"steps": 2},
    }
    inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
    assert inputs["trainer"]["annotations"] == {"files": {"mine.py": digest(Path("mine.py"))}}
    environment = inputs["training environment"]["annotations"]
    assert environment["python"] == sys.version.split()[0]
    assert environment["variables"]["PYTHONHASHSEED"] == "0"


def test_the_environment_of_a_command_has_the_hash_seed_that_the_command_got(project, monkeypatch):
    write_module(COMMAND, "train.py")
    config = write_config({"use": "command", "argv": [sys.executable, "train.py"]})
    recorded = []
    for seed in (None, "1"):
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        if seed is not None:
            monkeypatch.setenv("PYTHONHASHSEED", seed)
        version = f"seed_{seed}"
        run(config, version)
        definition = statement(f"models/{version}")["predicate"]["buildDefinition"]
        inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
        variables = inputs["training environment"]["annotations"]["variables"]
        recorded.append(variables["PYTHONHASHSEED"])
    assert recorded == ["0", "1"]


def test_metadata_json_and_the_registry_keep_the_form_of_the_specification(project, metadata):
    run(trained(steps=2))
    assert json.loads((MODEL / "metadata.json").read_bytes()) == metadata
    assert list_models("artifacts/models/registry.json") == [metadata]


def test_nothing_but_a_lock_file_is_left_of_the_work(project):
    run(trained(steps=2))
    assert [path.name for path in WORK.iterdir()] == [".model_v1.lock"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664)])
def test_the_lock_file_of_a_version_has_the_mode_of_the_umask(umask, mode, project):
    before = os.umask(umask)
    try:
        with locked_work(Artifacts.open().models, "model_v1"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((WORK / ".model_v1.lock").stat().st_mode) == mode


def test_a_run_in_a_trainer_of_the_same_version_is_an_error_and_does_not_wait(project, monkeypatch):
    models = Artifacts.open().models
    Path("run.json").write_text('{"model_version": "model_v1"}')
    monkeypatch.setenv("LLM_TRAIN_RUN", "run.json")
    with locked_work(models, "model_v1"), locked_work(models, "model_v2"):
        again = locked_work(models, "model_v1")
        with pytest.raises(ValueError, match="locked by the run whose trainer or evaluator start"):
            again.__enter__()
    with locked_work(models, "model_v1"):  # free again
        pass


def test_a_second_run_trains_and_measures_nothing_and_changes_no_byte(project, tree):
    first = run(trained())
    before = tree(Path("artifacts"))
    assert run() == first
    assert calls() == ["train", "evaluate"]
    assert tree(Path("artifacts")) == before


def test_the_files_can_be_read_by_those_who_can_read_the_rest(project):
    write_module(
        "def train(run):\n"
        "    (run.output / 'w').write_text('1')\n"
        "    (run.output / 'w').chmod(0o600)\n"
    )
    run(write_config({"use": "mine:train"}))
    assert (MODEL / "weights/w").stat().st_mode == (MODEL / "metadata.json").stat().st_mode


# --- Versions ------------------------------------------------------------------------------------


def test_a_derived_version_covers_trainer_options_and_seed_and_not_the_evaluator(project):
    write_module()
    trainers = [
        {"use": "mine:train", "options": {"steps": 1}},
        {"use": "mine:train", "options": {"steps": 2}},
        {"use": "mine:train", "options": {"steps": 1}, "seed": 1},
    ]
    versions = [run(write_config(each), None)["model_version"] for each in trainers]
    assert len({*versions}) == 3
    same = write_config({**trainers[0], "timeout_seconds": 60}, {"use": "simulated"})
    assert run(same, None)["model_version"] == versions[0]


def test_code_that_was_edited_twice_in_a_second_is_the_code_that_runs(project):
    write_module(MODULE.replace("dumps(state)", "dumps(1111)"))
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-c", "import mine"], check=True, env=env)
    assert list(Path("__pycache__").iterdir())
    before = Path("mine.py").stat()
    write_module(MODULE.replace("dumps(state)", "dumps(2222)"))
    os.utime("mine.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    write_config({"use": "mine:train"})
    run()
    weights = Path("artifacts/models/model_v1/weights/adapter/weights.json")
    assert weights.read_text() == "2222"


def test_other_code_of_the_trainer_derives_another_version(project):
    version = run(trained(steps=1), None)["model_version"]
    with Path("mine.py").open("a") as module:
        module.write("# changed\n")
    assert run(version=None)["model_version"] != version


@pytest.mark.parametrize(
    ("trainer", "detail"),
    [
        (
            {"use": "mine:train", "seed": 7, "options": {"steps": 3}},
            "trainer.options.steps: recorded 2, now 3",
        ),
        (
            {"use": "mine:train", "seed": 8, "options": {"steps": 2}},
            "trainer.seed: recorded 7, now 8",
        ),
        ({"use": "mine:train", "seed": 7}, "trainer.options: recorded {'steps': 2}, now None"),
        (None, "trainer: recorded {"),
    ],
    ids=["options", "seed", "an option less", "no trainer"],
)
def test_another_trainer_under_a_version_is_refused_before_anything_is_trained(
    trainer, detail, project, tree
):
    run(trained(steps=2))
    before = tree(Path("artifacts"))
    with pytest.raises(ModelVersionConflict) as caught:
        run(write_config(trainer, {"use": "mine:evaluate"}))
    assert any(line.startswith(detail) for line in caught.value.details)
    assert calls() == ["train", "evaluate"]
    assert tree(Path("artifacts")) == before


def test_a_trainer_under_the_version_of_a_simulated_model_is_refused(project, tree):
    run("configs/training/mistral_finetune.yaml")
    before = tree(MODEL)
    with pytest.raises(ModelVersionConflict, match="trainer: recorded None, now"):
        run(trained())
    assert calls() == []
    assert tree(MODEL) == before


def test_a_base_model_that_changed_under_its_name_is_refused(project):
    write_module()
    Path("base").mkdir()
    Path("base/model.bin").write_text("one")
    config = write_config({"use": "mine:train", "base_model": ["base/*"]})
    run(config)
    Path("base/model.bin").write_text("two")
    with pytest.raises(ModelVersionConflict, match=r"base_model\.base/model\.bin: recorded"):
        run(config)


# --- Stopped trainings ---------------------------------------------------------------------------


def test_a_training_that_is_killed_again_and_again_ends_in_the_bytes_of_an_undisturbed_one(
    project, tree
):
    trained(steps=12, seconds=0.02)
    run()
    expected = weights(tree)
    Path("artifacts/models").rename("undisturbed")
    Path("artifacts/evaluations").rename("undisturbed-evaluations")
    dice = random.Random(20_240_229)
    for _ in range(5):
        process = start()
        wait_for_a_step(process, dice.randrange(2, 11))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    run()
    assert weights(tree) == expected
    assert verdict(verify("model_v1")) == "AS RECORDED"


def wait_for_a_step(process, step):
    """Return when the training has reached a step, or the process has ended."""
    while process.poll() is None:
        for path in WORK.glob("model_v1/*/checkpoints/state.json"):
            if json.loads(path.read_bytes())["step"] >= step:
                return
        time.sleep(0.005)


def test_concurrent_runs_of_a_version_train_it_once(project, tree):
    trained(steps=5, seconds=0.1)
    processes = [start() for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert calls().count("train") == 1
    assert verdict(verify("model_v1")) == "AS RECORDED"


def test_a_run_takes_the_result_of_one_that_was_killed_after_the_training(project, monkeypatch):
    trained()
    with monkeypatch.context() as patch:
        patch.setattr("src.training.weights.put_training", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not (MODEL / "weights").exists()
    run()
    assert calls() == ["train", "evaluate"]


def stop_after_the_training(config, monkeypatch):
    """Train, stop before the result is in the record, and return the folder of the training."""
    with monkeypatch.context() as patch:
        patch.setattr("src.training.weights.put_training", killed)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    return max(WORK.glob("model_v1/*/"), key=lambda path: (path / "result.json").stat().st_mtime_ns)


def test_the_result_of_another_training_is_not_taken(project, monkeypatch):
    other = stop_after_the_training(trained(steps=1), monkeypatch)
    own = stop_after_the_training(trained(steps=2), monkeypatch)
    shutil.rmtree(own)
    other.rename(own)
    run()
    assert calls() == ["train", "train", "train", "evaluate"]


def alter(folder):
    (folder / "output/samples.txt").write_text("9")


def leave_nothing(folder):
    shutil.rmtree(folder / "output")
    (folder / "output").mkdir()
    result = json.loads((folder / "result.json").read_bytes())
    del result["files"]["weights/samples.txt"], result["files"]["weights/adapter/weights.json"]
    (folder / "result.json").write_text(json.dumps(result))


def leave_an_empty_file(folder):
    (folder / "output/samples.txt").write_text("")
    result = json.loads((folder / "result.json").read_bytes())
    result["files"]["weights/samples.txt"] = {"sha256": sha256(b"").hexdigest(), "size": 0}
    (folder / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize("change", [alter, leave_nothing, leave_an_empty_file])
def test_a_result_that_is_not_what_a_trainer_may_leave_is_not_taken(change, project, monkeypatch):
    change(stop_after_the_training(trained(), monkeypatch))
    run()
    assert calls() == ["train", "train", "evaluate"]
    assert (MODEL / "weights/samples.txt").read_text() == "3"


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("../processes.lock", True),
        ("../.run.json.tmp", True),
        ("../run.json", True),
        ("history.jsonl", True),
        ("history.jsonl", False),
        (".environment.json.tmp", True),
        ("environment.json", False),
        ("result.json", True),
        ("output", True),
        ("checkpoints", True),
    ],
)
def test_nothing_is_written_through_a_link_in_the_work_folder(name, exists, project, monkeypatch):
    folder = stop_after_the_training(trained(), monkeypatch)
    (folder / "result.json").unlink()
    outside = Path("outside")
    if name in ("output", "checkpoints"):
        outside.mkdir()
    elif exists:
        outside.write_text("mine")
    path = folder / name
    remove_tree(path)
    path.symlink_to(outside.resolve())
    run()
    if outside.is_dir():
        assert list(outside.iterdir()) == []
    else:
        assert (outside.read_text() if outside.exists() else None) == ("mine" if exists else None)


@pytest.mark.parametrize(
    "name",
    ["../run.json", "../processes.lock", "history.jsonl", "environment.json", "result.json"],
)
def test_a_folder_in_place_of_a_file_in_the_work_folder_is_removed(name, project, monkeypatch):
    folder = stop_after_the_training(trained(), monkeypatch)
    (folder / "result.json").unlink()
    (folder / name).unlink(missing_ok=True)
    (folder / name / "nested").mkdir(parents=True)
    run()
    assert calls() == ["train", "train", "evaluate"]


def test_a_fifo_in_the_work_folder_is_not_waited_for(project, monkeypatch):
    folder = stop_after_the_training(trained(), monkeypatch)
    (folder / "result.json").unlink()
    (folder / "history.jsonl").unlink()
    os.mkfifo(folder / "history.jsonl")
    run()
    assert calls() == ["train", "train", "evaluate"]


def killed(*_):
    raise KeyboardInterrupt


def test_checkpoints_of_other_options_are_not_used(project):
    trained(steps=50, seconds=0.05)
    process = start()
    wait_for_a_step(process, 5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(trained(steps=4))
    assert json.loads((MODEL / "weights/adapter/weights.json").read_bytes())["step"] == 4


# --- Two runs of one version ---------------------------------------------------------------------

OTHER = {"steps": 4}


def other_config(trainer):
    """Write a config with the same settings and this trainer; return its path."""
    path = "configs/training/other.yaml"
    return write_config(trainer, {"use": "mine:evaluate"} if trainer else None, path=path)


def run_before(function, config, monkeypatch):
    """Run a config at the moment when another run calls a function of `src.training.trainer`."""
    called = getattr(trainer_module, function)

    def call(*arguments, **keywords):
        monkeypatch.setattr(trainer_module, function, called)
        run(config)
        return called(*arguments, **keywords)

    monkeypatch.setattr(trainer_module, function, call)


@pytest.mark.parametrize(
    ("trainer", "detail"),
    [
        ({"use": "mine:train", "seed": 7, "options": OTHER}, "trainer.options.steps: recorded 4"),
        (None, "trainer: recorded None, now {"),
    ],
    ids=["other options", "no trainer"],
)
def test_of_two_runs_that_trained_a_version_the_first_to_write_wins_and_the_other_is_a_conflict(
    trainer, detail, project, monkeypatch, tree
):
    config = trained(steps=2)
    run(other_config(trainer))
    alone = weights(tree), verdict(verify("model_v1"))
    for folder in ("models", "evaluations", ".cache"):
        shutil.rmtree(Path("artifacts") / folder, ignore_errors=True)
    run_before("write_metadata", other_config(trainer), monkeypatch)
    with pytest.raises(ModelVersionConflict) as caught:
        run(config)
    assert any(line.startswith(detail) for line in caught.value.details)
    assert (weights(tree), verdict(verify("model_v1"))) == alone


def stop_after_the_weights(config, monkeypatch):
    """Train, and stop after the weights were copied, before the statement lists them."""
    with monkeypatch.context() as patch:
        patch.setattr("src.training.trainer.bind_model", killed)
        with pytest.raises(KeyboardInterrupt):
            run(config)


def test_weights_without_a_statement_are_not_mixed_with_a_simulated_model(
    project, monkeypatch, tree
):
    config = trained(steps=2)
    stop_after_the_weights(config, monkeypatch)
    before = tree(MODEL)
    with pytest.raises(CorruptFileError, match="weights: left by a training of this version"):
        run(other_config(None))
    assert tree(MODEL) == before
    run(config)
    assert verdict(verify("model_v1")) == "AS RECORDED"


def test_a_history_without_a_statement_is_not_mixed_with_another_training(project, monkeypatch):
    stop_after_the_weights(trained(steps=2), monkeypatch)
    write_module("def train(run):\n    (run.output / 'w').write_text('1')\n", "silent.py")
    other = write_config({"use": "silent:train"}, path="configs/training/other.yaml")
    with pytest.raises(CorruptFileError, match=r"training\.jsonl: left by another training"):
        run(other)
    (MODEL / "training.jsonl").unlink()
    run(other)
    assert verdict(verify("model_v1")) == "MATCH"


def test_a_run_without_a_trainer_locks_a_version_that_was_trained_and_no_other(
    project, monkeypatch
):
    locked = []

    @contextmanager
    def locked_work(models, version):
        locked.append(version)
        yield

    stop_after_the_training(trained(), monkeypatch)
    monkeypatch.setattr(trainer_module, "locked_work", locked_work)
    run(other_config(None), "model_v2")
    assert locked == []
    run(other_config(None), "model_v1")
    assert locked == ["model_v1"]


# --- Altered weights -----------------------------------------------------------------------------


def edit(path):
    path.write_bytes(b"other")


def delete(path):
    path.unlink()


def add(path):
    path.with_name("backdoor.py").write_text("import os")


def link(path):
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit, "weights/samples.txt: expected sha256"),
        (delete, "weights/samples.txt: no such file"),
        (add, "weights/backdoor.py: not"),
        (link, "weights/samples.txt: expected a regular file, found a link"),
    ],
)
def test_altered_weights_stop_the_next_run_and_are_a_mismatch(damage, message, project, tree):
    run(trained())
    damage(MODEL / "weights/samples.txt")
    [check] = [each for each in verify("model_v1") if each.what == "weights"]
    assert check.verdict == "MISMATCH"
    assert message.removeprefix("weights/") in check.found.replace("weights/", "")
    with pytest.raises(CorruptFileError) as caught:
        run()
    assert message in str(caught.value)
    assert calls() == ["train", "evaluate"]


def test_an_altered_history_is_a_mismatch_and_stops_the_next_run(project):
    run(trained())
    edit(MODEL / "training.jsonl")
    [check] = [each for each in verify("model_v1") if each.what == "weights"]
    assert check.verdict == "MISMATCH"
    assert check.found.startswith("training.jsonl: expected sha256")
    found = sha256(b"other").hexdigest()
    end = f"found sha256 {found}. Left as found; restore it from a backup."
    with pytest.raises(CorruptFileError, match=rf"training\.jsonl: expected sha256 \S+, {end}$"):
        run()


# --- The history of a function -------------------------------------------------------------------


def test_a_step_may_be_a_scalar_of_a_tensor_library(project):
    write_module(
        "class Scalar:\n"
        "    def item(self): return 3\n"
        "def train(run):\n"
        "    run.log(Scalar(), loss=Scalar())\n"
        "    (run.output / 'w').write_text('1')\n"
    )
    run(write_config({"use": "mine:train"}))
    assert (MODEL / "training.jsonl").read_text() == '{"loss": 3, "step": 3}\n'


def test_points_of_several_threads_are_whole_and_in_the_order_of_the_steps(project):
    write_module(
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def train(run):\n"
        "    sys.setswitchinterval(1e-6)\n"
        "    with ThreadPoolExecutor(8) as threads:\n"
        "        list(threads.map(run.log, range(4000)))\n"
        "    (run.output / 'w').write_text('1')\n"
    )
    run(write_config({"use": "mine:train"}))
    points = (MODEL / "training.jsonl").read_text().splitlines()
    steps = [json.loads(point)["step"] for point in points]
    assert steps == sorted({*steps})


# --- Trainers that fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", "the trainer has left no file"),
        ("(run.output / 'w').touch()", "w: the trainer has left an empty file"),
        (
            "(run.output / 'w').symlink_to('/etc/hostname')",
            "w: expected a regular file, found a li",
        ),
        ("import os; os.mkfifo(run.output / 'w')", "w: expected a regular file, found a FIFO"),
        (
            "import socket, os; os.chdir(run.output); socket.socket(socket.AF_UNIX).bind('w')",
            "w: expected a regular file, found a socket",
        ),
        ("(run.output / 'a\\nb').write_text('1')", "expected names of at most 1024 printable"),
    ],
    ids=["nothing", "an empty file", "a link", "a FIFO", "a socket", "a strange name"],
)
def test_a_trainer_that_leaves_no_model_registers_nothing(body, message, project):
    write_module(f"def train(run):\n    {body}\n")
    with pytest.raises(TrainingOutputError) as caught:
        run(write_config({"use": "mine:train"}))
    assert message in str(caught.value)
    assert nothing_is_registered()


def test_the_log_says_that_a_trainer_starts_stops_continues_and_ends(project, caplog):
    caplog.set_level("INFO")
    write_module(
        "def train(run):\n"
        "    checkpoint = run.checkpoints / 'step-1'\n"
        "    if not checkpoint.exists():\n"
        "        checkpoint.write_text('1')\n"
        "        raise KeyboardInterrupt\n"
        "    (run.output / 'weights').write_text('12')\n"
    )
    config = write_config({"use": "mine:train"})
    with pytest.raises(CommandError):
        run(config)
    run(config)
    [checkpoints] = {each for each in caplog.messages if "Run again" in each}
    prefix = "model_v1: trainer mine:train"
    assert [each for each in caplog.messages if each.startswith(prefix)] == [
        f"{prefix} starts.",
        checkpoints,
        f"{prefix} continues from its checkpoints.",
        f"{prefix}: done, 2 bytes of weights.",
    ]
    assert re.fullmatch(
        rf"{prefix}: stopped\. Run again: it continues from \S+/checkpoints\.", checkpoints
    )


def test_of_a_reason_with_several_lines_the_message_has_the_first(project):
    write_module(
        "def train(run):\n    raise RuntimeError('out of memory\\nTry a smaller batch.')\n"
    )
    with pytest.raises(CommandError) as caught:
        run(write_config({"use": "mine:train"}))
    assert str(caught.value).splitlines()[0] == (
        "trainer mine:train: exited with code 1: RuntimeError: out of memory"
    )


def test_a_value_without_a_form_in_json_is_no_point_of_the_history(project):
    write_module(
        "def train(run):\n"
        "    run.log(1, loss=object())\n"
        "    run.log(2, loss=0.5)\n"
        "    (run.output / 'w').write_text('1')\n"
    )
    run(write_config({"use": "mine:train"}))
    assert (MODEL / "training.jsonl").read_text() == '{"loss": 0.5, "step": 2}\n'


def test_a_trainer_that_fails_registers_nothing_and_keeps_its_checkpoints(project):
    write_module(
        "def train(run):\n"
        "    (run.checkpoints / 'step-1').write_text('1')\n"
        "    run.log(1)\n"
        "    raise RuntimeError('out of memory')\n"
    )
    with pytest.raises(CommandError) as caught:
        run(write_config({"use": "mine:train"}))
    first, *lines = str(caught.value).splitlines()
    assert first == "trainer mine:train: exited with code 1: RuntimeError: out of memory"
    assert [each for each in lines if "File" in each and "mine.py" not in each] == []
    assert not isinstance(caught.value, TrainerFailedError)
    assert len(list(WORK.glob("model_v1/*/checkpoints/step-1"))) == 1
    assert nothing_is_registered()


def test_a_trainer_that_fails_before_its_first_step_is_not_tried_again(project):
    write_module("def train(run):\n    raise RuntimeError('a bug')\n")
    with pytest.raises(TrainerFailedError, match="a bug"):
        run(write_config({"use": "mine:train"}))


def test_a_trainer_that_never_ends_is_ended_after_its_time_limit(project):
    write_module("import time\ndef train(run):\n    time.sleep(1000)\n")
    with pytest.raises(CommandTimeoutError):
        run(write_config({"use": "mine:train", "timeout_seconds": 1}))
    assert nothing_is_registered()


# --- Commands ------------------------------------------------------------------------------------

COMMAND = """
import json, os, pathlib
run = json.load(open(os.environ["LLM_TRAIN_RUN"]))
pathlib.Path("run.json").write_text(json.dumps(run))
print("hello")
print(json.dumps({"step": 1, "loss": 0.1 + 0.2}))
print('{"step": 2, "loss": NaN}')
pathlib.Path(run["output"], "w").write_text("1")
"""


def test_a_command_gets_its_run_in_a_file_and_reports_steps_on_stdout(project, tree):
    write_module(COMMAND, "train.py")
    argv = [sys.executable, "train.py"]
    run(write_config({"use": "command", "argv": argv, "options": {"rank": 8}}))
    assert weights(tree) == {
        "training.jsonl": (
            b'{"loss": 0.30000000000000004, "step": 1}\n{"loss": null, "step": 2}\n'
        ),
        "weights/w": b"1",
    }
    given = json.loads(Path("run.json").read_bytes())
    assert given["model_version"] == "model_v1"
    assert given["config"]["epochs"] == 3
    assert given["options"] == {"rank": 8}
    assert given["seed"] == 0
    assert given["dataset"] == str(project / "artifacts/datasets/dataset_v1/data.jsonl")
    assert Path(given["checkpoints"]).parent == Path(given["output"]).parent


def test_the_files_that_a_command_names_are_its_code(project):
    write_module(COMMAND, "train.py")
    write_module("x = 1\n", "library.py")
    command = {"use": "command", "argv": [sys.executable, "train.py"], "code": ["lib*.py"]}
    run(write_config(command))
    inputs = statement("models/model_v1")["predicate"]["buildDefinition"]["resolvedDependencies"]
    [trainer] = [each for each in inputs if each["name"] == "trainer"]
    assert trainer["annotations"]["files"].keys() == {"train.py", "library.py"}
    write_module("x = 2\n", "library.py")
    with pytest.raises(ModelVersionConflict, match=r"trainer\.code: recorded"):
        run()


def test_a_command_that_cannot_be_started_says_so(project):
    with pytest.raises(CommandStartError, match="no-such-program"):
        run(write_config({"use": "command", "argv": ["no-such-program"]}))
    assert nothing_is_registered()


# --- Configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            {"use": "absent"},
            f"{CONFIG_PATH}:8: trainer.use: 'absent': not installed for ",
        ),
        ({"use": "mine:absent"}, "module 'mine' has no attribute 'absent'"),
        ({"use": "absent:train"}, "No module named 'absent'"),
        (
            {"use": "command", "argv": ["python3", "absent.py"]},
            f"{CONFIG_PATH}:8: trainer.argv: no file of argv ['python3', 'absent.py'] was found ",
        ),
        ({"use": "mine:NUMBER"}, "expected a function, found int."),
        (
            {"use": "mine:train", "code": ["*.none"]},
            f"{CONFIG_PATH}:8: trainer.code: no file matches '*.none' in ",
        ),
    ],
    ids=["not installed", "no attribute", "no module", "no file", "no function", "no code"],
)
def test_a_trainer_that_cannot_be_used_is_named_with_its_line(trainer, message, project):
    write_module("NUMBER = 1\ndef train(run): pass\n")
    with pytest.raises(ComponentError) as caught:
        run(write_config(trainer))
    assert message in str(caught.value)


def test_the_trainer_checks_its_options(project):
    write_module(
        "def check(options):\n"
        "    if options.get('rank', 0) < 1:\n"
        "        raise ValueError('rank: expected 1 or more.')\n"
        "    return {'alpha': 16, **options}\n"
        "def train(run):\n"
        "    (run.output / 'w').write_text(str(sorted(run.options.items())))\n"
        "train.check_options = check\n"
    )
    with pytest.raises(ComponentError) as caught:
        run(write_config({"options": {"rank": 0}, "use": "mine:train"}))
    assert str(caught.value) == (f"{CONFIG_PATH}:9: trainer.options.rank: expected 1 or more.")
    run(write_config({"options": {"rank": 4}, "use": "mine:train"}))
    assert (MODEL / "weights/w").read_text() == "[('alpha', 16), ('rank', 4)]"


@pytest.mark.parametrize("place", ["artifacts/sweeps/own.yaml", "own.yaml", "../own.yaml"])
def test_code_is_taken_only_from_a_config_in_the_folder_configs(place, project):
    write_module()
    with pytest.raises(ConfigError, match=r"names code to run \(mine:train\)"):
        run(write_config({"use": "mine:train"}, path=place))
    assert calls() == []


def test_a_link_to_a_config_elsewhere_is_not_in_the_folder_configs(project):
    write_module()
    write_config({"use": "mine:train"}, path="artifacts/own.yaml")
    Path(CONFIG_PATH).symlink_to(Path("artifacts/own.yaml").resolve())
    with pytest.raises(ConfigError, match="names code to run"):
        run()


def test_the_variant_of_a_config_takes_the_trainer_from_its_base(project):
    from src.training.grids import write_variant

    config = trained(steps=1)
    variant = write_variant(config, ["epochs=5"], Artifacts.open())
    assert "mine" not in Path(str(variant)).read_text().replace(CONFIG_PATH, "")
    assert run_training_pipeline(variant)["metrics"].keys() == {"loss", "seconds"}
    assert calls() == ["train", "evaluate"]


def test_the_environment_of_a_trainer_needs_nothing_of_this_project(project):
    venv.create("bare", with_pip=False)
    write_module(
        "import sys\n"
        "def train(run):\n"
        "    (run.output / 'python').write_text(f'{sys.prefix} {\"yaml\" in sys.modules}')\n"
    )
    run(write_config({"use": "mine:train", "python": "bare/bin/python"}))
    assert (MODEL / "weights/python").read_text() == f"{project / 'bare'} False"


def test_an_installed_trainer_is_named_by_its_entry_point_and_identified_by_its_version(
    project, monkeypatch
):
    installed = project / "installed"
    (installed / "tiny-1.0.dist-info").mkdir(parents=True)
    (installed / "tiny-1.0.dist-info/METADATA").write_text("Name: tiny\nVersion: 1.0\n")
    (installed / "tiny-1.0.dist-info/entry_points.txt").write_text(
        "[llm_training_pipeline.trainers]\ntiny = tiny:train\n"
    )
    write_module(
        "def train(run):\n    (run.output / 'w').write_text('1')\ntrain.version = '1.0'\n",
        "installed/tiny.py",
    )
    monkeypatch.setenv("PYTHONPATH", str(installed))
    elsewhere = write_config({"use": "tiny"}, path="anywhere.yaml")
    run(elsewhere)
    inputs = statement("models/model_v1")["predicate"]["buildDefinition"]["resolvedDependencies"]
    [trainer] = [each for each in inputs if each["name"] == "trainer"]
    assert trainer["annotations"] == {"files": {}, "version": "1.0"}


def test_a_config_outside_of_configs_does_not_name_an_interpreter(project):
    Path("evil.sh").write_text("#!/bin/sh\ntouch ran\n")
    Path("evil.sh").chmod(0o755)
    with pytest.raises(ConfigError, match="names code to run"):
        run(write_config({"use": "anything", "python": "evil.sh"}, path="artifacts/own.yaml"))
    assert not Path("ran").exists()


def test_versions_whose_names_look_like_locks_do_not_disturb_others(project):
    config = trained(steps=1)
    run(config, "mm")
    run(config, "mm.lock")
    assert sorted(path.name for path in WORK.iterdir()) == [".mm.lock", ".mm.lock.lock"]


@pytest.mark.parametrize("name", [".w.tmp", "folder/.w.tmp", "w" * 201])
def test_names_that_temporary_files_could_have_are_refused(name, project):
    write_module(
        "def train(run):\n"
        f"    path = run.output / {name!r}\n"
        "    path.parent.mkdir(exist_ok=True)\n"
        "    path.write_text('1')\n"
    )
    with pytest.raises(TrainingOutputError, match="expected names of at most 200 characters"):
        run(write_config({"use": "mine:train"}))


def test_a_sparse_file_is_refused_without_reading_it(project):
    write_module(
        "def train(run):\n"
        "    with (run.output / 'w').open('wb') as file:\n"
        "        file.truncate(1 << 43)\n"
    )
    with pytest.raises(TrainingOutputError, match="no data is stored from byte 0 on"):
        run(write_config({"use": "mine:train"}))


@pytest.mark.parametrize(
    "body",
    [
        "run.output.rmdir(); run.output.symlink_to('/tmp')",
        "run.output.rmdir(); run.output.write_text('1')",
        "(run.output / 'big').write_bytes(b'1' * 1000); raise RuntimeError('full')",
    ],
    ids=["a link", "a file", "an error"],
)
def test_what_a_failed_trainer_left_does_not_disturb_the_next_try(body, project):
    write_module(f"def train(run):\n    {body}\n")
    config = write_config({"use": "mine:train"})
    with pytest.raises((ValueError, OSError)):
        run(config)
    assert list(WORK.glob("model_v1/*/output")) == []
    write_module("def train(run):\n    (run.output / 'w').write_text('1')\n")
    run(config)
    assert (MODEL / "weights/w").read_text() == "1"


@pytest.mark.parametrize("left", ["", "run.checkpoints.touch()"], ids=["nothing", "a file"])
def test_a_trainer_that_removes_its_checkpoints_fails_with_its_own_error_and_is_run_again(
    left, project
):
    write_module(
        "def train(run):\n"
        "    run.checkpoints.rmdir()\n"
        f"    {left}\n"
        "    raise RuntimeError('a bug')\n"
    )
    config = write_config({"use": "mine:train"})
    for _ in range(2):
        with pytest.raises(TrainerFailedError, match="RuntimeError: a bug"):
            run(config)


WITHOUT_PRIVILEGES = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from tests.privileges import drop_privileges
drop_privileges()
{RUN}
"""


def test_a_read_only_folder_that_a_trainer_left_is_removed(project):
    outside = project / "outside"
    outside.touch(0o400)
    write_module(
        "import os\n"
        "def train(run):\n"
        "    for folder in (run.output, run.checkpoints):\n"
        "        (folder / 'a/b').mkdir(parents=True)\n"
        "        (folder / 'a/b/w').write_text('1')\n"
        "        (folder / 'a/b').chmod(0o500)\n"
        f"        os.link({str(outside)!r}, folder / 'a/linked')\n"
        "        (folder / 'a').chmod(0)\n"
        "    run.output.joinpath('a').chmod(0o500)\n"
        "    run.output.joinpath('a/linked').chmod(0o400)\n"
    )
    outside.write_text("mine")
    write_config({"use": "mine:train"})
    subprocess.run([sys.executable, "-c", WITHOUT_PRIVILEGES], check=True, cwd=project)
    assert [path.name for path in WORK.iterdir()] == [".model_v1.lock"]
    assert (MODEL / "weights/a/b/w").read_text() == "1"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o400


def test_edited_metadata_of_a_trained_model_are_to_be_restored(project):
    run(trained(steps=2))
    file = MODEL / "metadata.json"
    file.write_text(file.read_text().replace('"epochs": 3', '"epochs": 4'))
    with pytest.raises(ModelVersionConflict, match="The file was edited after it was written: res"):
        run()


@pytest.mark.parametrize(
    ("change", "changed", "how"),
    [
        (
            "open(run.dataset.path, 'a').write('{}')",
            "artifacts/datasets/dataset_v1/data.jsonl",
            CHANGED,
        ),
        ("open('base/model.bin', 'a').write('2')", "base/model.bin", CHANGED),
        ("__import__('os').unlink('base/model.bin')", "base/model.bin", "deleted"),
    ],
    ids=["data", "base model", "deleted base model"],
)
def test_an_input_that_changes_during_a_training_stops_the_run(change, changed, how, project):
    Path("base").mkdir()
    Path("base/model.bin").write_text("1")
    write_module(
        "def train(run):\n"
        "    (run.output / 'w').write_text('1')\n"
        "    (run.checkpoints / 'w').write_text('1')\n"
        f"    {change}\n"
    )
    with pytest.raises(InputChangedError) as caught:
        run(write_config({"use": "mine:train", "base_model": ["base/*"]}))
    end = r"\nThe model and its checkpoints were discarded; run again\."
    message = rf"\S*{changed}: {how} during the training\.{end}"
    assert re.fullmatch(message, str(caught.value))
    assert nothing_is_registered()
    assert list(WORK.glob("model_v1/*/checkpoints")) == []


def test_an_environment_that_no_statement_could_hold_is_not_recorded(project):
    write_module(
        "import json, os\n"
        "from pathlib import Path\n"
        "def train(run):\n"
        "    (run.output / 'w').write_text('1')\n"
        "    values = json.loads(Path(os.environ['LLM_TRAIN_RUN']).read_bytes())\n"
        "    deep = '{\"a\": ' * 400 + '1' + '}' * 400\n"
        "    Path(values['environment']).write_text(deep)\n"
        "    os._exit(0)\n"
    )
    run(write_config({"use": "mine:train"}))
    definition = statement("models/model_v1")["predicate"]["buildDefinition"]
    inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
    assert [*inputs["training environment"]["annotations"]] == ["cpu", "platform", "variables"]
    assert verdict(verify("model_v1")) == "MATCH"


def test_code_that_changes_during_a_training_is_a_warning_and_recorded(project, caplog):
    write_module(
        "def train(run):\n"
        "    (run.output / 'w').write_text('1')\n"
        "    open(__file__, 'a').write('# changed')\n"
    )
    run(write_config({"use": "mine:train"}))
    [warning] = [each for each in caplog.messages if "was trained" in each]
    end = "The record names the code that the training began with, and this change."
    assert re.fullmatch(
        rf"\S*mine\.py: {CHANGED} while model_v1 was trained\. {re.escape(end)}", warning
    )
    definition = statement("models/model_v1")["predicate"]["buildDefinition"]
    inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
    recorded = inputs["training environment"]["annotations"]["code_changed"]
    path, _, how = warning.partition(" while ")[0].partition(": ")
    assert recorded == {path: how}
    assert verdict(verify("model_v1")) == "MATCH"


def test_a_version_that_is_registered_with_other_content_is_refused_before_the_training(project):
    run("configs/training/mistral_finetune.yaml")
    for path in MODEL.iterdir():
        path.unlink()
    MODEL.rmdir()
    config = Path(trained())
    config.write_text(config.read_text().replace("epochs: 3", "epochs: 9"))
    with pytest.raises(ModelVersionConflict, match=r"training_config\.epochs: recorded 3, now 9"):
        run()
    assert calls() == []
