"""Refused system calls, full and read-only disks, held locks: each in a separate process."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.make_dataset import make_dataset
from src.storage import open_path
from src.training.pipeline import run_training_pipeline
from src.training.registry import list_models
from tests.examples import CONFIG, without_runs
from tests.torture.harness import LONG

REPOSITORY = Path(__file__).parents[2]
REFUSALS = ["ENOSPC", "EIO", "EROFS", "EACCES"]
CALLS = {
    "write": "write",
    "fsync": "fsync",
    "link": "link,linkat",
    "rename": "rename,renameat,renameat2",
    "openat": "openat",
    "mkdir": "mkdir,mkdirat",
    "unlink": "unlink,unlinkat",
}
RUN = """
import json, sys
from src.storage import folder as back_end
from src.training.pipeline import run_training_pipeline

def run(folder):
    try:
        run_training_pipeline(f"{folder}/c.yaml", "model_v2", artifacts_dir=f"{folder}/artifacts")
    except Exception as error:
        return [[kind.__name__ for kind in type(error).__mro__], str(error)]
"""
RUN_ONCE = RUN + "\nprint(json.dumps(run(sys.argv[1])))\n"


def needs(tool):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def run_in(folder):
    run_training_pipeline(folder / "c.yaml", "model_v2", artifacts_dir=folder / "artifacts")


def process(*arguments, before=()):
    """Run Python with `arguments`, as a child of the command `before`; return its JSON output."""
    return [json.loads(line) for line in run_python(*arguments, before=before).stdout.splitlines()]


def run_python(*arguments, before=()):
    """Run Python as `process` does; return the completed process."""
    done = subprocess.run(
        [*before, sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Two projects: one in which nothing has run, and one with an older model.

    The second one has a wrong evaluation of the new model, which a run replaces.
    """
    folder = tmp_path_factory.mktemp("templates")
    empty, used = folder / "empty", folder / "used"
    make_dataset("dataset_v1", samples=20, datasets_dir=empty / "artifacts/datasets")
    (empty / "c.yaml").write_text(CONFIG)
    shutil.copytree(empty, used)
    run_training_pipeline(used / "c.yaml", "model_v1", artifacts_dir=used / "artifacts")
    stale = used / "artifacts/evaluations/model_v2"
    stale.mkdir()
    (stale / "evaluation.json").write_text("{}\n")
    return {"empty": empty, "used": used}


def encoded(files):
    return {name: text.encode() for name, text in files.items()}


def check_refusal(result, old, after, new, artifacts, leftovers_allowed=False):
    """Check the files `after` a refusal: each is as in `old` or as in `new`."""
    old, after, new = map(without_runs, (old, after, new))
    if result is None:
        assert after == new  # the refusal had no effect
        return
    kinds, text = result
    assert "OSError" in kinds
    assert str(artifacts) in text
    for name, data in old.items():
        if name in ("models/registry.json", "evaluations/model_v2/evaluation.json"):
            assert after[name] in (data, new[name])
        else:
            assert after[name] == data
    leftovers = {name for name in after if Path(name).name.endswith(".tmp")}
    assert not leftovers or leftovers_allowed
    for name in after.keys() - leftovers - old.keys():
        assert after[name] == new[name]
    for name in after:
        if name.endswith(".json"):
            json.loads(after[name])
    # A file is written after the files that it is based on.
    if after.get("models/registry.json") == new["models/registry.json"]:
        assert "models/model_v2/metadata.json" in after
    evaluation = "evaluations/model_v2/evaluation.json"
    if after.get(evaluation) == new[evaluation]:
        assert after["models/registry.json"] == new["models/registry.json"]


# --- Any system call -----------------------------------------------------------------------------


def below_strace(folder, names, *options):
    """Return an strace command that is limited to system calls on the artifacts."""
    paths = {folder / "artifacts"}
    for name in names:
        path = folder / "artifacts" / name
        paths |= {path, path.with_name(f".{path.name}.tmp")}
        paths |= {parent for parent in path.parents if parent.is_relative_to(folder / "artifacts")}
    return strace(folder, paths, *options)


