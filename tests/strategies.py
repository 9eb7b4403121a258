"""Hypothesis strategies."""

import json
from typing import Any

from hypothesis import strategies as st

__all__ = [
    "as_yaml",
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
