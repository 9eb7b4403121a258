"""Step of a config with a trainer: the weights."""

from prefect import task

from src.artifacts import Artifacts, read_statement, weights_folder
from src.components.description import Description
from src.records.canonical import canonical_json
from src.records.layout import STATEMENT_FILE
from src.storage import Location
from src.training import trainer as core
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from src.training.registry import check_registry
from src.training.trained import Training
from tasks.caching import ALTERED_RESULT, STEP_OPTIONS, VerifiedResult
from tasks.progress import training_progress
from tasks.results import PlainSerializer


def _depends_on(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    trainer: Description,
    model_version: str,
    **_: object,
) -> list[str]:
    inputs = Training.of(trainer).inputs()
    return [
        config_file.config.config_hash,
        dataset.sha256,
        canonical_json(inputs).decode(),
        model_version,
    ]


def _stale_reason(
    result: Training, trainer: Description, model_version: str, artifacts_dir: Location, **_: object
) -> str | None:
    model = Artifacts.open(artifacts_dir).models / model_version
    statement = read_statement(model)
    if statement is None:
        return f"{model / STATEMENT_FILE} does not exist"
    if result.files != statement.files or result.inputs() != Training.of(trainer).inputs():
        return ALTERED_RESULT
    weights = weights_folder(model, result.weights)
    if weights.digests(use_memos=True) != result.weights:
        return f"{weights} was changed"
    return None


@task(
    task_run_name="train {model_version}",
    cache_policy=VerifiedResult(depends_on=_depends_on, stale_reason=_stale_reason),
    **STEP_OPTIONS | {"result_serializer": PlainSerializer(step="train")},
)
def train(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    trainer: Description,
    model_version: str,
    artifacts_dir: Location,
) -> Training:
    """Train the weights in a child process, or continue a training that was stopped."""
    artifacts = Artifacts.open(artifacts_dir)
    check_registry(artifacts)
    with training_progress(model_version) as on_point:
        return core.train_weights(
            config_file, dataset, trainer, model_version, artifacts.models, on_point=on_point
        )
