"""The model card, read by huggingface-hub (without a network) and by a parser of Markdown."""

from contextlib import suppress

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from src.digest import Digest
from src.lineage.model_card import Exported, is_hub_id, model_card
from src.records.canonical import canonical_json, parse_json
from src.records.statement import ResolvedDependency, Statement
from src.rendering.text import as_text
from src.training.trained import Training
from tests.strategies import json_values

PARSER = MarkdownIt("commonmark").enable("table")
printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40).filter(
    str.isprintable
)
hostile = st.sampled_from(
    [
        "a|b",
        "`x`",
        "<img src=x>",
        "---",
        "\n---\n",
        "1e5",
        "no",
        "[x](http://e.example)",
        "# a",
        "a: b",
    ]
)
ids = st.text("aA1_-./", max_size=12) | st.text("ab.-/", min_size=90, max_size=200) | printable


def statement(parameters=None, dependencies=()):
    return Statement(
        subject="metadata.json",
        subject_sha256="0" * 64,
        build_type="urn:x",
        parameters=parameters or {},
        dependencies=tuple(dependencies),
        builder="urn:b",
        builder_version={},
        invocation_id="1",
        url=None,
        started_on="2026-11-29T10:00:00.000Z",
        finished_on="2026-11-29T11:00:00.000Z",
    )


def exported(**changes):
    values = {
        "metadata": {
            "model_version": "model_v1",
            "base_model": "org/base",
            "dataset_version": "dataset_v1",
            "num_training_samples": 1000,
            "training_config": {"base_model": "org/base", "epochs": 3},
        },
        "statement": statement(
            dependencies=[
                ResolvedDependency(name="config", uri="c.yaml", digest={"sha256": "c" * 64}),
                ResolvedDependency(name="dataset", digest={"sha256": "d" * 64}),
                ResolvedDependency(name="trainer", digest={"sha256": "e" * 64}),
                ResolvedDependency(name="base model", digest={"sha256": "b" * 64}),
                ResolvedDependency(name="code", digest={"gitCommit": "a" * 40}),
            ]
        ),
        "training": Training(
            trainer={"use": "lora", "seed": 7, "code": "e" * 64, "options": {"rank": 8}},
            base_model={"model.safetensors": Digest(9, "f" * 64)},
            environment={"cpu": "x86"},
        ),
        "evaluation": {"metrics": {"loss": 0.5, "exact_match": 1}},
        "evaluation_statement": statement(
            {"evaluator": {"use": "held-out-loss"}},
            [ResolvedDependency(name="evaluation dataset", uri="held_out_v1")],
        ),
        "weights": ("adapter_config.json", "adapter_model.safetensors"),
        "files": {
            "adapter_config.json": Digest(3, "1" * 64),
            "adapter_model.safetensors": Digest(9, "2" * 64),
        },
        "record": "record",
        "is_local": False,
    }
    return Exported(**(values | changes))


def cells(card):
    """Return the rows of all tables of a card, as a reader sees them."""
    rows = []
    for block in PARSER.parse(ModelCard(card).text):
        if block.type == "tr_open":
            rows.append([])
        elif block.type == "inline" and block.level == 4:  # in a cell
            parts = block.children or []
            rows[-1].append("".join(each.content for each in parts))
    return [tuple(row) for row in rows]


def test_the_hub_reads_the_metadata_and_the_metrics_with_their_evaluator():
    card = ModelCard(model_card(exported()))
    assert {key: value for key, value in card.data.to_dict().items() if key != "model-index"} == {
        "base_model": "org/base",
        "datasets": ["dataset_v1"],
        "library_name": "peft",
        "tags": ["llm-training-pipeline"],
    }
    assert card.data.model_name == "model_v1"
    found = [
        (each.metric_type, each.metric_value, each.dataset_name, each.source_name)
        for each in card.data.eval_results
    ]
    assert found == [
        ("loss", 0.5, "held_out_v1", "held-out-loss"),
        ("exact_match", 1, "held_out_v1", "held-out-loss"),
    ]
    assert card.data.eval_results[0].source_url == (
        "urn:llm-training-pipeline:evaluator:held-out-loss"
    )


def test_a_card_that_the_hub_writes_again_has_the_same_metadata():
    card = ModelCard(model_card(exported()))
    again = ModelCard(card.content)
    assert again.data.to_dict() == card.data.to_dict()
    assert again.text == card.text


