"""TRL's SFTTrainer as a trainer: LoRA on a base model in a folder; see docs/training.md."""

import json
import os
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

run = json.loads(Path(os.environ["LLM_TRAIN_RUN"]).read_bytes())
config, options, folder = run["config"], run["options"], Path(run["checkpoints"])
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)
set_seed(run["seed"])


class PipelineCallback(TrainerCallback):
    def on_log(self, args, state, control, logs, **_):
        if "loss" in logs:  # a line with a step is a point of the history
            print(json.dumps({"step": state.global_step, "loss": logs["loss"]}), flush=True)

    def on_save(self, args, state, control, **_):  # all its files are written: mark it as complete
        os.sync()
        (folder / f"checkpoint-{state.global_step}/complete").touch()


rows = map(json.loads, Path(run["dataset"]).read_text().splitlines())
settings = {
    "num_train_epochs": config["epochs"],
    "per_device_train_batch_size": config["batch_size"],
    "learning_rate": config["learning_rate"],
    "seed": run["seed"],
    "logging_steps": 1,
    "report_to": [],
    "disable_tqdm": True,
    "save_total_limit": 2,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
}
trainer = SFTTrainer(
    config["base_model"],
    SFTConfig(str(folder), **settings, **options),
    train_dataset=Dataset.from_list([{"text": f"{r['input']}\n{r['output']}"} for r in rows]),
    peft_config=LoraConfig(r=8, target_modules=["q_proj", "v_proj"]),
    callbacks=[PipelineCallback()],
)
trainer.remove_callback(PrinterCallback)
marks = folder.glob("checkpoint-*/complete")
last = max(marks, key=lambda mark: int(mark.parent.name.split("-")[1]), default=None)
trainer.train(resume_from_checkpoint=str(last.parent) if last else None)
trainer.model.save_pretrained(run["output"])
