import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from src import environment
from src.environment import (
    CORE,
    Invocation,
    core_dependency,
    environment_dependencies,
    project_version,
    run_details,
    source_digest,
)

# --- Source --------------------------------------------------------------------------------------


def digest_of(folder, files):
    for name, text in files.items():
        path = folder / "core" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source_digest.cache_clear()
    return source_digest(folder / "core")


def test_the_digest_of_known_source_is_known(tmp_path):
    assert digest_of(tmp_path, {"a.py": "x", "b/c.py": ""}) == (
        "fc8837256d88974c105fc14460876ddc69d4bc10b1bfe57e10d0ff138dff9696"
    )


def test_the_digest_does_not_depend_on_the_location_of_the_folder(tmp_path):
    files = {"a.py": "x = 1\n", "b/c.py": "y = 2\n"}
    assert digest_of(tmp_path / "here", files) == digest_of(tmp_path / "there", files)


def test_any_change_of_a_python_file_changes_the_digest(tmp_path):
    kinds = [
        {"a.py": "x"},
        {"a.py": "y"},
        {"b.py": "x"},
        {"a.py": "x", "b.py": ""},
        {"c/a.py": "x"},
    ]
    digests = {digest_of(tmp_path / str(n), files) for n, files in enumerate(kinds)}
    assert len(digests) == len(kinds)


def test_files_that_are_not_python_do_not_count(tmp_path):
    plain = digest_of(tmp_path / "plain", {"a.py": "x"})
    assert (
        digest_of(tmp_path / "more", {"a.py": "x", "a.txt": "y", "__pycache__/a.pyc": ""}) == plain
    )


def test_all_given_folders_count(tmp_path):
    digest_of(tmp_path / "one", {"a.py": "x"})
    digest_of(tmp_path / "two", {"a.py": "y"})
    one, two = tmp_path / "one/core", tmp_path / "two/core"
    assert len({source_digest(one), source_digest(two), source_digest(one, two)}) == 3


def test_the_source_is_read_once_per_process(tmp_path):
    before = digest_of(tmp_path, {"a.py": "x"})
    (tmp_path / "core/a.py").write_text("y")
    assert source_digest(tmp_path / "core") == before


def test_the_core_is_the_folder_of_this_code():
    assert (CORE / "training/pipeline.py").is_file()
    dependency = core_dependency()
    assert (dependency.name, dependency.digest) == ("core", {"sha256": source_digest(CORE)})
    assert len(source_digest(CORE)) == 64


# --- Commit --------------------------------------------------------------------------------------


def git(*arguments, folder="."):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one staged file and no commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git("init", folder=folder)
    (folder / "a.py").write_text("a = 1\n")
    git("add", "a.py", folder=folder)
    return folder


def test_the_commit_is_that_of_the_checkout(checkout):
    git("commit", "-m", "first", folder=checkout)
    commit = git("rev-parse", "HEAD", folder=checkout)

    def found():
        [dependency] = environment._checkout(checkout)
        assert (dependency.name, dependency.digest) == ("code", {"gitCommit": commit})
        return dependency.annotations

    assert found() == {"dirty": False}
    (checkout / "untracked.txt").write_text("b\n")
    assert found() == {"dirty": False}
    (checkout / "a.py").write_text("a = 2\n")
    assert found() == {"dirty": True}
    git("checkout", "a.py", folder=checkout)
    assert found() == {"dirty": False}
    (checkout / "untracked.py").write_text("b = 1\n")  # it is part of the source digest
    assert found() == {"dirty": True}


@pytest.mark.parametrize("ignored", ["", "vendor/\n"], ids=["untracked", "ignored"])
def test_a_copy_inside_the_repository_of_another_project_has_no_commit(ignored, checkout):
    (checkout / ".gitignore").write_text(ignored)
    git("add", ".gitignore", folder=checkout)
    git("commit", "-m", "first", folder=checkout)
    copied = checkout / "vendor/src"
    copied.mkdir(parents=True)
    for name in ("a.py", "b.py", "c.py"):
        (copied / name).touch()
    assert environment._checkout(copied) == []
    git("add", "--force", "vendor/src/a.py", folder=checkout)  # its file, by chance of our name
    git("commit", "-m", "second", folder=checkout)
    assert environment._checkout(copied) == []
    git("add", "--force", "vendor/src/b.py", folder=checkout)
    git("commit", "-m", "third", folder=checkout)
    [code] = environment._checkout(copied)
    assert code.annotations == {"dirty": True}
    git("add", "--force", "vendor", folder=checkout)
    git("commit", "-m", "fourth", folder=checkout)
    [code] = environment._checkout(copied)
    assert code.digest == {"gitCommit": git("rev-parse", "HEAD", folder=checkout)}
    assert code.annotations == {"dirty": False}


