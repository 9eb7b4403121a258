"""Speed of the trainer `lora` under this project, compared with the same loop alone.

    make train CONFIG=configs/training/smollm2_lora.yaml  # creates environment and base model
    python -m benchmarks.lora [--config FILE] [--steps 12] [--rounds 3]

Alone, a script trains the same adapter with transformers and peft, on the same lines, and reports
nothing. The time is that from the first step to the last one.
"""

import argparse
import json
import shutil
import sys

import yaml

from benchmarks.measure import ROOT, Row, environment, report, run, run_in_turns, working_folder

PYTHON = ROOT / ".venv-train/bin/python"
ALONE, OURS = "transformers and peft alone", "trainer `lora`, through `train_weights`"
SCRIPT = """
import json, sys, time
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback
from transformers import TrainingArguments, set_seed

config, steps = json.loads(sys.argv[1]), int(sys.argv[2])
options = config["trainer"]["options"]
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
set_seed(config["trainer"]["seed"])
tokenizer = AutoTokenizer.from_pretrained(config["base_model"])
model = get_peft_model(
    AutoModelForCausalLM.from_pretrained(config["base_model"], dtype=torch.float32),
    LoraConfig(
        task_type="CAUSAL_LM", r=options["rank"], lora_alpha=options["alpha"],
        lora_dropout=options.get("dropout", 0.0), target_modules=options.get("target_modules"),
        modules_to_save=options.get("modules_to_save"),
    ),
)
lines = map(json.loads, open("artifacts/datasets/dataset_v1/data.jsonl"))
samples = []
for line in lines:
    prompt = tokenizer(options["prompt"].format(**line))["input_ids"]
    answer = tokenizer(options["completion"].format(**line), add_special_tokens=False)["input_ids"]
    tokens = [*prompt, *answer, tokenizer.eos_token_id]
    samples.append((tokens, len(prompt)))

def collate(batch):
    width = max(len(tokens) for tokens, _ in batch)
    fill = lambda values, filler: values + [filler] * (width - len(values))
    return {
        "input_ids": torch.tensor([fill(t, tokenizer.eos_token_id) for t, _ in batch]),
        "attention_mask": torch.tensor([fill([1] * len(t), 0) for t, _ in batch]),
        "labels": torch.tensor([fill([-100] * n + t[n:], -100) for t, n in batch]),
    }

class Clock(TrainerCallback):
    times = []
    def on_step_end(self, *_, **__):
        self.times.append(time.perf_counter())

Trainer(
    model,
    TrainingArguments(
        "checkpoints", max_steps=steps, per_device_train_batch_size=config["batch_size"],
        learning_rate=float(config["learning_rate"]), save_strategy="no", logging_strategy="no",
        report_to=[], disable_tqdm=True, seed=1, data_seed=1, use_cpu=True,
        remove_unused_columns=False, dataloader_pin_memory=False,
    ),
    data_collator=collate, train_dataset=samples, callbacks=[Clock()],
).train()
print(json.dumps((steps - 1) / (Clock.times[-1] - Clock.times[0])))
"""
PIPELINE = """
import json, sys, time
from src.storage import open_path
from src.training.config import read_config_file
from src.training.dataset import resolve_dataset
from src.training.trainer import describe_trainer, train_weights

file, times = read_config_file(sys.argv[1]), []
train_weights(
    file,
    resolve_dataset(file.config.dataset_version, "artifacts/datasets"),
    describe_trainer(file),
    "model_" + sys.argv[2],
    open_path("artifacts/models"),
    on_point=lambda _: times.append(time.perf_counter()),
)
print(json.dumps((len(times) - 1) / (times[-1] - times[0])))
"""


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/training/smollm2_lora.yaml")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = yaml.safe_load((ROOT / options.config).read_bytes())
    if not PYTHON.exists() or not (ROOT / config["base_model"]).is_dir():
        print(f"Left out: run `make train CONFIG={options.config}` first.")
        return
    with working_folder() as folder:
        env = environment(folder)
        project = folder / "project"
        shutil.copytree(ROOT / "artifacts/datasets", project / "artifacts/datasets")
        (project / "configs").mkdir()
        (project / ".venv-train").symlink_to(ROOT / ".venv-train")
        (project / "base_models").symlink_to(ROOT / "base_models")
        config["trainer"]["options"] |= {
            "held_out": 0.0,
            "max_steps": options.steps,
            "save_steps": 10 * options.steps,
        }
        path = project / "configs/lora.yaml"
        path.write_text(yaml.safe_dump(config))
        count = iter(range(options.rounds + 1))

        def alone() -> float:
            arguments = [json.dumps(config), str(options.steps)]
            return _rate(run([str(PYTHON), "-c", SCRIPT, *arguments], cwd=project, env=env).stdout)

        def ours() -> float:
            arguments = [str(path), str(next(count))]
            code = [sys.executable, "-c", PIPELINE, *arguments]
            return _rate(run(code, cwd=project, env=env).stdout)

        samples = run_in_turns({ALONE: alone, OURS: ours}, options.rounds)
        rows = [
            Row(name=name, values=samples[name], unit="steps/s", floor=samples[ALONE])
            for name in (ALONE, OURS)
        ]
        report("LoRA", f"{options.config}: {options.steps} steps.", rows, folder=folder)


def _rate(output: str) -> float:
    rate: float = json.loads(output.splitlines()[-1])
    return rate


if __name__ == "__main__":
    main()
