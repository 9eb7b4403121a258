"""The artifacts root of a flow run that is given none."""

import os

__all__ = ["DEFAULT_ROOT"]

DEFAULT_ROOT = os.environ.get("LLM_TRAIN_ARTIFACTS") or "artifacts"
"""Default of the parameter `artifacts_dir` of all flows: the root of this host, as of commands."""
