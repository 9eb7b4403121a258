"""Tests of the checks of an artifacts root."""

import errno
import os
from pathlib import Path

import pytest
from filelock import FileLock

from src.diagnosis.finding import Finding
from src.diagnosis.root import (
    GIB,
    check_root,
    file_system,
    file_system_finding,
    space_finding,
)
from src.training.pipeline import run_training_pipeline
from tests.hostile import put

CONFIG = "configs/training/mistral_finetune.yaml"
MOUNTS = r"""
/dev/vda / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /srv nfs4 rw 0 0
tmpfs /srv/fast tmpfs rw 0 0
/dev/vdb /srv/with\040space xfs rw 0 0
/dev/vdc /twice ext4 rw 0 0
overlay /twice overlay rw 0 0
damaged
"""


def found(root="artifacts"):
    """Return the findings by check."""
    findings = list(check_root(Path(root)))
    by_check = {each.check: each for each in findings}
    assert len(by_check) == len(findings)
    return by_check


def levels(root="artifacts"):
    """Return the levels by check, without those that depend on the machine."""
    kept = {"artifacts root", "registry", "leftovers"}
    return {name: each.level for name, each in found(root).items() if name in kept}


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def test_a_root_with_models_is_sound_and_has_no_other_files_afterwards(project):
    run_training_pipeline(CONFIG, "model_v1")
    before = files_below("artifacts")
    findings = found()
    assert files_below("artifacts") == before
    assert [*findings] == [
        *("artifacts root", "file system", "disk", "registry", "leftovers"),
    ]
    assert findings["artifacts root"] == Finding(
        check="artifacts root",
        level="OK",
        found=f"{project}/artifacts: writable; locks, fsync, hard links and renames work.",
    )
    assert findings["registry"].found == "1 model, in valid form."
    assert findings["leftovers"].found == "no unfinished files, no stopped trainings."
    assert levels() == {"artifacts root": "OK", "registry": "OK", "leftovers": "OK"}


# --- The folder ----------------------------------------------------------------------------------


def test_a_folder_that_does_not_exist_is_a_fault_and_is_not_created(tmp_path):
    assert [*check_root(tmp_path / "none")] == [
        Finding(
            check="artifacts root",
            level="FAULT",
            found=f"{tmp_path}/none: no such folder.",
            action="Pass the folder that has datasets/ and models/ with --artifacts-dir.",
        )
    ]
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("a FIFO", "a FIFO"),
        ("a device", "a device"),
        ("a number", "a regular file"),
        ("a socket", "a socket"),
    ],
)
def test_something_other_than_a_folder_is_a_fault(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    put(kind, Path("root"))
    [finding] = check_root(tmp_path / "root")
    assert finding.level == "FAULT"
    assert finding.found == f"{tmp_path}/root: expected a folder, found {name}."


def test_a_circle_of_links_is_a_fault(tmp_path):
    (tmp_path / "root").symlink_to("root")
    [finding] = check_root(tmp_path / "root")
    assert (finding.check, finding.level) == ("artifacts root", "FAULT")
    assert str(tmp_path / "root") in finding.found


@pytest.mark.parametrize("call", ["link", "replace", "fsync"])
def test_a_root_that_does_not_keep_the_guarantees_is_a_fault(project, monkeypatch, call):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, call, refuse)
    finding = found()["artifacts root"]
    assert finding.level == "FAULT"
    assert finding.found.startswith(f"{project}/artifacts: cannot be used: [Errno 1] Operation")
    assert finding.action == "Make the folder writable, or use one on a local disk."


def test_a_root_that_cannot_be_written_is_a_fault(project, start):
    Path("artifacts").chmod(0o500)
    code = (
        "from pathlib import Path; from tests.privileges import drop_privileges\n"
        "from src.diagnosis.root import check_root\n"
        "drop_privileges(); print(next(check_root(Path('artifacts'))))"
    )
    printed = start(code).end()
    Path("artifacts").chmod(0o700)
    assert "level='FAULT'" in printed
    assert "Permission denied" in printed


# --- The file system -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/artifacts", "ext4"),
        ("/", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/artifacts", "nfs4"),
        ("/srvother", "ext4"),
        ("/srv/fast/artifacts", "tmpfs"),
        ("/srv/with space/a", "xfs"),
        ("/twice/a", "overlay"),
    ],
)
def test_the_innermost_mount_has_the_type(path, kind):
    assert file_system(path, MOUNTS) == kind


