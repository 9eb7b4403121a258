import base64
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flows.compare_models import compare_models
from src.training.pipeline import run_training_pipeline
from tests.flows.conftest import artifact, failure


@pytest.fixture
def models(project):
    run_training_pipeline("config.yaml", "model_v1")
    Path("config.yaml").write_text(
        Path("config.yaml").read_text().replace("epochs: 3", "epochs: 4")
    )
    run_training_pipeline("config.yaml", "model_v2")


def test_models_are_set_side_by_side_in_a_table_of_their_differences(models):
    comparison = compare_models(["model_v1", "model_v2"])
    assert comparison["models"] == ["model_v1", "model_v2"]
    assert comparison["rows"][0] == {"section": "config", "name": "epochs", "values": [3, 4]}
    page = artifact("comparison")
    assert page.startswith(
        "# [model_v1](/artifacts/key/training-model-v1) and "
        "[model_v2](/artifacts/key/training-model-v2)\n"
    )
    assert "| config | epochs | 3 | 4 |\n" in page
    assert "batch_size" not in page


def test_everything_is_shown_where_asked_for(models):
    compare_models(["model_v1", "model_v2"], everything=True)
    assert "| config | batch_size | 16 | 16 |\n" in artifact("comparison")


def test_the_chart_has_a_point_for_each_model(models):
    compare_models(["model_v1", "model_v2"])
    encoded = artifact("comparison").split("data:image/svg+xml;base64,")[1].split(")")[0]
    drawing = ElementTree.fromstring(base64.b64decode(encoded))
    points = drawing.iter("{http://www.w3.org/2000/svg}circle")
    assert [point[0].text.split(":")[0] for point in points] == ["model_v1", "model_v2"]


def test_a_model_that_is_not_there_is_named(models):
    message = failure(compare_models, ["model_v1", "model_v9"])
    assert "no model 'model_v9'. Nearest: model_v" in message


def test_one_model_alone_is_nothing_to_compare(models):
    message = failure(compare_models, ["model_v1"])
    assert message == "expected two or more model versions, found 1."
