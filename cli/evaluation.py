"""The command `evaluate`."""

import click

from cli.options import artifacts_dir_option, check_working_directory, complete_version
from cli.terminal import print_json, printed_log
from src.artifacts import Artifacts
from src.evaluation.evaluator import evaluate_model, load_evaluation
from src.lineage.configs import recorded_config
from src.lineage.record import read_record
from src.training.config import read_config_file
from src.training.hashing import count_and_hash_once
from src.training.pipeline import config_evaluator

__all__ = ["evaluate"]


@click.command()
@click.argument("version", shell_complete=complete_version)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(),
    help="The config that names the evaluator; by default, that of the model.",
)
@click.option("--replace", is_flag=True, help="Measure again, even if there is an evaluation.")
@artifacts_dir_option
def evaluate(version: str, config: str | None, replace: bool, artifacts_dir: str) -> None:
    """Evaluate the model VERSION.

    An evaluation by another evaluator is not changed. With --replace, the model is measured again,
    and the old evaluation is kept below earlier/ in its folder. Prints the evaluation as JSON on
    stdout.
    """
    check_working_directory(artifacts_dir)  # below it, configs name no code
    artifacts = Artifacts.open(artifacts_dir)
    record = read_record(version, artifacts)
    if config is not None:
        config_file = read_config_file(config)
    elif record.statement is not None:
        config_file = recorded_config(record.statement, artifacts)
    else:
        raise click.UsageError("Pass --config: no provenance.json names the config of the model.")
    with printed_log():
        evaluate_model(
            version,
            artifacts.models,
            artifacts.evaluations,
            metrics=config_evaluator(
                config_file,
                record.metadata["dataset_version"],
                artifacts,
                hash_dataset=count_and_hash_once,
            ),
            replace=replace,
        )
    print_json(load_evaluation(version, artifacts.evaluations))
