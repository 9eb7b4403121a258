"""Search for the datasets that hold a record, and the models trained on them."""

from src.artifacts import Artifacts
from src.datasets.adding import add_dataset
from src.datasets.search import search_records
from src.lineage import lines
from src.lineage.lines import trace_lines
from src.training.pipeline import run_training_pipeline
from tests.examples import DATA
from tests.stores import delete

CONFIG_FILE = "configs/training/mistral_finetune.yaml"
FIRST = DATA.split(b"\n")[0]


def train(version, artifacts):
    run_training_pipeline(CONFIG_FILE, version, artifacts_dir=artifacts.root)


def test_a_record_leads_to_its_datasets_and_to_the_models_trained_on_them(artifacts):
    train("model_v1", artifacts)
    add_dataset([b'{"other": 1}\n' + FIRST + b"\n" + FIRST], "more", artifacts.root)
    found = trace_lines([b'{"none": 1}', FIRST], artifacts.root)
    assert (found.num_records, found.num_datasets, found.unsearched) == (2, 2, {})
    first, more = found.hits
    assert (first.record, first.dataset_version, first.lines) == (2, "dataset_v1", [1])
    assert (first.count, first.is_same_text) == (1, True)
    assert (first.models, first.other_models) == (["model_v1"], [])
    assert (more.dataset_version, more.lines, more.models) == ("more", [2, 3], [])


def test_models_trained_on_equal_data_under_another_name_are_named(artifacts):
    add_dataset([DATA], "copy", artifacts.root)
    train("model_v1", artifacts)
    copy = next(
        hit for hit in trace_lines([FIRST], artifacts.root).hits if hit.dataset_version == "copy"
    )
    assert copy.models == ["model_v1"]


def test_models_of_other_or_unrecorded_data_of_that_name_are_kept_apart(artifacts):
    for version in ("model_v1", "model_v2"):
        train(version, artifacts)
    delete(artifacts.models / "model_v2/provenance.json")
    folder = artifacts.datasets / "dataset_v1"
    delete(folder / "metadata.json")
    (folder / "data.jsonl").replace(DATA + b'{"a": 1}\n')
    [hit] = trace_lines([b'{"a":1}'], artifacts.root).hits
    assert (hit.models, hit.other_models) == ([], ["model_v1", "model_v2"])
    assert not hit.is_same_text


def test_the_lines_of_a_hit_are_bounded(artifacts):
    add_dataset([b"{}\n" * 1000], "many", artifacts.root)
    [hit] = trace_lines([b"{}"], artifacts.root).hits
    assert (hit.count, hit.lines) == (1000, [1, 2, 3, 4, 5])


def test_a_record_given_twice_is_searched_for_and_reported_once(artifacts, monkeypatch):
    searched = []

    def search(records, *args):
        searched.append(records)
        return search_records(records, *args)

    monkeypatch.setattr(lines, "search_records", search)
    found = trace_lines([FIRST, b"{}", FIRST], artifacts.root)
    assert searched == [[FIRST, b"{}"]]
    assert found.num_records == 3
    assert [(hit.record, hit.lines) for hit in found.hits] == [(1, [1])]


def test_a_dataset_that_cannot_be_read_is_named(artifacts):
    (artifacts.datasets / "empty/README").create(b"")
    found = trace_lines([FIRST], artifacts.root)
    assert [hit.dataset_version for hit in found.hits] == ["dataset_v1"]
    assert list(found.unsearched) == ["empty"]
    assert "artifacts/datasets/empty/data.jsonl" in found.unsearched["empty"]


def test_without_datasets_nothing_is_found(artifacts):
    found = trace_lines([FIRST], Artifacts(artifacts.root / "none").root)
    assert (found.num_datasets, found.hits) == (0, ())


def test_the_json_form_has_every_field(artifacts):
    train("model_v1", artifacts)
    assert trace_lines([FIRST], artifacts.root).to_dict() == {
        "num_records": 1,
        "num_datasets": 1,
        "hits": (
            {
                "record": 1,
                "dataset_version": "dataset_v1",
                "sha256": "0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143",
                "count": 1,
                "lines": [1],
                "is_same_text": True,
                "models": ["model_v1"],
                "other_models": [],
            },
        ),
        "unsearched": {},
    }
