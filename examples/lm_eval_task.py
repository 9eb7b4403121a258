"""EleutherAI's lm-eval as an evaluator, with a local task; see docs/training.md."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

cache = TemporaryDirectory()  # for the data that lm-eval loads
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
os.environ["HF_DATASETS_CACHE"] = cache.name
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM

torch.set_num_threads(1)
run = json.loads(Path(os.environ["LLM_TRAIN_RUN"]).read_bytes())
options, metrics = run["options"], ("bits_per_byte", "byte_perplexity")
task = {
    "task": "data",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": run["dataset"]}},
    "test_split": "test",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{input}}\n{{output}}",
    "metric_list": [{"metric": name} for name in metrics],
}
base_model, device = run["metadata"]["base_model"], "cpu"
model = HFLM(base_model, peft=run["model"], device=device, batch_size=options["batch_size"])
results = simple_evaluate(
    model, tasks=[task], limit=options["limit"], random_seed=run["seed"], bootstrap_iters=0
)
values = {name: results["results"]["data"][f"{name},none"] for name in metrics}
Path(run["output"], "metrics.json").write_text(json.dumps(values))