def test_a_folder_without_python_files_has_no_commit(checkout):
    (checkout / "docs").mkdir()
    (checkout / "docs/a.txt").touch()
    git("add", ".", folder=checkout)
    git("commit", "-m", "first", folder=checkout)
    assert environment._checkout(checkout / "docs") == []


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_COMMON_DIR", "GIT_INDEX_FILE"])
def test_variables_of_git_select_no_other_repository(variable, checkout, tmp_path, monkeypatch):
    git("commit", "-m", "first", folder=checkout)
    expected = environment._checkout(checkout)
    other = tmp_path / "other"
    git("clone", str(checkout), str(other))
    (other / "b.py").touch()
    git("add", "b.py", folder=other)
    git("commit", "-m", "other", folder=other)
    file = "index" if variable == "GIT_INDEX_FILE" else ""
    monkeypatch.setenv(variable, str(other / ".git" / file))
    if variable == "GIT_DIR":
        monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    assert environment._checkout(checkout) == expected
    assert len(expected) == 1
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.py").write_text("a = 1\n")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert environment._checkout(outside) == []


def commit_of(folder):
    [code] = environment._checkout(folder)
    assert code.annotations == {"dirty": False}
    return code.digest["gitCommit"]


def test_the_commit_of_a_worktree_a_shallow_clone_and_a_submodule_is_found(checkout, tmp_path):
    git("commit", "-m", "first", folder=checkout)
    (checkout / "b.py").touch()
    git("add", "b.py", folder=checkout)
    git("commit", "-m", "second", folder=checkout)
    commit = git("rev-parse", "HEAD", folder=checkout)
    git("worktree", "add", str(tmp_path / "worktree"), "HEAD~1", folder=checkout)
    assert commit_of(tmp_path / "worktree") == git("rev-parse", "HEAD~1", folder=checkout)
    git("clone", "--depth", "1", f"file://{checkout}", str(tmp_path / "shallow"))
    assert commit_of(tmp_path / "shallow") == commit
    outer = tmp_path / "outer"
    git("init", str(outer))
    (outer / "c.py").touch()
    allowed = ["-c", "protocol.file.allow=always"]
    git(*allowed, "submodule", "add", str(checkout), "module", folder=outer)
    git("add", ".", folder=outer)
    git("commit", "-m", "outer", folder=outer)
    assert commit_of(outer / "module") == commit
    (outer / "module/a.py").write_text("a = 2\n")
    assert environment._checkout(outer / "module")[0].annotations == {"dirty": True}


def test_no_command_of_the_config_is_run_and_nothing_is_written(checkout, tmp_path):
    git("commit", "-m", "first", folder=checkout)
    (tmp_path / "command").write_text(f"#!/bin/sh\ntouch {tmp_path}/was_run\n")
    (tmp_path / "command").chmod(0o755)
    (checkout / ".git/hooks").mkdir(exist_ok=True)
    (checkout / ".git/hooks/post-index-change").symlink_to(tmp_path / "command")
    git("config", "core.fsmonitor", str(tmp_path / "command"), folder=checkout)
    (checkout / "a.py").touch()  # a refresh of the index would write it
    before = (checkout / ".git/index").read_bytes()
    assert len(environment._checkout(checkout)) == 1
    assert not (tmp_path / "was_run").exists()
    assert (checkout / ".git/index").read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the owner of a file")
def test_the_repository_of_another_user_has_no_commit(checkout, monkeypatch):
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    git("commit", "-m", "first", folder=checkout)
    assert len(environment._checkout(checkout)) == 1
    for path in (checkout, checkout / ".git"):
        os.chown(path, 65534, 65534)
    assert environment._checkout(checkout) == []


def test_the_core_installed_in_the_repository_of_another_project_has_no_commit(checkout):
    git("commit", "-m", "first", folder=checkout)
    shutil.copytree(CORE, checkout / "site-packages/src", ignore=shutil.ignore_patterns("*.pyc"))
    program = (
        "from src.environment import environment_dependencies as found; print(found()[0].name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=checkout / "site-packages",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "core\n"


def test_a_checkout_without_a_commit_has_none(checkout):
    assert environment._checkout(checkout) == []


def test_a_folder_outside_a_checkout_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "outside").mkdir()
    assert environment._checkout(tmp_path / "outside") == []


