"""The trainer `lora` and the evaluator `held-out-loss` on the demonstration tiny_lora, for real."""

import json
import random
import shutil
import time
from collections import Counter
from functools import partial

from src.finetuning.samples import is_held_out
from tests.e2e_train.conftest import CONFIG, SHORT, kill, wait_until

KILLS = 20
LINES = range(1, 1001)
SHORT_STEPS = 57


def held_out(project):
    """Return the numbers of the lines that the demonstration does not train on."""
    data = (project.folder / "artifacts/datasets/dataset_v1/data.jsonl").read_bytes()
    lines = data.splitlines()
    return {number for number, line in zip(LINES, lines, strict=True) if is_held_out(line, 0.1)}


def test_a_model_learns_and_its_evaluation_says_how_much(project):
    metrics = project.metrics("undisturbed")
    assert set(metrics) == {
        "base_loss",
        "cost_per_1k_tokens",
        "exact_match",
        "latency_ms",
        "loss",
        "perplexity",
        "quality_score",
        "tokens",
    }
    assert metrics["loss"] < 3 < 6 < metrics["base_loss"]
    assert 0 < metrics["quality_score"] < 1 < metrics["perplexity"]


def test_held_out_lines_are_never_trained_on_and_all_others_once_in_each_epoch(project):
    points = project.history("undisturbed")
    assert [point["step"] for point in points] == list(range(1, 172))
    assert {point["total_steps"] for point in points} == {171}
    seen = Counter(line for point in points for line in point["lines"])
    assert len(held_out(project)) == 89
    assert seen == dict.fromkeys(set(LINES) - held_out(project), 3)


def test_two_processes_leave_the_same_bytes_in_every_file_with_and_without_the_engine(project):
    done = project.llm_train("run", "--local", CONFIG, "--model-version", "local")
    assert "artifacts/models/local/weights: written." in done.stderr
    assert project.model("local") == project.model("undisturbed")
    assert sorted(project.model("local")) == [
        "training.jsonl",
        "weights/adapter_config.json",
        "weights/adapter_model.safetensors",
        "weights/finetuning.json",
        "weights/tokenizer.json",
        "weights/tokenizer_config.json",
    ]
    measured, again = project.metrics("local"), project.metrics("undisturbed")
    del measured["latency_ms"], again["latency_ms"]
    assert measured == again
    assert json.loads(done.stdout)["metrics"]["loss"] == measured["loss"]


def test_no_file_of_a_model_has_a_path_of_the_machine(project):
    for name, data in project.model("undisturbed").items():
        assert str(project.folder).encode() not in data, name
        assert str(project.folder.home()).encode() + b"/" not in data, name


def test_the_record_of_a_model_verifies_and_its_evaluation_can_be_repeated(project):
    done = project.llm_train("verify", "undisturbed", "--reevaluate")
    assert "MATCH" in done.stdout


def test_a_training_killed_at_random_moments_continues_to_the_bytes_of_an_undisturbed_one(project):
    moments, expected = random.Random(20), project.model("short_undisturbed")
    kills = finished = 0
    while kills < KILLS:
        version = f"killed_{finished}"
        before, process = project.last_step(version), project.start(SHORT, version)
        try:
            if wait_until(partial(is_at_another_step, project, version, before), process):
                time.sleep(moments.uniform(0, 1))
        finally:
            is_finished = process.poll() is not None
            kill(process)
        kills += not is_finished
        if is_finished:
            assert process.returncode == 0, project.log.read_text()[-5000:]
            assert project.model(version) == expected
            finished += 1
    project.run(SHORT, f"killed_{finished}")
    assert project.model(f"killed_{finished}") == expected


def is_at_another_step(project, version, before):
    return project.last_step(version) != before


