import base64
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flows.compare_models import compare_models
from flows.tables import fold
from src.rendering.text import as_text
from src.training.pipeline import run_training_pipeline
from tests.flows.runs import artifact, failure, flow_run
from tests.trainers import trained

SVG = "{http://www.w3.org/2000/svg}"
CIRCLE = f"{SVG}circle"


@pytest.fixture
def models(project):
    run_training_pipeline("config.yaml", "model_v1")
    Path("config.yaml").write_text(
        Path("config.yaml").read_text().replace("epochs: 3", "epochs: 4")
    )
    run_training_pipeline("config.yaml", "model_v2")


def test_the_page_has_a_table_of_the_differences(models):
    comparison = compare_models(["model_v1", "model_v2"])
    assert comparison["models"] == ["model_v1", "model_v2"]
    assert comparison["rows"][0] == {"section": "config", "name": "epochs", "values": [3, 4]}
    page = artifact("comparison")
    assert page.startswith(
        "# Comparison of 2 models\n\n"
        "|  |  | [model_v1](/artifacts/key/training-model-v1--d64be24a37a18742) | "
        "[model_v2](/artifacts/key/training-model-v2--7e0100779fc594a5) |\n"
    )
    assert "| config | epochs | 3 | 4 |\n" in page
    assert "batch_size" not in page


def test_everything_shows_equal_properties_too(models):
    compare_models(["model_v1", "model_v2"], everything=True)
    page = artifact("comparison")
    assert "| config | batch_size | 16 | 16 |\n" in page
    assert "| data | num_training_samples | 20 | 20 |\n" in page


def test_more_than_four_models_are_in_several_tables_that_fit_the_page(models):
    for number in range(3, 8):
        run_training_pipeline("config.yaml", f"model_v{number}")
    compare_models([f"model_v{number}" for number in range(1, 8)], everything=True)
    heads = [line for line in artifact("comparison").splitlines() if line.startswith("|  |  |")]
    assert [line.count("/artifacts/key/") for line in heads] == [4, 3]
    tables = artifact("comparison").replace("<br>", " | ").splitlines()
    digests = [line for line in tables if line.startswith("| data | sha256 | ")]
    assert len(digests) == 2
    assert [len(cell) for cell in digests[0].split(" | ")[2:]] == [12, 12, 12, 14]


def test_the_chart_has_a_point_for_each_model(models):
    compare_models(["model_v1", "model_v2"])
    encoded = artifact("comparison").split("data:image/svg+xml;base64,")[1].split(")")[0]
    drawing = ElementTree.fromstring(base64.b64decode(encoded))
    points = drawing.iter(CIRCLE)
    assert [point[0].text.split(":")[0] for point in points] == ["model_v1", "model_v2"]


def charts(page):
    """Return the texts of each chart of a page."""
    sources = [each.split(")")[0] for each in page.split("data:image/svg+xml;base64,")[1:]]
    roots = [ElementTree.fromstring(base64.b64decode(source)) for source in sources]
    return [[text.text for text in root.iter(f"{SVG}text")] for root in roots]


def test_the_page_of_trained_models_has_one_chart_of_their_losses(models):
    run_training_pipeline(trained(steps=3), "trained_v1")
    run_training_pipeline(trained(steps=4), "trained_v2")
    compare_models(["model_v1", "trained_v1", "trained_v2"])
    page = artifact("comparison")
    assert "| training | loss | - | 0.125 " in page
    assert page.count("![Loss by step](") == 1
    curves, _ = charts(page)
    assert curves[-3:] == ["loss", "trained_v1", "trained_v2"]


def test_the_chart_of_losses_has_at_most_eight_models_and_the_page_says_so(models):
    versions = [f"trained_v{number}" for number in range(9)]
    config = trained(steps=1)
    for version in versions:
        run_training_pipeline(config, version)
    compare_models(versions)
    page = artifact("comparison")
    [curves] = charts(page)
    assert curves[-8:] == versions[:8]
    assert "The losses of the first 8 models of 9 that have any.\n" in page


def test_models_without_evaluations_have_a_page_without_a_chart(models):
    for version in ("model_v1", "model_v2"):
        Path("artifacts/evaluations", version, "evaluation.json").unlink()
    compare_models(["model_v1", "model_v2"])
    page = artifact("comparison")
    assert "| config | epochs | 3 | 4 |\n" in page
    assert "data:image" not in page


def test_the_run_is_named_after_the_models(models):
    state = compare_models(["model_v1", "model_v2"], return_state=True)
    assert flow_run(state.state_details.flow_run_id).name == "compare model_v1 and model_v2"


def test_a_missing_model_fails_the_run_and_the_message_names_it(models):
    assert failure(compare_models, ["model_v1", "model_v9"]) == (
        "artifacts/models: no model 'model_v9'. Nearest: model_v2, model_v1."
    )


def test_a_damaged_file_fails_the_run_and_the_message_names_it(models):
    path = Path("artifacts/evaluations/model_v2/evaluation.json")
    path.write_text("")
    assert failure(compare_models, ["model_v1", "model_v2"]) == (
        f"{path}: line 1, column 1: the file is empty. Left as found."
    )


def test_a_single_model_fails_the_run(models):
    message = failure(compare_models, ["model_v1"])
    assert message == "expected two or more model versions, found 1."


@pytest.mark.parametrize("value", ["good", True, None, 10**400, [1]])
def test_a_model_with_a_metric_that_is_not_a_finite_number_is_not_in_the_chart(models, value):
    path = Path("artifacts/evaluations/model_v2/evaluation.json")
    evaluation = json.loads(path.read_text())
    evaluation["metrics"]["latency_ms"] = value
    path.write_text(json.dumps(evaluation))
    compare_models(["model_v1", "model_v2"])
    page = artifact("comparison")
    encoded = page.split("data:image/svg+xml;base64,")[1].split(")")[0]
    points = ElementTree.fromstring(base64.b64decode(encoded)).iter(CIRCLE)
    assert [point[0].text.split(":")[0] for point in points] == ["model_v1"]
    shown = "-" if value is None else fold(as_text(value), 30)
    assert f"| metrics | latency_ms | 92 | {shown} |\n" in page


def test_text_of_a_record_is_text_on_the_page(models):
    path = Path("artifacts/models/registry.json")
    path.write_text(path.read_text().replace("mistral-7b", "<b> a|b ![x](http://e.example)", 2))
    compare_models(["model_v1", "model_v2"])
    page = artifact("comparison")
    assert "| config | base_model | \\<b> a\\|b `![x](http://e.example)` | mistral-7b |\n" in page