def test_without_mounts_the_type_is_unknown():
    assert file_system("/a", "") is None
    assert file_system_finding(None).found == "unknown."


@pytest.mark.parametrize(
    ("kind", "level", "word"),
    [
        ("ext4", "OK", "ext4."),
        ("xfs", "OK", "xfs."),
        ("nfs4", "WARNING", "other hosts"),
        ("cifs", "WARNING", "other hosts"),
        ("fuse.sshfs", "WARNING", "other hosts"),
        ("tmpfs", "WARNING", "in memory"),
        ("overlay", "WARNING", "of a container"),
    ],
)
def test_a_type_that_can_lose_or_mix_up_records_is_a_warning(kind, level, word):
    finding = file_system_finding(kind)
    assert (finding.level, word in finding.found) == (level, True)


# --- Space ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free_bytes", "free_inodes", "level"),
    [
        (500 * GIB, 10**6, "OK"),
        (500 * GIB, None, "OK"),
        (GIB - 1, 10**6, "WARNING"),
        (GIB, 9_999, "WARNING"),
        ((1 << 24) - 1, 10**6, "FAULT"),
        (0, None, "FAULT"),
        (500 * GIB, 99, "FAULT"),
    ],
)
def test_little_space_is_a_warning_and_none_is_a_fault(free_bytes, free_inodes, level):
    assert space_finding(free_bytes, free_inodes).level == level


def test_the_free_space_is_in_the_message():
    assert space_finding(3 << 29, 12345).found == "1.5 GiB, 12,345 files free."
    assert space_finding(3 << 29, None).found == "1.5 GiB free."


# --- The registry --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"{", b'{"models": []}', b"\xff", b"[" * 10**5, b""])
def test_a_damaged_registry_is_a_fault_that_names_the_command(project, data):
    run_training_pipeline(CONFIG, "model_v1")
    Path("artifacts/models/registry.json").write_bytes(data)
    finding = found()["registry"]
    assert (finding.level, finding.found.startswith(f"{project}/artifacts/models/")) == (
        "FAULT",
        True,
    )
    assert "llm-train rebuild-registry" in f"{finding.found} {finding.action}"


def test_a_registry_that_was_edited_out_of_its_form_is_a_fault(project):
    run_training_pipeline(CONFIG, "model_v1")
    path = Path("artifacts/models/registry.json")
    path.write_text(path.read_text().replace('"epochs": 3', '"epochs":  3'))
    finding = found()["registry"]
    assert (finding.level, "not in canonical form" in finding.found) == ("FAULT", True)


@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a link", "a huge file", "a socket"])
def test_anything_in_place_of_the_registry_is_a_fault(project, kind):
    Path("artifacts/models").mkdir()
    put(kind, Path("artifacts/models/registry.json"))
    assert found()["registry"].level == "FAULT"


def test_a_root_without_a_registry_has_no_models(project):
    assert found()["registry"].found == "0 models, in valid form."


# --- Leftovers -----------------------------------------------------------------------------------


def test_unfinished_files_of_killed_processes_are_a_warning_that_names_them(project):
    folder = Path("artifacts/models")
    folder.mkdir()
    (folder / ".registry.json.tmp").write_text("{")
    finding = found()["leftovers"]
    assert (finding.level, finding.found) == (
        "WARNING",
        "unfinished files of processes that were killed: models/.registry.json.tmp.",
    )


def test_the_unfinished_file_of_a_writer_that_lives_is_no_leftover(project):
    Path("artifacts/models").mkdir()
    with FileLock("artifacts/models/.registry.json.tmp"):
        assert found()["leftovers"].level == "OK"


def test_trainings_that_were_stopped_are_named(project):
    for number in range(7):
        Path(f"artifacts/.work/model_v{number}").mkdir(parents=True)
    finding = found()["leftovers"]
    assert finding == Finding(
        check="leftovers",
        level="OK",
        found="trainings in .work/ that run or were stopped: model_v0, model_v1, model_v2, "
        "model_v3, model_v4 and 2 more.",
        action="Run their configs again to continue them, or delete their folders.",
    )


def test_credentials_in_the_address_of_an_object_store_are_not_printed():
    findings = [*check_root("s3://AKIA:secret@bucket/team")]
    assert findings[0].level == "FAULT"
    assert "secret" not in str(findings)
