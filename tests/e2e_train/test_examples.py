"""The examples: TRL's SFTTrainer as a trainer, and lm-eval as an evaluator."""

import json
import shutil

from tests.conftest import REPOSITORY
from tests.e2e_train.conftest import PYTHON

EXAMPLE = "configs/examples/trl_lm_eval.yaml"


def test_trl_and_lm_eval_train_and_measure_a_model_that_can_be_trained_again(project):
    shutil.copytree(REPOSITORY / "examples", project.folder / "examples")
    (project.folder / "configs/examples").mkdir()
    text = (REPOSITORY / EXAMPLE).read_text().replace(".venv-train/bin/python", str(PYTHON))
    (project.folder / EXAMPLE).write_text(text)
    project.run(EXAMPLE, "trl")
    assert len(project.history("trl")) == 63
    assert "weights/adapter_model.safetensors" in project.model("trl")
    assert sorted(project.metrics("trl")) == ["bits_per_byte", "byte_perplexity"]
    verify = ("verify", "trl", "--retrain", "--reevaluate", "--json")
    [model] = json.loads(project.llm_train(*verify).stdout)
    assert model["verdict"] == "MATCH"
    [training] = [each for each in model["checks"] if each["what"] == "training"]
    assert training["details"][0].startswith("Trained again, with the same result: ")
