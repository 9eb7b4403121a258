from pathlib import Path

import pytest

from src.artifacts import Artifacts


def test_the_layout_is_fixed_below_the_root():
    artifacts = Artifacts("some/root")
    assert artifacts.datasets == Path("some/root/datasets")
    assert artifacts.models == Path("some/root/models")
    assert artifacts.registry == Path("some/root/models/registry.json")
    assert artifacts.evaluations == Path("some/root/evaluations")


def test_the_root_is_artifacts_in_the_working_directory_unless_named():
    assert Artifacts().registry == Path("artifacts/models/registry.json")


def test_naming_the_layout_makes_no_folder(tmp_path):
    Artifacts(tmp_path / "root")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["models", "evaluations"])
def test_a_folder_written_to_may_not_lead_out_of_the_root(folder, tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / folder).symlink_to(outside)
    with pytest.raises(ValueError) as caught:
        Artifacts(root)
    assert str(caught.value) == (
        f"{root}/{folder}: leads out of {root}, to {outside.resolve()}. "
        "Nothing was written; remove the link."
    )


def test_the_datasets_which_are_only_read_may_lie_elsewhere(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "datasets").symlink_to(outside)
    assert Artifacts(root).datasets == root / "datasets"