def test_without_git_there_is_no_commit(checkout, tmp_path, monkeypatch):
    git("commit", "-m", "first", folder=checkout)
    assert len(environment._checkout(checkout)) == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment._checkout(checkout) == []


def test_a_git_that_hangs_is_stopped(checkout, tmp_path, monkeypatch):
    git("commit", "-m", "first", folder=checkout)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(environment, "GIT_TIMEOUT_SECONDS", 0.1)
    started = time.monotonic()
    assert environment._checkout(checkout) == []
    assert time.monotonic() - started < 30


# --- Packages ------------------------------------------------------------------------------------


def test_packages_are_named_by_their_folders_and_the_first_on_the_path_counts(tmp_path):
    for name in ("one/Some_Package-1.0.dist-info", "two/some.package-2.0.dist-info"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "two/other-3!1.0rc1+local.dist-info").mkdir()
    (tmp_path / "two/other.py").touch()
    (tmp_path / "two/llm_training_pipeline-0.0.1.dist-info").mkdir()  # this project itself
    (tmp_path / "file.zip").touch()
    folders = [str(tmp_path / name) for name in ("one", "two", "file.zip", "none")]
    assert environment.installed_packages([*folders, ""]) == {
        "some-package": "1.0",
        "other": "3!1.0rc1+local",
    }


def test_the_environment_is_the_code_python_and_its_packages():
    dependencies = {each.name: each for each in environment_dependencies()}
    assert dependencies.keys() - {"code"} == {"core", "python", "packages"}
    assert dependencies["core"] == core_dependency()
    assert dependencies["python"].annotations == {
        "version": "{}.{}.{}".format(*sys.version_info),
        "implementation": sys.implementation.name,
    }
    packages = dependencies["packages"].annotations
    assert {"filelock", "pyyaml", "in-toto-attestation"} <= packages.keys()
    assert list(packages) == sorted(packages)


# --- Runs ----------------------------------------------------------------------------------------


def test_a_run_has_a_random_id_and_the_current_time_by_default():
    runs = [Invocation(), Invocation()]
    assert len({run.id for run in runs}) == 2
    for run in runs:
        assert re.fullmatch("[0-9a-f]{32}", run.id)
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", run.started_on)
        assert run.started_on <= run.clock()
        assert run.url is None
        assert run.builder == "urn:llm-training-pipeline:builder:python"


@pytest.fixture
def in_tokyo(monkeypatch):
    """A local time that is nine hours ahead of UTC."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1709200799_999_999_999, "2024-02-29T09:59:59.999Z"),
        (1709200800_001_000_000, "2024-02-29T10:00:00.001Z"),
    ],
)
def test_a_time_is_utc_in_milliseconds(nanoseconds, text, in_tokyo, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds)
    assert environment.now() == text


def test_the_details_of_a_run_are_those_of_its_invocation():
    invocation = Invocation(
        id="run-1",
        url="http://x/1",
        builder="urn:b",
        started_on="10:00",
        clock=lambda: "10:01",
        host="host-1",
        worker="Worker 1",
    )
    assert run_details(invocation) == {
        "builder": "urn:b",
        "builder_version": {"llm-training-pipeline": project_version()},
        "invocation_id": "run-1",
        "internal_parameters": {"host": "host-1", "worker": "Worker 1"},
        "url": "http://x/1",
        "started_on": "10:00",
        "finished_on": "10:01",
    }


def test_a_run_names_this_machine_by_default_and_no_worker():
    assert run_details(Invocation())["internal_parameters"] == {"host": os.uname().nodename}
    assert run_details(Invocation(host=None))["internal_parameters"] == {}


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a\udcffb"])
def test_a_machine_without_a_plain_name_is_unknown(name, monkeypatch):
    monkeypatch.setattr(environment.os, "uname", lambda: SimpleNamespace(nodename=name))
    assert Invocation().host == "unknown"


def test_the_version_of_the_project_is_written_in_one_place(monkeypatch, tmp_path):
    project = tomllib.loads((CORE.parent / "pyproject.toml").read_text())["project"]
    assert project_version() == project["version"] == version(environment.PROJECT)
    monkeypatch.setattr(environment, "CORE", tmp_path / "src")  # without a pyproject.toml
    assert project_version.__wrapped__() == project["version"]
