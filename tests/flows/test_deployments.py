"""Tests of prefect.yaml and of runs that wait: a person can tell them apart."""

from collections import Counter
from pathlib import Path

import yaml

from flows import dataset_published as module
from flows.dataset_published import dataset_published
from tests.conftest import REPOSITORY
from tests.flows.runs import flow_run

DEPLOYMENTS = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]


def test_every_deployment_has_a_tag_that_no_other_has():
    # Prefect gives a scheduled run a random name until it starts, but the tags of its deployment.
    counts = Counter(tag for deployment in DEPLOYMENTS for tag in deployment["tags"])
    for deployment in DEPLOYMENTS:
        assert [tag for tag in deployment["tags"] if counts[tag] == 1], deployment["entrypoint"]


def test_the_descriptions_of_deployments_differ_in_their_first_words():
    words = [" ".join(deployment["description"].split()[:4]) for deployment in DEPLOYMENTS]
    assert len(set(words)) == len(words) == 8
    nightly = [each["description"] for each in DEPLOYMENTS if each["name"] == "nightly"]
    assert [" ".join(each.split()[:2]) for each in nightly] == [
        "Nightly training:",
        "Nightly audit:",
    ]


def test_a_run_for_a_published_dataset_has_its_final_name_while_it_waits(project, monkeypatch):
    started = []
    monkeypatch.setattr(module, "run_deployment", lambda name, **options: started.append(options))
    Path("configs").mkdir()
    Path("config.yaml").rename("configs/mistral_finetune.yaml")
    assert dataset_published("dataset_v1", "configs") == ["configs/mistral_finetune.yaml"]
    assert [options["flow_run_name"] for options in started] == ["train mistral_finetune"]


def test_a_published_dataset_that_no_config_uses_is_a_sentence_in_the_state(project, monkeypatch):
    monkeypatch.setattr(module, "run_deployment", lambda *_, **__: None)
    Path("configs").mkdir()
    Path("config.yaml").rename("configs/config.yaml")
    messages = {}
    for version in ("dataset_v1", "dataset_v9"):
        state = dataset_published(version, "configs", return_state=True)
        recorded = flow_run(state.state_details.flow_run_id).state
        messages[version] = (recorded.name, recorded.message)
    assert messages == {
        "dataset_v1": ("Completed", "Training runs started: configs/config.yaml."),
        "dataset_v9": ("Completed", "configs: no config uses dataset_v9. No run was started."),
    }
    assert dataset_published("dataset_v9", "configs") == []


def test_a_published_dataset_starts_no_run_of_a_config_whose_environment_is_not_installed(
    project, monkeypatch, caplog
):
    started = []
    monkeypatch.setattr(module, "run_deployment", lambda name, **options: started.append(options))
    Path("configs").mkdir()
    config = Path("config.yaml").read_text()
    for key in ("trainer", "evaluator"):
        component = f"{key}: {{use: mine, python: .venv-train/bin/python}}\n"
        Path(f"configs/{key}.yaml").write_text(config + component)
    Path("config.yaml").rename("configs/simulated.yaml")
    assert dataset_published("dataset_v1", "configs") == ["configs/simulated.yaml"]
    assert len(started) == 1
    for key in ("trainer", "evaluator"):
        assert (
            f"Skipped: configs/{key}.yaml: {key}.python: expected a Python interpreter, found no "
            "file '.venv-train/bin/python'."
        ) in caplog.text