def test_the_tables_have_the_inputs_and_every_file_with_its_digest():
    rows = cells(model_card(exported()))
    for row in [
        ("loss", "0.5"),
        ("epochs", "3"),
        ("config sha256", "c" * 64),
        ("data sha256", "d" * 64),
        ("trainer option rank", "8"),
        ("trainer code sha256", "e" * 64),
        ("base model sha256", "b" * 64),
        ("base model model.safetensors sha256", "f" * 64),
        ("pipeline commit", "a" * 40),
        ("cpu", "x86"),
        ("adapter_model.safetensors", "9", "2" * 64),
    ]:
        assert row in rows


def test_the_card_says_how_to_verify():
    text = ModelCard(model_card(exported())).text
    assert "    sha256sum --check record/SHA256SUMS\n" in text
    assert text.endswith(
        "    llm-train trace --file DIR/adapter_model.safetensors\n    llm-train verify model_v1\n"
    )


@pytest.mark.parametrize(
    "name", ["./base", "../base", "/models/base", "a/b/c", "~/x", "a b", "x--y"]
)
def test_a_name_that_the_hub_does_not_take_is_only_in_the_text(name):
    metadata = exported().metadata | {"base_model": name}
    card = ModelCard(model_card(exported(metadata=metadata)))
    assert card.data.base_model is None
    assert f"`{name}`, trained on `dataset_v1`" in card.text


def test_a_local_folder_is_not_the_base_model_of_the_hub():
    card = ModelCard(model_card(exported(is_local=True)))
    assert card.data.base_model is None


def test_without_an_adapter_the_library_is_not_known():
    card = ModelCard(model_card(exported(weights=("adapter_model.safetensors",))))
    assert card.data.library_name is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"evaluation": None, "evaluation_statement": None}, "It was not evaluated.\n"),
        (
            {"evaluation_statement": statement()},
            "It was not evaluated. The numbers in its record are simulated.\n",
        ),
    ],
)
def test_a_model_without_measured_metrics_has_no_results(changes, sentence):
    card = ModelCard(model_card(exported(**changes)))
    assert card.data.eval_results is None
    assert sentence in card.text


@given(ids)
def test_a_name_is_an_id_of_the_hub_if_its_library_says_so(name):
    is_valid = False
    with suppress(HFValidationError):
        validate_repo_id(name)
        is_valid = True
    assert is_hub_id(name) == is_valid


@given(
    base_model=printable | hostile.filter(str.isprintable) | ids.filter(bool),
    metric=printable | hostile.filter(str.isprintable),
    option=printable | hostile.filter(str.isprintable),
    value=json_values | hostile,
    evaluator=json_values | hostile,
)
def test_any_text_of_a_record_is_read_back_as_it_was(base_model, metric, option, value, evaluator):
    # A record is parsed from JSON, which has no lone surrogates.
    values = parse_json(canonical_json({"value": value, "evaluator": evaluator}), "test")
    changes = {
        "metadata": exported().metadata
        | {"base_model": base_model, "training_config": {"base_model": base_model}},
        "training": Training(trainer={"use": "lora", "options": {option: values["value"]}}),
        "evaluation": {"metrics": {metric: 0.25}},
        "evaluation_statement": statement({"evaluator": {"use": values["evaluator"]}}),
    }
    source = model_card(exported(**changes))
    card = ModelCard(source)
    assert card.data.base_model == (base_model if is_hub_id(base_model) else None)
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_name, result.metric_value) == (metric, metric, 0.25)
    assert result.source_name == as_text(values["evaluator"])
    again = ModelCard(card.content)
    assert again.data.to_dict() == card.data.to_dict()
    rows = cells(source)
    assert (as_text(metric), "0.25") in rows
    assert ("base_model", as_text(base_model)) in rows
    assert (as_text(f"trainer option {option}"), as_text(values["value"])) in rows
    assert len(rows) == 20


def test_a_card_says_which_part_of_the_data_was_held_out_and_how_an_adapter_is_loaded():
    options = {"rank": 8, "held_out": 0.1, "prompt": "{input}"}
    training = Training(trainer={"use": "lora", "options": options})
    text = ModelCard(model_card(exported(training=training))).text
    assert "a fraction of 0.1 was held out and not trained on." in text
    assert '    model = AutoPeftModelForCausalLM.from_pretrained("DIR")\n' in text
    assert "option `prompt`" in text


@pytest.mark.parametrize("options", [None, [], {"held_out": 0}, {"held_out": "x"}])
def test_a_card_of_other_weights_does_not_say_how_to_load_them(options):
    training = Training(trainer={"use": "mine:train", "options": options})
    text = ModelCard(
        model_card(
            exported(training=training, weights=("w.bin",), files={"w.bin": Digest(1, "1" * 64)})
        )
    ).text
    assert "held out" not in text
    assert "## Use" not in text
