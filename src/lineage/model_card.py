"""The model card of an exported model: README.md with the metadata that the hub reads."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from src.components.component import SIMULATED
from src.digest import Digest
from src.evaluation.measuring import recorded_evaluator
from src.records.evaluation import is_metric
from src.records.statement import Statement
from src.rendering import markdown, shell
from src.rendering.front_matter import front_matter
from src.rendering.markdown import Markdown, code, text
from src.rendering.text import as_text
from src.training.trained import Training

__all__ = ["Exported", "is_hub_id", "model_card"]

TAG = "llm-training-pipeline"
ADAPTER_CONFIG = "adapter_config.json"
# The rule of `huggingface_hub.utils.validate_repo_id`, which a test compares.
_PART = r"\w(?:[\w.-]{0,94}\w)?"
_HUB_ID = re.compile(rf"(?:{_PART}/)?{_PART}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The contents of an export: the record of the model, and the files.

    Attributes:
        metadata: The contents of its metadata.json.
        statement: Its statement.
        training: Its training.
        evaluation: The contents of its evaluation.json; `None` if it was not evaluated.
        evaluation_statement: The statement of the evaluation.
        weights: The paths of the weights in the export.
        files: Size and SHA-256 by path of all files of the export, without the model card.
        record: The folder of the record in the export.
        is_local: Whether the base model is a folder or file of this host, rather than of the hub.
    """

    metadata: Mapping[str, Any]
    statement: Statement
    training: Training
    evaluation: Mapping[str, Any] | None
    evaluation_statement: Statement | None
    weights: tuple[str, ...]
    files: Mapping[str, Digest]
    record: str
    is_local: bool

    @property
    def sums(self) -> str:
        """The path of the list of digests in the export."""
        return f"{self.record}/SHA256SUMS"

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by name; empty if it was not evaluated, or by the simulated evaluator."""
        metrics = (self.evaluation or {}).get("metrics")
        if self.evaluator == SIMULATED or not isinstance(metrics, dict):
            return {}
        return {name: value for name, value in metrics.items() if is_metric(value)}

    @property
    def evaluator(self) -> str:
        """The name of the evaluator; empty without an evaluation."""
        if self.evaluation_statement is None:
            return ""
        identity = recorded_evaluator(self.evaluation_statement)
        return as_text(identity.get("use") if isinstance(identity, dict) else identity)

    @property
    def evaluation_dataset(self) -> str:
        """The dataset version that the model was measured on."""
        statement = self.evaluation_statement
        dataset = statement.dependency("evaluation dataset") if statement else None
        return (dataset and dataset.uri) or str(self.metadata["dataset_version"])


def is_hub_id(name: str) -> bool:
    """Return whether a name can be that of a repository of the Hugging Face hub."""
    is_refused = "--" in name or ".." in name or name.endswith(".git")
    return _HUB_ID.fullmatch(name) is not None and not is_refused


def model_card(model: Exported) -> str:
    """Render the README.md of an exported model."""
    version, base_model = model.metadata["model_version"], model.metadata["base_model"]
    dataset, samples = model.metadata["dataset_version"], model.metadata["num_training_samples"]
    inputs = markdown.table(("input", "value"), [(name, code(v)) for name, v in _inputs(model)])
    facts = [(name, code(value)) for name, value in _environment(model)]
    files = [(code(name), each.size, code(each.sha256)) for name, each in model.files.items()]
    return (
        front_matter(_metadata(model))
        + f"""
# {text(version)}

{code(base_model)}, trained on {code(dataset)} ({samples:,} samples) by the trainer \
{code(model.training.trainer.get("use"))}.
{_held_out(model)}{_evaluation(model)}{_use(model)}
## Inputs

{inputs}
## Environment

{markdown.table(("fact", "value"), facts)}
## Files

{markdown.table(("file", "bytes", "sha256"), files)}
The folder {code(model.record)} has the record of the model: metadata, history and evaluation, and
the statements about them (in-toto with SLSA provenance). The statements are not signed: a person
who can change the files can change the statements, too.

## Verify

Check in this folder that each of these files has its digest:

{markdown.code_block(f"sha256sum --check {shell.quote(model.sums)}")}
In the project that trained the model, find the model of a file, and verify its record (DIR is this
folder):

