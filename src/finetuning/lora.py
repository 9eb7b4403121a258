"""The trainer `lora`: low-rank adaptation (LoRA) of a causal language model.

The model learns the completion of each line of the data, given its prompt. It uses transformers and
peft; see docs/training.md for the options. The same inputs give the same bytes, even if the
training was killed and continued.
"""

import json
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from shutil import copyfile
from typing import Any

from src.finetuning.base_model import BaseModel
from src.finetuning.checkpoints import checkpoint_step, last_checkpoint, mark_complete
from src.finetuning.language_model import (
    FINETUNING_FILE,
    OPTIONS_OF_EVALUATION,
    SAFETENSORS_FILE,
    batch_of,
    encode_samples,
    faults_end_the_process,
    load_base_model,
    load_tokenizer,
    padding_token,
    prepare_libraries,
)
from src.finetuning.options import check_module_names, run_settings, trainer_options
from src.finetuning.samples import EncodedSample, Template, read_samples
from src.training.contract import TrainingRun

__all__ = ["train"]

MAX_SEED = 2**32 - 1  # of numpy
CONFIG_FILE = "adapter_config.json"
SETS = ("exclude_modules", "modules_to_save", "target_modules")
"""Keys of that file which are sets for peft; it writes them in the order of their hashes."""


def train(run: TrainingRun) -> None:
    """Train an adapter.

    Afterwards `run.output` has the adapter in the format of peft, its tokenizer, and
    finetuning.json, which `held-out-loss` reads.

    Raises:
        SystemExit: The data, the base model, the seed or a setting is not valid.
    """
    with faults_end_the_process():
        settings = run_settings(run.settings)
        if run.seed > MAX_SEED:
            raise ValueError(f"seed: expected at most {MAX_SEED:,}, found {run.seed:,}.")
        base_model = _base_model(run.config.base_model, run.options)
        device = prepare_libraries(**settings)
        tokenizer = load_tokenizer(base_model.folder())
        encoded = _training_samples(run, tokenizer)
    steps = run.config.epochs * ceil(len(encoded) / run.config.batch_size)
    steps = min(steps, run.options["max_steps"] or steps)
    checkpoint = last_checkpoint(run.checkpoints)
    if checkpoint is None or checkpoint_step(checkpoint) < steps:
        _train(run, base_model, encoded, steps, device, padding_token(tokenizer), checkpoint)
        checkpoint = last_checkpoint(run.checkpoints)
    assert checkpoint is not None  # noqa: S101  # saved after the last step
    _write_adapter(run, checkpoint, base_model)
    tokenizer.save_pretrained(run.output)


def _training_samples(run: TrainingRun, tokenizer: Any) -> list[EncodedSample]:
    """Return the tokens of the lines that are not held out.

    Raises:
        ValueError: A line is not valid, also one that is held out, as the evaluator would find it
            only after the training; or no line is left.
    """
    samples = list(
        read_samples(
            Path(run.dataset.path),
            prompt=Template(run.options["prompt"]),
            completion=Template(run.options["completion"]),
            held_out=run.options["held_out"],
        )
    )
    encoded = encode_samples(
        samples, tokenizer, max_length=run.options["max_length"], source=run.dataset.path
    )
    found = [each for each, sample in zip(encoded, samples, strict=True) if not sample.is_held_out]
    if not found:
        raise ValueError(
            f"{run.dataset.path}: all {run.dataset.num_samples:,} lines are held out, so none is "
            "left to train on. Use more data, or lower `held_out`."
        )
    return found


def _write_adapter(run: TrainingRun, checkpoint: Path, base_model: BaseModel) -> None:
    """Write the adapter of a checkpoint, and what it was trained with."""
    copyfile(checkpoint / SAFETENSORS_FILE, run.output / SAFETENSORS_FILE)
    config = json.loads((checkpoint / CONFIG_FILE).read_bytes())
    # peft writes the path of the loaded files, which can be that of the hub's cache.
    config |= {"base_model_name_or_path": base_model.name, "revision": base_model.revision}
    for name in SETS:
        if isinstance(config.get(name), list):
            config[name].sort()
    _write_json(run.output / CONFIG_FILE, config)
    finetuning = {
        "base_model": {
            "name": base_model.name,
            "revision": base_model.revision,
            "files": base_model.files(),
        },
        "dataset_sha256": run.dataset.sha256,
    }
    finetuning |= {name: run.options[name] for name in OPTIONS_OF_EVALUATION}
    _write_json(run.output / FINETUNING_FILE, finetuning)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _base_model(name: str, options: Mapping[str, Any]) -> BaseModel:
    return BaseModel(name=options["model"] or name, revision=options["revision"])


def _base_model_folder(config: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return str(_base_model(config["base_model"], options).folder())


def _train(
    run: TrainingRun,
    base_model: BaseModel,
    samples: Sequence[EncodedSample],
    steps: int,
    device: str,
    padding: int,
    checkpoint: Path | None,
) -> None:
    """Train until the last step; afterwards its checkpoint is in `run.checkpoints`."""
    from peft import LoraConfig, get_peft_model
    from transformers import (
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    options = run.options
    set_seed(run.seed)  # before the adapter is created, as its weights are random
    model = load_base_model(base_model, options["dtype"])
    with faults_end_the_process():
        check_module_names(options, [name for name, _ in model.named_modules()])
    model.config.use_cache = False
    model = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=options["rank"],
            lora_alpha=options["alpha"],
            lora_dropout=options["dropout"],
            target_modules=options["target_modules"],
            modules_to_save=options["modules_to_save"] or None,
        ),
    )

    class LineTrainer(Trainer):  # type: ignore[misc]  # its package is not installed here
        """A trainer that keeps the lines and the loss of its last batch."""

        lines: Sequence[int] = ()
        loss = 0.0

        def training_step(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
            self.lines = inputs.pop("lines").tolist()
            loss = super().training_step(model, inputs, *arguments, **named)
            self.loss = loss.item()
            return loss

    class Recorder(TrainerCallback):  # type: ignore[misc]
        """Logs each step, and marks each checkpoint."""

        def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
            run.log(state.global_step, loss=trainer.loss, lines=trainer.lines, total_steps=steps)
            control.should_save |= state.global_step == steps

        def on_save(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            mark_complete(run.checkpoints / f"checkpoint-{state.global_step}")

    def collate(batch: Sequence[EncodedSample]) -> dict[str, Any]:
        import torch

        return {**batch_of(batch, padding), "lines": torch.tensor([each.line for each in batch])}

    arguments = TrainingArguments(
        output_dir=str(run.checkpoints),
        max_steps=steps,
        per_device_train_batch_size=run.config.batch_size,
        learning_rate=run.config.learning_rate,
        save_strategy="steps",  # with "epoch", random numbers are not restored
        save_steps=options["save_steps"],
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=run.seed,
        data_seed=run.seed,
        use_cpu=device == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # otherwise each step takes a batch on every GPU
    trainer = LineTrainer(
        model, arguments, data_collator=collate, train_dataset=samples, callbacks=[Recorder()]
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def _code(*names: str) -> list[str]:
    return [str(Path(__file__).with_name(name)) for name in names]


train.check_options = trainer_options  # type: ignore[attr-defined]
train.base_model = _base_model_folder  # type: ignore[attr-defined]
train.code = _code(  # type: ignore[attr-defined]
    "base_model.py", "checkpoints.py", "language_model.py", "options.py", "samples.py"
)
