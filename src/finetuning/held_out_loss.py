"""The evaluator `held-out-loss`: the loss of an adapter on lines that it was not trained on."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.evaluation.contract import EvaluationRun
from src.finetuning.base_model import BaseModel
from src.finetuning.language_model import (
    IGNORED,
    batch_of,
    encode_samples,
    faults_end_the_process,
    load_base_model,
    load_tokenizer,
    padding_token,
    prepare_libraries,
    read_finetuning,
)
from src.finetuning.options import evaluator_options, run_settings
from src.finetuning.samples import EncodedSample, Sample, Template, read_samples

__all__ = ["evaluate"]

MAX_LOSS = 700.0  # exp() of more is not finite


def evaluate(run: EvaluationRun) -> dict[str, float]:
    """Measure an adapter on its held-out lines, or on all lines of another dataset version.

    Returns:
        Losses in nats per token of the completions, `latency_ms` in milliseconds per line,
        `cost_per_1k_tokens` in US dollars, and the others as docs/training.md lists them.

    Raises:
        SystemExit: The model is not one of `lora`, its base model was changed, or no line is
            held out.
    """
    with faults_end_the_process():
        settings = run_settings(run.settings)
        finetuning = read_finetuning(run.model)
        base_model = BaseModel(
            name=finetuning["base_model"]["name"], revision=finetuning["base_model"]["revision"]
        )
        base_model.check_files(finetuning["base_model"]["files"])
        samples = _samples(run, finetuning)
        device = prepare_libraries(**settings)
        assert run.model is not None  # noqa: S101  # see read_finetuning
        tokenizer = load_tokenizer(run.model)
        encoded = encode_samples(
            samples, tokenizer, max_length=finetuning["max_length"], source=run.dataset.path
        )
    from peft import PeftModel
    from torch import inference_mode

    base = load_base_model(base_model, finetuning["dtype"])
    model = PeftModel.from_pretrained(base, str(run.model), use_safetensors=True).to(device)
    model.eval()
    size, padding = run.options["batch_size"], padding_token(tokenizer)
    batches = [
        {name: tensor.to(device) for name, tensor in batch_of(part, padding).items()}
        for part in _parts(encoded, size)
    ]
    with inference_mode():
        start = time.perf_counter()
        adapted = _scores(model, batches)
        seconds = time.perf_counter() - start
        with model.disable_adapter():
            base_loss = _scores(model, batches).loss
    return {
        "loss": adapted.loss,
        "base_loss": base_loss,
        "perplexity": math.exp(min(adapted.loss, MAX_LOSS)),
        "exact_match": adapted.exact / len(encoded),
        "quality_score": math.exp(-adapted.loss),
        "latency_ms": 1000 * seconds / len(encoded),
        "cost_per_1k_tokens": run.options["price_per_million_tokens"] / 1000,
        "tokens": adapted.tokens,
    }


def _samples(run: EvaluationRun, finetuning: Mapping[str, Any]) -> list[Sample]:
    """Return the samples to measure on: those held out, or all of other data.

    Other lines can have the same prompt and completion as one that is held out, e.g. under another
    id. If one of them was trained on, the line is left out.
    """
    is_training_data = run.dataset.sha256 == finetuning["dataset_sha256"]
    samples = read_samples(
        Path(run.dataset.path),
        prompt=Template(finetuning["prompt"]),
        completion=Template(finetuning["completion"]),
        held_out=finetuning["held_out"],
    )
    held_out, trained = [], set()
    for each in samples:
        if each.is_held_out or not is_training_data:
            held_out.append(each)
        else:
            trained.add((each.prompt, each.completion))
    found = [each for each in held_out if (each.prompt, each.completion) not in trained]
    if left_out := len(held_out) - len(found):
        print(  # noqa: T201  # the log of the run
            f"{run.dataset.path}: {left_out:,} of {len(held_out):,} held-out samples were left "
            "out, because the same prompt and completion were trained on in another line."
        )
    if not found:
        fraction = finetuning["held_out"]
        raise ValueError(
            f"{run.dataset.path}: the model was trained on all of its lines (`held_out: "
            f"{fraction:g}`), so none is left to measure on. Raise `held_out` of the trainer, or "
            "set `dataset_version` of the evaluator to other data."
        )
    return found


def _parts(samples: Sequence[EncodedSample], size: int) -> list[Sequence[EncodedSample]]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


@dataclass(frozen=True, slots=True)
class _Scores:
    """The scores of a model on all batches.

    Attributes:
        loss: The mean over the tokens of the completions, in nats.
        tokens: The number of these tokens.
        exact: The number of completions that greedy decoding writes exactly.
    """

    loss: float
    tokens: int
    exact: int


def _scores(model: Any, batches: Sequence[Mapping[str, Any]]) -> _Scores:
    from torch.nn.functional import cross_entropy

    total, tokens, exact = 0.0, 0, 0
    for batch in batches:
        labels = batch["labels"][:, 1:]  # the logits of a token are a prediction of the next one
        is_scored = labels != IGNORED
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits = model(**inputs).logits[:, :-1].float()
        losses = cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        total += losses.double().sum().item()
        tokens += int(is_scored.sum().item())
        # The model writes exactly this completion if each of its tokens is the most likely one.
        is_right = (logits.argmax(-1) == labels) | ~is_scored
        exact += int(is_right.all(dim=1).sum().item())
    return _Scores(total / tokens, tokens, exact)


def _code(*names: str) -> list[str]:
    return [str(Path(__file__).with_name(name)) for name in names]


evaluate.check_options = evaluator_options  # type: ignore[attr-defined]
evaluate.measured = ("latency_ms",)  # type: ignore[attr-defined]
# Sweeps rank by all metrics that are declared here, in the order of their names.
evaluate.better = {"loss": "lower"}  # type: ignore[attr-defined]
evaluate.code = _code(  # type: ignore[attr-defined]
    "base_model.py", "language_model.py", "options.py", "samples.py"
)
