"""Language models in PyTorch, and what the adapter of one was trained with.

Imports torch, transformers and peft only in functions, as they are not in the environment of the
pipeline.
"""

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from src.finetuning.base_model import BaseModel
from src.finetuning.samples import EncodedSample, Sample, encode_sample

__all__ = [
    "FINETUNING_FILE",
    "IGNORED",
    "OPTIONS_OF_EVALUATION",
    "SAFETENSORS_FILE",
    "batch_of",
    "encode_samples",
    "faults_end_the_process",
    "load_base_model",
    "load_tokenizer",
    "padding_token",
    "prepare_libraries",
    "read_finetuning",
]

FINETUNING_FILE = "finetuning.json"
SAFETENSORS_FILE = "adapter_model.safetensors"
OPTIONS_OF_EVALUATION = ("prompt", "completion", "max_length", "held_out", "dtype")
"""What `held-out-loss` takes from the model, so that both cannot differ."""
IGNORED = -100  # the label of a token that does not count in the loss


@contextmanager
def faults_end_the_process() -> Iterator[None]:
    """Print a `ValueError` without a traceback: its message says what is not valid."""
    try:
        yield
    except ValueError as error:
        raise SystemExit(str(error)) from None


def prepare_libraries(*, threads: int, device: str | None) -> str:
    """Make the libraries offline, quiet and deterministic; call it before their first import.

    Args:
        threads: Number of threads of torch, and of OpenMP if its variable is not set.
        device: `cpu` or `cuda`; `None` for a GPU if there is one.

    Returns:
        The device to use: `cpu` or `cuda`.

    Raises:
        ValueError: There is no such device, or the libraries are not installed.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else not deterministic
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    warnings.simplefilter("ignore", FutureWarning)  # addressed to the authors of libraries
    try:
        import torch
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise ValueError(
            f"{sys.executable}: {error}. Set `python: .venv-train/bin/python` in the config; "
            "`make train-env` creates it."
        ) from error
    disable_progress_bar()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ValueError("run.device: expected a GPU for 'cuda', found none. Write `device: cpu`.")
    return device or ("cuda" if has_gpu else "cpu")


def load_base_model(base_model: BaseModel, dtype: str) -> Any:
    """Load the weights of a base model: from safetensors files alone, and without its code."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        base_model.folder(),
        dtype=getattr(torch, dtype),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer in a folder.

    Raises:
        ValueError: It has no token that ends a text.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{folder}: its tokenizer has no token that ends a text (eos_token).")
    return tokenizer


def encode_samples(
    samples: Sequence[Sample], tokenizer: Any, *, max_length: int, source: str
) -> list[EncodedSample]:
    """Return the tokens of samples; print how many were cut off.

    Raises:
        ValueError: See `encode_sample`; names `source`, the file of the samples.
    """

    def encode(text: str, is_start: bool) -> list[int]:
        return list(tokenizer(text, add_special_tokens=is_start, verbose=False)["input_ids"])

    end = tokenizer.eos_token_id
    try:
        encoded = [encode_sample(each, encode, end=end, max_length=max_length) for each in samples]
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    cut = sum(each.is_cut for each in encoded)
    if cut:
        print(  # noqa: T201  # the log of the run
            f"{source}: {cut:,} of {len(encoded):,} samples are longer than max_length "
            f"{max_length:,} and were cut off."
        )
    return encoded


def batch_of(samples: Sequence[EncodedSample], padding: int) -> dict[str, Any]:
    """Return samples as tensors: input_ids, attention_mask and labels, one row per sample.

    Short samples are filled up with the token `padding`. It and the tokens of prompts have the
    label `IGNORED`.
    """
    import torch

    width = max(len(each.tokens) for each in samples)

    def padded(values: Sequence[int], filler: int) -> list[int]:
        return [*values, *[filler] * (width - len(values))]

    labels = [
        [IGNORED] * each.prompt_length + list(each.tokens[each.prompt_length :]) for each in samples
    ]
    return {
        "input_ids": torch.tensor([padded(each.tokens, padding) for each in samples]),
        "attention_mask": torch.tensor([padded([1] * len(each.tokens), 0) for each in samples]),
        "labels": torch.tensor([padded(each, IGNORED) for each in labels]),
    }


def padding_token(tokenizer: Any) -> int:
    """Return the token that fills short samples of a batch; the model does not see it."""
    padding = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if padding is None else padding)


def read_finetuning(folder: Path | None) -> Mapping[str, Any]:
    """Read what the adapter in a folder was trained with.

    Raises:
        ValueError: The folder is not that of a model which `lora` trained.
    """
    if folder is not None and (folder / SAFETENSORS_FILE).is_file():
        with suppress(OSError, ValueError):
            values = json.loads((folder / FINETUNING_FILE).read_bytes())
            if isinstance(values, dict) and values.keys() >= {
                "base_model",
                "dataset_sha256",
                *OPTIONS_OF_EVALUATION,
            }:
                return values
    found = "a model without weights" if folder is None else str(folder)
    raise ValueError(
        f"held-out-loss: expected a model that the trainer `lora` has trained, with "
        f"{SAFETENSORS_FILE} and {FINETUNING_FILE}, found {found}."
    )
