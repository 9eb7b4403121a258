from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from flows import (
    audit_models,
    compare_models,
    dataset_published,
    training_pipeline,
    training_sweep,
    verify_models,
)
from tasks.results import PlainSerializer

FLOWS = {
    "training-pipeline": (training_pipeline, "_train", ["config.yaml"]),
    "training-sweep": (training_sweep, "_sweep", [["config.yaml"]]),
    "audit-models": (audit_models, "verify_all", []),
    "compare-models": (compare_models, "compare", [["model_v1", "model_v2"]]),
    "verify-models": (verify_models, "verify_all", [["model_v1"]]),
    "dataset-published": (dataset_published, "_configs_using", ["dataset_v1"]),
}


@pytest.mark.parametrize("name", FLOWS)
def test_the_error_of_a_failed_run_is_stored_as_text(name, project, monkeypatch):
    module, function, arguments = FLOWS[name]

    def faulty(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, function, faulty)
    flow = getattr(module, name.replace("-", "_"))
    local = get_current_settings().results.local_storage_path
    storage = Path(getattr(flow.result_storage, "basepath", flow.result_storage) or local)
    before = set(storage.glob("*"))
    state = flow(*arguments, return_state=True)
    assert state.is_failed()
    assert type(state.data.metadata.serializer) is PlainSerializer
    [file] = set(storage.glob("*")) - before
    assert file.read_text() == '"a bug"'
