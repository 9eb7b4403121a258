"""Tests of the pages of models: text from outside is text, in each of them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from flows.report import publish_models, report_key, report_link, sweep_report
from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep
from src.artifacts import Artifacts
from src.names import is_version
from src.training.pipeline import run_training_pipeline
from tests.examples import CONFIG
from tests.flows.runs import artifact, newest_artifact
from tests.strategies import names

HOSTILE = "![x](http://e.example/x.png) [pay](http://e.example) `a` <img src=x> a|b"
KEY = "training-model-v1--d64be24a37a18742"
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def elements(page: str) -> tuple[set[str], list[str], str]:
    """Return the raw HTML, the targets of links and images, and the text of a page."""
    html, targets, texts = set(), [], []
    for block in PARSER.parse(page):
        for token in [block, *(block.children or [])]:
            if token.type.startswith("html"):
                html.add(token.content)
            elif token.type in ("link_open", "image"):
                targets.append(str(token.attrs.get("href") or token.attrs.get("src")))
            elif token.type in ("text", "code_inline", "code_block"):
                texts.append(token.content)
            elif token.type == "inline":
                texts.append("\n")
    return html, targets, "".join(texts)


@pytest.fixture
def hostile(project) -> str:
    """The project with a config of a hostile base model and a hostile name; the name."""
    path = "x$(touch M)|`&lt; ![x](http://e.example) .yaml".replace("/", ":")
    Path(path).write_text(CONFIG.replace("mistral-7b", json.dumps(HOSTILE)))
    return path


# --- Keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "key"),
    [
        ("mistral-7b-x", "training-mistral-7b-x"),
        ("model-v1", "training-model-v1"),
        ("model_v1", KEY),
        ("Model_V1", "training-model-v1--3b519d25226200d1"),
        ("model.v1", "training-model-v1--c135bf2feb974e18"),
    ],
)
def test_the_key_of_a_report_has_a_digest_where_the_version_has_other_characters(version, key):
    assert report_key(version) == key
    assert report_link(version) == f"[{version}](/artifacts/key/{key})"


@given(names | st.from_regex(r"[aA][-._]{0,2}[bB]", fullmatch=True), names)
def test_no_two_versions_have_the_same_key(one, other):
    keys = {each: report_key(each) for each in (one, other, one.lower(), one.replace("_", "-"))}
    assert len(set(keys.values())) == len(keys)
    for key in keys.values():
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    # A version that is named like the key of another one has another key.
    copy = keys[one].removeprefix("training-")
    assert not is_version(copy) or copy == one or report_key(copy) != keys[one]


# --- Reports -------------------------------------------------------------------------------------


def test_the_report_of_a_hostile_config_has_no_other_link_image_or_html(hostile):
    training_pipeline(hostile, "model_v1")
    html, targets, text = elements(artifact(KEY))
    assert html == set()
    assert [target for target in targets if not target.startswith("/artifacts/artifact/")] == []
    assert len(targets) == 1
    assert f"{HOSTILE} trained on dataset_v1. All models" in text
    assert f"\n{hostile}, sha256 " in text


def test_the_commands_of_a_report_quote_the_path_and_name_another_root(hostile):
    Path("artifacts").rename("other root")
    training_pipeline(hostile, "model_v1", "other root")
    page = artifact(KEY)
    assert (
        "    prefect deployment run 'training-pipeline/train' \\\n"
        "        -p 'training_config_path=x$(touch M)|`'\\&'lt; ![x](http:::e.example) .yaml'"
        " -p model_version=model_v1 \\\n"
        "        -p 'artifacts_dir=other root'\n"
    ) in page
    assert "`llm-train verify model_v1 --artifacts-dir 'other root'`." in page


def test_the_reports_of_a_sweep_have_no_other_link_image_or_html(hostile):
    Path("<b>.yaml").write_text('__x__: 1\n"[a](b)": 2\n')
    training_sweep([hostile.replace("[", "[[]"), "<b>.yaml"], return_state=True)
    html, targets, text = elements(artifact("sweep"))
    assert html == {"<br>"}
    [report, table] = targets  # this parser refuses the chart
    assert report.startswith("/artifacts/key/training-x-http")
    assert table == f"/artifacts/artifact/{newest_artifact('sweep-leaderboard').id}"
    assert HOSTILE in text
    assert "<b>.yaml:1: unknown key '__x__'" in text
    [row] = json.loads(artifact("sweep-leaderboard"))
    assert elements(row["model"])[0] == set()
    html, targets, text = elements(newest_artifact("sweep-leaderboard").description)
    assert (html, targets) == (set(), [])
    assert HOSTILE in text


def test_a_long_version_is_shortened_in_links_and_is_their_title():
    version = "meta-llama-Llama-3.1-8B-Instruct-dataset_v1-b573ac817c32"
    assert report_link(version) == (
        f'[meta-llama-Llama-3.1-…b573ac817c32](/artifacts/key/{report_key(version)} "{version}")'
    )


# --- The table of all models ---------------------------------------------------------------------


def test_the_link_of_the_table_of_models_stays_the_same_and_shows_the_newest(project):
    publish = flow(lambda: publish_models(Artifacts.open()), name="publish")
    run_training_pipeline("config.yaml", "model_v1")
    link = publish()
    run_training_pipeline("config.yaml", "model_v2")
    assert publish() == link == f"/artifacts/artifact/{newest_artifact('models').id}"
    assert [row["model"].partition("]")[0] for row in json.loads(artifact("models"))] == [
        "[model_v2",
        "[model_v1",
    ]


def test_a_fully_cached_run_leaves_the_table_of_models_and_fills_an_empty_one(project):
    training_pipeline("config.yaml", "model_v1")
    written = newest_artifact("models")
    assert "model_v1" in written.data
    training_pipeline("config.yaml", "model_v1")
    assert newest_artifact("models") == written
    with get_client(sync_client=True) as client:
        client.update_artifact(written.id, ArtifactUpdate(data="[]"))
    training_pipeline("config.yaml", "model_v1")
    assert newest_artifact("models").data == written.data


def test_base_models_that_differ_are_shown_below_the_versions(project):
    run_training_pipeline("config.yaml", "model_v1")
    Path("two.yaml").write_text(CONFIG.replace("mistral-7b", "org/other"))
    run_training_pipeline("two.yaml", "model_v2")
    newest, oldest = models_table()
    assert newest["model"].endswith(")<br>org/other")
    assert oldest["model"] == f"[model_v1](/artifacts/key/{KEY})<br>mistral-7b"
    assert "dataset_version dataset_v1" in newest_artifact("models").description
    assert "base_model" not in newest_artifact("models").description


def models_table() -> list[dict]:
    """Return the rows of the table of all models, with the metrics of `model_v1`."""
    flow(lambda: publish_models(Artifacts.open()), name="publish")()
    return json.loads(artifact("models"))


def write_metrics(metrics: object) -> None:
    path = Path("artifacts/evaluations/model_v1/evaluation.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": metrics}))


@pytest.mark.parametrize("metrics", ["text", [1], 5, None, True])
def test_metrics_that_are_no_object_are_left_out_of_the_table(project, metrics):
    run_training_pipeline("config.yaml", "model_v1")
    write_metrics(metrics)
    [row] = models_table()
    assert list(row) == [
        "model",
        "learning_rate",
        "epochs",
        "batch_size",
        "base_model",
        "dataset",
        "samples",
    ]


def test_a_metric_that_is_no_number_is_text_and_replaces_no_other_column(project):
    run_training_pipeline("config.yaml", "model_v1")
    write_metrics(
        {
            "quality_score": "<b>[good](http://e)</b>",
            "latency_ms": 10**400,
            "cost_per_1k_tokens": True,
            "model_version": "[other](/artifacts/key/other)",
            "base_model": "other",
            "nothing": None,
            "accuracy": 0.5,
        }
    )
    [row] = models_table()
    assert row["model"] == f"[model_v1](/artifacts/key/{KEY})"
    assert row["quality"] == "`<b>[good](http://e)</b>`"
    assert row["cost_per_1k"] == "true"
    caption = newest_artifact("models").description
    assert caption.startswith("All models, the newest first. The same in every row: ")
    assert "base_model mistral-7b" in caption
    assert "base_model other" not in caption
    assert f"latency_ms 1{'0' * 400}" in caption


def test_a_sweep_without_finite_metrics_has_a_report_without_a_chart():
    row = {
        "model_version": "model_v1",
        "quality_score": "good",
        "latency_ms": 10**400,
        "base_model": "mistral-7b",
        "cached": True,
    }
    summary = {"leaderboard": [row], "failed": [], "configs": 1, "cached": 1}
    page = sweep_report(summary, 1.0, "/artifacts/1")
    assert "| good |" in page
    assert f"| 1{'0' * 20}…{'0' * 12} |" in page
    assert "data:image" not in page
