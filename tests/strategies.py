"""Hypothesis strategies."""

import json
from typing import Any

from hypothesis import strategies as st

__all__ = [
    "as_yaml",
    "component_values",
    "config_values",
    "json_objects",
    "json_values",
    "names",
    "settings_values",
    "texts",
    "yaml_texts",
]

texts = st.text(st.characters(exclude_categories=["Cs"]))
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | finite | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(texts, json_values, max_size=5)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True).filter(
    lambda name: not name.lower().startswith("registry.json")
)

_base_models = (
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
    .filter(str.isprintable)
    .filter(lambda text: text == text.strip())
)
_counts = st.integers(1, 2**53 - 1)
settings_values: dict[str, st.SearchStrategy[Any]] = {
    "base_model": _base_models,
    "dataset_version": names,
    "learning_rate": st.floats(5e-324, 1.7976931348623157e308),
    "epochs": _counts,
    "batch_size": _counts,
}
config_values: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(settings_values)

_words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_ .-]{0,9}", fullmatch=True)
_printable = st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20
).filter(str.isprintable)
_patterns = st.from_regex(r"[a-z*.]{1,9}(/[a-z*]{1,9}){0,2}", fullmatch=True).filter(
    lambda pattern: ".." not in pattern.split("/")
)
_objects = st.dictionaries(
    _words,
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | finite | _printable,
    max_size=3,
)
_of_all: dict[str, st.SearchStrategy[Any]] = {
    "options": _objects,
    "seed": st.integers(0, 2**53 - 1),
    "code": _patterns | st.lists(_patterns, min_size=1, max_size=3),
    "timeout_seconds": st.floats(0, 1e9, exclude_min=True) | st.integers(1, 10**9),
    "run": _objects,
}
_of_one = {
    "trainer": {"base_model": _patterns},
    "evaluator": {"dataset_version": names},
}
_of_command = {
    "trainer": {},
    "evaluator": {
        "measured": st.lists(_printable, min_size=1, max_size=3),
        "better": st.dictionaries(_words, st.sampled_from(["higher", "lower"]), max_size=3),
    },
}


def component_values(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return the values of a `trainer` or an `evaluator` that the loader accepts."""
    shared = _of_all | _of_one[kind]
    argv = {"use": st.just("command"), "argv": st.lists(_printable, min_size=1, max_size=3)}
    uses = st.sampled_from(["lora", "my-eval.2", "module:function", "a.b_1:C.method"])
    default = {"seed": st.just(0), "options": st.just({}), "run": st.just({})}
    return (
        st.fixed_dictionaries({"use": st.just("simulated")}, optional=default)
        | st.fixed_dictionaries({"use": uses}, optional={**shared, "python": _printable})
        | st.fixed_dictionaries(argv, optional={**shared, **_of_command[kind]})
    )


_tokens = [
    *settings_values,
    *"\n\r\t []{},:-!%'\"\\#?@`>|~&*1é\x85\u2028\ufeff\0",
    *(": ", "\n  ", "- ", "? ", "&a ", "*a", "<<", "!!int ", "!<x>", "---\n", "...\n"),
    *("%YAML 1.1\n", "%TAG ! x\n", "|\n", "\\x4", "\\uD800", "2e-5", ".nan", "%ff", "9" * 5000),
]
yaml_texts = st.lists(st.sampled_from(_tokens), max_size=16).map("".join)


def as_yaml(values: dict[str, Any]) -> bytes:
    """Return a config as YAML, in the order of its keys."""
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()]
    return "".join(lines).encode()