def strace(folder, paths, *options):
    """Return an strace command that is limited to system calls on `paths`."""
    only = [word for path in sorted(paths) for word in ("-P", str(path))]
    quiet = ["-qq", "-e", "signal=none"]  # the end of git, a child process, is a signal
    return ["strace", "-f", *quiet, "-o", str(folder.parent / "trace"), *only, *options]


@needs("strace")
@pytest.mark.parametrize("refusal", REFUSALS if LONG else ["one of them"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", ["empty", "used"] if LONG else ["used"])
def test_a_refused_system_call_damages_no_file_and_the_run_can_be_repeated(
    state, call, refusal, templates, tmp_path, tree
):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    old = tree(templates[state] / "artifacts")

    def reset():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(templates[state], folder)

    reset()
    run_in(folder)
    new = tree(artifacts)
    trace = f"trace={CALLS[call]}"
    reset()
    process("-c", RUN_ONCE, folder, before=below_strace(folder, new, "-e", trace))
    lines = (tmp_path / "trace").read_text()
    reached = max(Counter(re.findall(r"^\d+", lines, re.MULTILINE)).values())
    places = range(1, reached + 1) if LONG else sorted({1, (reached + 1) // 2, reached})
    refused = 0
    for place in places:
        error = refusal if LONG else REFUSALS[(place + len(call)) % len(REFUSALS)]
        inject = f"inject={CALLS[call]}:error={error}:when={place}"
        reset()
        command = below_strace(folder, new, "-e", trace, "-e", inject)
        [result] = process("-c", RUN_ONCE, folder, before=command)
        assert "(INJECTED)" in (tmp_path / "trace").read_text()
        refused += result is not None
        check_refusal(result, old, tree(artifacts), new, artifacts, call == "unlink")
        run_in(folder)
        assert without_runs(tree(artifacts)) == without_runs(new)
    assert refused


@needs("strace")
@pytest.mark.parametrize("place", range(1, 9, 1 if LONG else 2))
def test_a_failed_read_raises_an_i_o_error_and_changes_no_file(place, templates, tmp_path, tree):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    shutil.copytree(templates["used"], folder)
    old = tree(artifacts)
    inject = ["-e", "trace=read", "-e", f"inject=read:error=EIO:when={place}"]
    [result] = process("-c", RUN_ONCE, folder, before=below_strace(folder, old, *inject))
    assert "OSError" in result[0]
    assert "Input/output error" in result[1]
    after = tree(artifacts)
    assert {name: after[name] for name in old} == old
    run_in(folder)
    shutil.copytree(templates["used"], tmp_path / "undisturbed")
    run_in(tmp_path / "undisturbed")
    undisturbed = tree(tmp_path / "undisturbed/artifacts")
    assert without_runs(tree(artifacts)) == without_runs(undisturbed)


@needs("strace")
@pytest.mark.parametrize("name", ["datasets/dataset_v1/data.jsonl", "models/registry.json"])
def test_the_error_of_a_failed_read_names_its_file(name, templates, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(templates["used"], folder)
    path = folder / "artifacts" / name
    inject = ["-e", "trace=read", "-e", "inject=read:error=EIO:when=1"]
    [result] = process("-c", RUN_ONCE, folder, before=strace(folder, [path], *inject))
    assert str(path) in result[1]


# --- Memos ---------------------------------------------------------------------------------------


MEMO_CALLS = {
    "openat": "openat",
    "read": "read",
    "mkdir": "mkdir,mkdirat",
    "write": "write",
    "ftruncate": "ftruncate",
}


@pytest.fixture
def undisturbed(templates, tmp_path, tree):
    """The artifacts of an undisturbed run in a used project."""
    shutil.copytree(templates["used"], tmp_path / "undisturbed")
    run_in(tmp_path / "undisturbed")
    return without_runs(tree(tmp_path / "undisturbed/artifacts"))


@pytest.fixture
def memo(undisturbed, templates, tmp_path, monkeypatch):
    """The memo of the registry of a used project, in a cache folder that does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # after the undisturbed run
    shutil.copytree(templates["used"], tmp_path / "project")
    return (open_path(tmp_path / "project/artifacts") / "models/registry.json").memo()


def run_below(memo, folder, call, injected):
    """Run with all `call`s on the memo changed; return the result and the warnings about memos."""
    paths = [memo, memo.parent, memo.parent.parent]
    inject = ["-e", f"trace={MEMO_CALLS[call]}", "-e", f"inject={MEMO_CALLS[call]}:{injected}"]
    done = run_python("-c", RUN_ONCE, folder, before=strace(folder, paths, *inject))
    assert "(INJECTED)" in (folder.parent / "trace").read_text()
    warnings = [line for line in done.stderr.splitlines() if "memos" in line]
    return json.loads(done.stdout), warnings


@needs("strace")
@pytest.mark.parametrize("refusal", REFUSALS if LONG else ["ENOSPC"])
@pytest.mark.parametrize(
    ("call", "is_known"),
    [
        *((call, True) for call in MEMO_CALLS if call != "mkdir"),  # a known memo has its folder
        *((call, False) for call in MEMO_CALLS),
    ],
)
def test_a_refused_memo_costs_nothing_but_one_warning(
    call, is_known, refusal, memo, undisturbed, tmp_path, tree
):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    if is_known:
        list_models(artifacts / "models/registry.json")
    assert memo.parent.exists() == is_known
    result, warnings = run_below(memo, folder, call, f"error={refusal}")
    assert result is None
    reason = os.strerror(getattr(errno, refusal))
    assert warnings == [
        f"{memo.parent}: memos cannot be written: {reason}. Continuing without them."
    ] * (call != "read")
    assert without_runs(tree(artifacts)) == undisturbed
    run_in(folder)
    assert without_runs(tree(artifacts)) == undisturbed


@needs("strace")
def test_a_partly_written_memo_costs_nothing(memo, undisturbed, tmp_path, tree):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    assert run_below(memo, folder, "write", "retval=9") == (None, [])
    assert without_runs(tree(artifacts)) == undisturbed
    assert memo.read_bytes() == bytes(129)
    run_in(folder)
    assert without_runs(tree(artifacts)) == undisturbed
    assert len(memo.read_bytes()) == 129  # two digests


# --- Full and read-only disks --------------------------------------------------------------------


MOUNTS = (
    RUN
    + """
import os, shutil, subprocess
from pathlib import Path

template, folder = Path(sys.argv[1]), Path(sys.argv[2])
artifacts = folder / "artifacts"

def mount(*options):
    subprocess.run(["mount", *options, str(artifacts)], check=True)

def tree():
    return {
        str(path.relative_to(artifacts)): path.read_bytes().decode()
        for path in sorted(artifacts.rglob("*")) if path.is_file() and path.name != "ballast"
    }

def full_of_data(free):
    mount("-t", "tmpfs", "-o", "size=128k", "none")
    shutil.copytree(template / "artifacts", artifacts, dirs_exist_ok=True)
    with open(artifacts / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            ballast.truncate(ballast.tell() - 4096 * free)
    yield
    (artifacts / "ballast").unlink()

def full_of_names(free):
    used = 1 + sum(1 for _ in (template / "artifacts").rglob("*"))
    mount("-t", "tmpfs", "-o", f"size=1m,nr_inodes={used + free}", "none")
    shutil.copytree(template / "artifacts", artifacts, dirs_exist_ok=True)
    yield
    mount("-o", "remount,nr_inodes=1000")

def read_only(free):
    mount("-t", "tmpfs", "none")
    shutil.copytree(template / "artifacts", artifacts, dirs_exist_ok=True)
    mount("-o", "remount,ro")
    yield
    mount("-o", "remount,rw")

for free in range(int(sys.argv[4])):
    steps = globals()[sys.argv[3]](free)
    next(steps)
    result, after = run(folder), tree()
    next(steps, None)
    print(json.dumps([result, after, run(folder), tree()]), flush=True)
    subprocess.run(["umount", str(artifacts)], check=True)
"""
)


@pytest.fixture(scope="module")
def with_mounts(tmp_path_factory):
    """A command whose child process can mount file systems that no other process sees."""
    command = ["unshare", "--map-root-user", "--mount"]
    probe = [*command, "mount", "-t", "tmpfs", "none", str(tmp_path_factory.mktemp("probe"))]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("mounting is not possible here")
    return command


@pytest.mark.parametrize("state", ["empty", "used"])
@pytest.mark.parametrize(
    ("disk", "sizes"), [("full_of_data", 12), ("full_of_names", 13), ("read_only", 1)]
)
def test_a_full_or_read_only_disk_is_reported_and_a_later_run_completes(
    disk, sizes, state, templates, tmp_path, tree, with_mounts
):
    template, folder = templates[state], tmp_path / "project"
    shutil.copytree(template, folder)
    run_in(folder)
    new = {name: data.decode() for name, data in tree(folder / "artifacts").items()}
    old = {name: data.decode() for name, data in tree(template / "artifacts").items()}
    results = process("-c", MOUNTS, template, folder, disk, sizes, before=with_mounts)
    assert results[0][0] is not None
    assert (
        sizes == 1 or results[-1][0] is None
    )  # the last size suffices, so every smaller one was tried
    for refused, after, again, completed in results:
        check_refusal(refused, *(encoded(each) for each in (old, after, new)), folder / "artifacts")
        assert again is None
        assert without_runs(encoded(completed)) == without_runs(encoded(new))


@needs("chattr")
@pytest.mark.parametrize("name", ["models", "models/registry.json", "evaluations/model_v2"])
def test_an_immutable_file_or_folder_stays_unchanged(name, templates, tmp_path, tree):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    shutil.copytree(templates["used"], tmp_path / "undisturbed")
    run_in(tmp_path / "undisturbed")
    new = tree(tmp_path / "undisturbed/artifacts")
    shutil.copytree(templates["used"], folder)
    old = tree(artifacts)
    if subprocess.run(["chattr", "+i", artifacts / name], capture_output=True).returncode:
        pytest.skip("this user or this file system cannot mark files as immutable")
    try:
        with pytest.raises(PermissionError) as caught:
            run_in(folder)
        after = tree(artifacts)
    finally:
        subprocess.run(["chattr", "-i", artifacts / name], check=True)
    kinds = [kind.__name__ for kind in type(caught.value).__mro__]
    check_refusal((kinds, str(caught.value)), old, after, new, artifacts)
    run_in(folder)
    assert without_runs(tree(artifacts)) == without_runs(new)


# --- A held lock ---------------------------------------------------------------------------------


HOLD_LOCK = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1], preserve_lock_file=True):
    print("held", flush=True)
    input()
"""
RUN_WITH_TIMEOUT = RUN + "\nback_end.LOCK_TIMEOUT_SECONDS = float(sys.argv[2])\n"
RUN_WITH_TIMEOUT += "print(json.dumps(run(sys.argv[1])))\n"


@pytest.mark.parametrize("seconds", [0.2, 60.0] if LONG else [0.2])
@pytest.mark.parametrize(
    "lock",
    [
        "models/registry.json.lock",
        "models/.registry.json.tmp",
        "models/model_v2/.metadata.json.tmp",
        "models/model_v2/.provenance.json.tmp",
        "evaluations/model_v2/.provenance.json.tmp",
        "evaluations/model_v2/.evaluation.json.tmp",
    ],
)
def test_a_lock_held_too_long_is_named_and_a_later_run_completes(
    lock, seconds, templates, tmp_path, tree, start
):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    shutil.copytree(templates["used"], tmp_path / "undisturbed")
    run_in(tmp_path / "undisturbed")
    new = tree(tmp_path / "undisturbed/artifacts")
    shutil.copytree(templates["used"], folder)
    old = tree(artifacts)
    (artifacts / lock).parent.mkdir(exist_ok=True)
    holder = start(HOLD_LOCK, artifacts / lock)
    assert holder.hear() == "held"
    [(kinds, text)] = process("-c", RUN_WITH_TIMEOUT, folder, seconds)
    assert kinds[0] == "TimeoutError"
    assert text == (
        f"{artifacts / lock}: locked by other processes for more than {seconds:g} s. "
        "Nothing was written; find those processes, then try again."
    )
    check_refusal((kinds, text), old, tree(artifacts), new, artifacts, leftovers_allowed=True)
    holder.say()
    holder.end()
    run_in(folder)
    assert without_runs(tree(artifacts)) == without_runs(new)
