"""Options of the trainer `lora` and the evaluator `held-out-loss`."""

import pytest

from src.finetuning.options import (
    check_module_names,
    evaluator_options,
    run_settings,
    trainer_options,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refused(check, **values):
    with pytest.raises(ValueError) as caught:
        check(values)
    return str(caught.value)


def test_every_option_has_a_default():
    assert trainer_options({}) == {
        "model": None,
        "revision": None,
        "prompt": "{input}\n",
        "completion": "{output}",
        "max_length": 512,
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.0,
        "target_modules": "all-linear",
        "modules_to_save": [],
        "held_out": 0.1,
        "max_steps": None,
        "save_steps": 50,
        "dtype": "float32",
    }
    assert evaluator_options({}) == {"batch_size": 8, "price_per_million_tokens": 0.0}
    assert run_settings({}) == {"device": None, "threads": 1}


def test_checked_options_are_valid_options():
    given = {"model": "org/name", "revision": COMMIT, "target_modules": ["q_proj"], "max_steps": 5}
    checked = trainer_options(given)
    assert trainer_options(checked) == checked == trainer_options({}) | given


def test_options_that_mean_the_same_are_recorded_equally():
    assert trainer_options({"alpha": 8, "target_modules": ["v", "q", "v"]}) == trainer_options(
        {"alpha": 8.0, "target_modules": ["q", "v"]}
    )


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("model", "", "expected text, found ''."),
        ("revision", "main", "expected the hash of a commit, 40 hexadecimal digits, found 'main'."),
        ("prompt", 3, "expected text with names of fields, such as '{input}', found 3."),
        (
            "completion",
            "{output",
            "expected fields such as '{input}', found '{' at character 1 of '{output'. Write "
            "`{{` or `}}` for a brace.",
        ),
        ("max_length", 1, "expected an integer >= 2, found 1."),
        ("rank", True, "expected an integer >= 1, found True."),
        ("alpha", 0, "expected a number above 0, found 0."),
        ("dropout", 1.0, "expected a number from 0, below 1, found 1.0."),
        ("held_out", float("nan"), "expected a number from 0, below 1, found nan."),
        ("target_modules", [], "expected all-linear or a list of names of modules, found []."),
        ("modules_to_save", "lm_head", "expected a list of names of modules, found 'lm_head'."),
        ("max_steps", 0, "expected an integer >= 1, found 0."),
        ("dtype", "float16", "expected float32 or bfloat16, found 'float16'."),
    ],
)
def test_an_option_that_is_not_valid_is_named_with_what_was_expected_and_found(name, value, fault):
    assert refused(trainer_options, **{name: value}) == f"{name}: {fault}"


def test_all_faults_are_reported_and_an_unknown_option_with_the_nearest():
    assert refused(trainer_options, rnak=4, colour="red", held_out="much").splitlines() == [
        "colour: unknown option, expected one of model, revision, prompt, completion, max_length, "
        "rank, alpha, dropout, target_modules, modules_to_save, held_out, max_steps, save_steps, "
        "dtype.",
        "held_out: expected a number from 0, below 1, found 'much'.",
        "rnak: unknown option, did you mean 'rank'?",
    ]


def test_settings_of_a_run_are_a_device_and_a_number_of_threads():
    assert run_settings({"device": "cuda", "threads": 4}) == {"device": "cuda", "threads": 4}
    assert refused(run_settings, device="gpu", thread=2).splitlines() == [
        "run.device: expected cpu or cuda, found 'gpu'.",
        "run.thread: unknown setting of `run`, did you mean 'threads'?",
    ]


MODULES = ["", "model.embed_tokens", "model.layers.0.self_attn.q_proj", "lm_head"]


def test_a_module_that_the_base_model_has_is_named_by_its_last_parts():
    for names in (["q_proj"], ["self_attn.q_proj"], ["model.layers.0.self_attn.q_proj"]):
        options = {"target_modules": names, "modules_to_save": ["lm_head"]}
        assert check_module_names(options, MODULES) is None
    assert check_module_names(trainer_options({}), MODULES) is None


def test_each_module_that_the_base_model_does_not_have_is_refused():
    options = {"target_modules": ["q_prj", "q_proj"], "modules_to_save": ["head", "xyz"]}
    with pytest.raises(ValueError) as caught:
        check_module_names(options, MODULES)
    assert str(caught.value).splitlines() == [
        "trainer.options.target_modules: the base model has no 'q_prj', did you mean 'q_proj'?",
        "trainer.options.modules_to_save: the base model has no 'head', did you mean 'lm_head'?",
        "trainer.options.modules_to_save: the base model has no 'xyz'.",
    ]