def test_a_checkpoint_that_was_not_finished_is_not_used(project):
    process = project.start(SHORT, "half")
    assert wait_until(lambda: project.work("half", "checkpoints/*/complete"), process)
    kill(process)
    [checkpoints] = project.work("half", "checkpoints")
    later = checkpoints / f"checkpoint-{SHORT_STEPS - 1}"
    later.mkdir()
    for name in ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json"):
        (later / name).touch()
    project.run(SHORT, "half")
    assert project.model("half") == project.model("short_undisturbed")


def test_a_training_that_is_killed_after_its_last_step_trains_no_further(project):
    process = project.start(SHORT, "last")
    last = f"checkpoints/checkpoint-{SHORT_STEPS}/complete"
    wait_until(lambda: project.work("last", last), process)
    kill(process)
    project.run(SHORT, "last")
    assert project.model("last") == project.model("short_undisturbed")


def test_a_commit_in_the_cache_of_the_hub_is_trained_and_measured_without_a_network(project):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = project.folder / "hub/hub/models--org--tiny"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / commit
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    for path in (project.folder / "base_models/tiny-llama").iterdir():
        shutil.copy(path, blobs / f"of-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/of-{path.name}")
    config = project.folder / CONFIG
    text = config.read_text().replace("base_models/tiny-llama", "org/tiny")
    of_hub = text.replace(
        "held_out: 0.1", f"held_out: 0.1\n    revision: {commit}\n    max_steps: 2"
    )
    (config.parent / "hub.yaml").write_text(of_hub)
    env = {"HF_HOME": str(project.folder / "hub"), "HF_HUB_OFFLINE": "1"}
    run = ("run", "--local", "configs/training/hub.yaml", "--model-version", "hub")
    project.llm_train(*run, env=env)
    assert len(project.history("hub")) == 2
    assert project.metrics("hub")["base_loss"] == project.metrics("undisturbed")["base_loss"]
    adapter = json.loads(project.model("hub")["weights/adapter_config.json"])
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("org/tiny", commit)
    assert str(project.folder).encode() not in b"".join(project.model("hub").values())


# --- Evaluation ----------------------------------------------------------------------------------


def test_an_evaluation_on_other_data_takes_all_its_lines(project):
    data = project.folder / "artifacts/datasets/dataset_v1/data.jsonl"
    other = project.folder / "artifacts/datasets/other"
    other.mkdir()
    (other / "data.jsonl").write_bytes(b"".join(data.read_bytes().splitlines(keepends=True)[:3]))
    config = project.folder / CONFIG
    changed = config.read_text().replace(
        "use: held-out-loss", "use: held-out-loss\n  dataset_version: other"
    )
    (config.parent / "other.yaml").write_text(changed)
    evaluate = ("evaluate", "short_undisturbed", "--config", "configs/training/other.yaml")
    project.llm_train(*evaluate, "--replace")
    outputs = [json.loads(line)["output"] for line in data.read_text().splitlines()[:3]]
    # Each completion has at least one token, at most one for each byte, and one for its end.
    tokens = project.metrics("short_undisturbed")["tokens"]
    assert 6 <= tokens <= sum(len(text.encode()) + 1 for text in outputs)


def test_an_adapter_is_not_measured_on_another_base_model(project):
    path = project.folder / "base_models/tiny-llama/generation_config.json"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    evaluate = ("evaluate", "undisturbed", "--config", CONFIG, "--replace")
    try:
        done = project.llm_train(*evaluate, code=1)
    finally:  # other tests use the base model
        path.write_bytes(before)
    assert "base_models/tiny-llama/generation_config.json: expected sha256 " in done.stderr


def test_a_model_without_held_out_lines_needs_other_data(project):
    config = project.folder / SHORT
    all_lines = config.read_text().replace("held_out: 0.1", "held_out: 0\n    max_steps: 1")
    (config.parent / "all.yaml").write_text(all_lines)
    done = project.llm_train("run", "--local", "configs/training/all.yaml", code=1)
    assert (
        "the model was trained on all of its lines (`held_out: 0`), so none is left to measure on. "
        "Raise `held_out` of the trainer, or set `dataset_version` of the evaluator to other data."
    ) in done.stderr
