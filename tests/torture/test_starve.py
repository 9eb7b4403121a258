"""A machine that refuses: every system call of a run fails once, in a process of its own."""

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
from src.training.pipeline import run_training_pipeline
from tests.examples import CONFIG, without_runs

LONG = os.environ.get("TORTURE") == "long"
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
from src import storage
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
    """Run Python on `arguments`, below the command `before`; give what it printed as JSON."""
    done = subprocess.run(
        [*before, sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Two projects: one in which nothing ran yet, and one with an older model in the record.

    In the latter the new model has an evaluation that is not its own, which a run replaces.
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
    """Check what a run left that was refused something: `after`, between `old` and `new`."""
    old, after, new = map(without_runs, (old, after, new))
    if result is None:
        assert after == new  # the refusal was of no account
        return
    kinds, text = result
    assert "OSError" in kinds
    assert str(artifacts) in text
    for name, data in old.items():
        if name in ("models/registry.json", "evaluations/model_v2/evaluation.json"):
            assert after[name] in (data, new[name])
        else:
            assert after[name] == data
    drafts = {name for name in after if Path(name).name.endswith(".tmp")}
    assert not drafts or leftovers_allowed
    for name in after.keys() - drafts - old.keys():
        assert after[name] == new[name]
    for name in after:
        if name.endswith(".json"):
            json.loads(after[name])
    # What a record promises was there before the promise.
    if after.get("models/registry.json") == new["models/registry.json"]:
        assert "models/model_v2/metadata.json" in after
    evaluation = "evaluations/model_v2/evaluation.json"
    if after.get(evaluation) == new[evaluation]:
        assert after["models/registry.json"] == new["models/registry.json"]


# --- Any system call -----------------------------------------------------------------------------


def below_strace(folder, names, *options):
    """Give the command that traces, and changes, only what a run does to its artifacts."""
    paths = {folder / "artifacts"}
    for name in names:
        path = folder / "artifacts" / name
        paths |= {path, path.with_name(f".{path.name}.tmp")}
        paths |= {parent for parent in path.parents if parent.is_relative_to(folder / "artifacts")}
    only = [word for path in sorted(paths) for word in ("-P", str(path))]
    quiet = ["-qq", "-e", "signal=none"]  # git is a child, and its end a signal
    return ["strace", "-f", *quiet, "-o", str(folder.parent / "trace"), *only, *options]


@needs("strace")
@pytest.mark.parametrize("refusal", REFUSALS if LONG else ["one of them"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", ["empty", "used"] if LONG else ["used"])
def test_a_system_call_that_is_refused_costs_nothing_but_the_run(
    state, call, refusal, templates, tmp_path, tree
):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    old = tree(templates[state] / "artifacts")

    def afresh():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(templates[state], folder)

    afresh()
    run_in(folder)
    new = tree(artifacts)
    trace = f"trace={CALLS[call]}"
    afresh()
    process("-c", RUN_ONCE, folder, before=below_strace(folder, new, "-e", trace))
    lines = (tmp_path / "trace").read_text()
    reached = max(Counter(re.findall(r"^\d+", lines, re.MULTILINE)).values())
    places = range(1, reached + 1) if LONG else sorted({1, (reached + 1) // 2, reached})
    refused = 0
    for place in places:
        error = refusal if LONG else REFUSALS[(place + len(call)) % len(REFUSALS)]
        inject = f"inject={CALLS[call]}:error={error}:when={place}"
        afresh()
        command = below_strace(folder, new, "-e", trace, "-e", inject)
        [result] = process("-c", RUN_ONCE, folder, before=command)
        assert "(INJECTED)" in (tmp_path / "trace").read_text()
        refused += result is not None
        check_refusal(result, old, tree(artifacts), new, artifacts, call == "unlink")
        run_in(folder)
        assert without_runs(tree(artifacts)) == without_runs(new)
    assert refused


@needs("strace")
@pytest.mark.parametrize("refusal", REFUSALS if LONG else ["ENOSPC"])
@pytest.mark.parametrize("call", ["fgetxattr", "fsetxattr"])
def test_a_seal_that_is_refused_changes_nothing(call, refusal, templates, tmp_path, tree):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    shutil.copytree(templates["used"], tmp_path / "undisturbed")
    run_in(tmp_path / "undisturbed")
    new = tree(tmp_path / "undisturbed/artifacts")
    shutil.copytree(templates["used"], folder)
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={refusal}"]
    [result] = process("-c", RUN_ONCE, folder, before=below_strace(folder, new, *inject))
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    assert result is None
    assert without_runs(tree(artifacts)) == without_runs(new)


@needs("strace")
@pytest.mark.parametrize("place", range(1, 9, 1 if LONG else 2))
def test_a_read_that_fails_is_an_i_o_error_that_leaves_the_record_as_it_was(
    place, templates, tmp_path, tree
):
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
def test_a_read_that_fails_names_its_file(name, templates, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(templates["used"], folder)
    path = folder / "artifacts" / name
    command = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-P", str(path)]
    command += ["-e", "trace=read", "-e", "inject=read:error=EIO:when=1"]
    [result] = process("-c", RUN_ONCE, folder, before=command)
    assert str(path) in result[1]


# --- A disk that is full, or only to be read -----------------------------------------------------


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
    copy = shutil.copyfile  # without the registry's seal: it counts as a name here
    shutil.copytree(template / "artifacts", artifacts, dirs_exist_ok=True, copy_function=copy)
    yield
    mount("-o", "remount,nr_inodes=1000")

def only_to_be_read(free):
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
    """Give the command below which a process may mount what it likes, seen by nobody else."""
    command = ["unshare", "--map-root-user", "--mount"]
    probe = [*command, "mount", "-t", "tmpfs", "none", str(tmp_path_factory.mktemp("probe"))]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("mounting is not possible here")
    return command


@pytest.mark.parametrize("state", ["empty", "used"])
@pytest.mark.parametrize(
    ("what", "sizes"), [("full_of_data", 12), ("full_of_names", 13), ("only_to_be_read", 1)]
)
def test_a_file_system_that_gives_no_more_is_reported_and_the_run_completes_once_it_does(
    what, sizes, state, templates, tmp_path, tree, with_mounts
):
    template, folder = templates[state], tmp_path / "project"
    shutil.copytree(template, folder)
    run_in(folder)
    new = {name: data.decode() for name, data in tree(folder / "artifacts").items()}
    old = {name: data.decode() for name, data in tree(template / "artifacts").items()}
    results = process("-c", MOUNTS, template, folder, what, sizes, before=with_mounts)
    assert results[0][0] is not None
    assert sizes == 1 or results[-1][0] is None  # so every size in between was tried
    for refused, after, again, completed in results:
        check_refusal(refused, *(encoded(each) for each in (old, after, new)), folder / "artifacts")
        assert again is None
        assert without_runs(encoded(completed)) == without_runs(encoded(new))


@needs("chattr")
@pytest.mark.parametrize("name", ["models", "models/registry.json", "evaluations/model_v2"])
def test_what_is_marked_immutable_stays_as_it_was(name, templates, tmp_path, tree):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    shutil.copytree(templates["used"], tmp_path / "undisturbed")
    run_in(tmp_path / "undisturbed")
    new = tree(tmp_path / "undisturbed/artifacts")
    shutil.copytree(templates["used"], folder)
    old = tree(artifacts)
    if subprocess.run(["chattr", "+i", artifacts / name], capture_output=True).returncode:
        pytest.skip("this user, or this file system, marks nothing immutable")
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


# --- A lock that nobody lets go ------------------------------------------------------------------


HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1], preserve_lock_file=True):
    print("held", flush=True)
    input()
"""
WAIT = RUN + "\nstorage.LOCK_TIMEOUT_SECONDS = float(sys.argv[2])\n"
WAIT += "print(json.dumps(run(sys.argv[1])))\n"


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
def test_a_lock_held_too_long_is_named_and_the_run_completes_once_it_is_free(
    lock, seconds, templates, tmp_path, tree, start
):
    folder, artifacts = tmp_path / "project", tmp_path / "project/artifacts"
    shutil.copytree(templates["used"], tmp_path / "undisturbed")
    run_in(tmp_path / "undisturbed")
    new = tree(tmp_path / "undisturbed/artifacts")
    shutil.copytree(templates["used"], folder)
    old = tree(artifacts)
    (artifacts / lock).parent.mkdir(exist_ok=True)
    holder = start(HOLD, artifacts / lock)
    assert holder.hear() == "held"
    [(kinds, text)] = process("-c", WAIT, folder, seconds)
    assert kinds[0] == "TimeoutError"
    assert text.startswith(f"{artifacts / lock}: another process has held this lock for more than")
    check_refusal((kinds, text), old, tree(artifacts), new, artifacts, leftovers_allowed=True)
    holder.say()
    holder.end()
    run_in(folder)
    assert without_runs(tree(artifacts)) == without_runs(new)