{markdown.code_block(_commands(model, version))}"""
    )


def _held_out(model: Exported) -> str:
    """Return that lines were held out, if the trainer has an option of this name, as `lora` has."""
    fraction = model.training.options.get("held_out")
    if not is_metric(fraction) or not fraction:
        return ""
    return f"Of these samples, a fraction of {fraction:g} was held out and not trained on.\n"


def _use(model: Exported) -> str:
    """Return how to load an adapter; empty for other weights."""
    if ADAPTER_CONFIG not in model.weights:
        return ""
    prompt = "\nPrompts have the form of the trainer's option `prompt`, see below.\n"
    return f"""
## Use

An adapter is loaded with its base model, which is not in this folder. DIR is this folder, and
`adapter_config.json` has the name of the base model:

    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained("DIR")
{prompt if "prompt" in model.training.options else ""}"""


def _commands(model: Exported, version: str) -> str:
    largest = max(model.weights, key=lambda name: model.files[name].size)
    trace = f"llm-train trace --file {shell.quote(f'DIR/{largest}')}"
    return f"{trace}\nllm-train verify {shell.quote(version)}"


def _metadata(model: Exported) -> dict[str, Any]:
    """Return the front matter: what the hub reads."""
    base_model, dataset = model.metadata["base_model"], model.metadata["dataset_version"]
    values: dict[str, Any] = {}
    if is_hub_id(base_model) and not model.is_local:
        values["base_model"] = base_model
    if is_hub_id(dataset):
        values["datasets"] = [dataset]
    if ADAPTER_CONFIG in model.weights:
        values["library_name"] = "peft"
    values["tags"] = [TAG]
    if model.metrics:
        values["model-index"] = [_results(model)]
    return values


def _results(model: Exported) -> dict[str, Any]:
    """Return the metrics in the form of the hub; their source is the evaluator."""
    dataset, evaluator = model.evaluation_dataset, model.evaluator
    result = {
        "task": {"type": "text-generation"},
        "dataset": {"name": dataset, "type": dataset},
        "metrics": [
            {"type": name, "name": name, "value": value} for name, value in model.metrics.items()
        ],
        # The hub requires a URL. A URN is one, and cannot be the address of a page.
        "source": {"name": evaluator, "url": f"urn:{TAG}:evaluator:{quote(evaluator, safe='')}"},
    }
    return {"name": model.metadata["model_version"], "results": [result]}


def _evaluation(model: Exported) -> Markdown:
    if not model.metrics:
        is_simulated = " The numbers in its record are simulated." if model.evaluation else ""
        return Markdown(f"\nIt was not evaluated.{is_simulated}\n")
    table = markdown.table(("metric", "value"), model.metrics.items())
    return Markdown(f"""
## Evaluation

Measured by the evaluator {code(model.evaluator)} on {code(model.evaluation_dataset)}.

{table}""")


def _inputs(model: Exported) -> Iterator[tuple[str, object]]:
    """Yield the inputs of the training: name and value."""
    statement, training = model.statement, model.training
    yield from model.metadata["training_config"].items()
    if (config := statement.dependency("config")) is not None:
        yield "config", config.uri
        yield "config sha256", statement.digest("config")
    yield "data sha256", statement.digest("dataset")
    for name, value in training.trainer.items():
        if name not in ("code", "options"):
            yield f"trainer {name}", value
    for name, value in training.options.items():
        yield f"trainer option {name}", value
    yield "trainer code sha256", statement.digest("trainer")
    if training.base_model:
        yield "base model sha256", statement.digest("base model")
    for name, each in training.base_model.items():
        yield f"base model {name} sha256", each.sha256
    yield "pipeline commit", statement.digest("code", "gitCommit")
    yield "pipeline core sha256", statement.digest("core")


def _environment(model: Exported) -> Iterator[tuple[str, object]]:
    """Yield what is recorded about the environment of the training: name and value."""
    statement = model.statement
    yield from model.training.environment.items()
    yield "pipeline python", statement.annotations("python").get("version")
    yield "pipeline packages, listed in its record", len(statement.annotations("packages"))
    yield "started", statement.started_on
    yield "finished", statement.finished_on
