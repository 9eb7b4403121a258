"""Kedro: five nodes; the model version comes in as a run parameter."""

from typing import Any

from kedro.pipeline import node, pipeline

from benchmarks.peers import steps


def load_config(version: str) -> dict[str, Any]:
    """Step 1, of the config that has the model version's name."""
    return steps.load_config(f"configs/{version}.yaml")


def register_pipelines() -> dict[str, Any]:
    """Return the only pipeline; Kedro calls this function."""
    return {
        "__default__": pipeline(
            [
                node(load_config, "params:version", "config"),
                node(steps.resolve_dataset, "config", "dataset"),
                node(steps.write_metadata, ["config", "dataset"], "metadata"),
                node(steps.register, "metadata", "registration"),
                node(steps.evaluate, "registration", "evaluation"),
            ]
        )
    }
