"""YAML front matter of a Markdown file: values from outside are read back as they are."""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["front_matter"]

# Text that no version of YAML reads as another type, such as 1e5; PyYAML quotes words like `no`.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_text)


def front_matter(values: Mapping[str, Any]) -> str:
    """Return JSON values as front matter, in their order, with ASCII characters alone."""
    source = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, width=math.inf)
    return f"---\n{source}---\n"
