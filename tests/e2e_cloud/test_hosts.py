"""Many machines: hosts that share a Prefect server, a git server and a bucket, and no folder."""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from ops.recovery import CRASHED_ONCE
from tests.checkout import ROOT, copy_project, git, new_repository
from tests.docs import blocks
from tests.e2e.conftest import FINAL, Platform, Process, eventually
from tests.e2e.test_operations import QUICK_RECOVERY
from tests.e2e_cloud.network import private_network
from tests.e2e_cloud.servers import running_store
from tests.network import free_port

CONFIGS = 20
RUNS = 3 * CONFIGS
CUT_SECONDS = 10


@pytest.fixture
def folder():
    """A folder that the user of PostgreSQL may enter, unlike the folders of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def project(folder):
    """A repository of the project, with further configs."""
    project = copy_project(folder / "project")
    template = (project / "configs/training/mistral_finetune.yaml").read_text()
    for n in range(CONFIGS):
        changed = re.sub("learning_rate: .*", f"learning_rate: {n + 1}e-6", template)
        (project / f"configs/training/host_{n}.yaml").write_text(changed)
    return new_repository(project)


@contextmanager
def running(command, log, **options):
    """Run a server that ends with the block, and with this process."""
    server = Process(["setpriv", "--pdeathsig", "KILL", *command], log, **options)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)


@contextmanager
def running_postgres(folder):
    """Start PostgreSQL; yield the address of an empty database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    data, port, user = folder / "postgres", free_port(), []
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        account = pwd.getpwnam("postgres")
        os.chown(data, account.pw_uid, account.pw_gid)
        user = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
    subprocess.run(
        ["setpriv", *user, programs / "initdb", "-D", data, "-U", "prefect", "-A", "trust"],
        cwd=data,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": data}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [*user, str(programs / "postgres"), "-D", str(data), *options]
    at = ["--host", "127.0.0.1", "--port", str(port), "--username", "prefect"]
    with running(command, folder / "postgres.log", cwd=data):
        eventually(lambda: subprocess.run([programs / "pg_isready", "-q", *at]).returncode == 0)
        subprocess.run([programs / "createdb", *at, "prefect"], check=True)
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"


class Host:
    """A machine of a team: a home, variables, a network.

    Args:
        folder: What it has on its disk.
        enter: The words that run a command in its network.
        variables: Its settings.
    """

    def __init__(self, folder, enter, variables):
        self.folder, self._enter = folder, enter
        for name in ("home", "tmp", "work"):
            (folder / name).mkdir(parents=True)
        self._env = {
            "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "PREFECT_HOME": str(folder / "home/.prefect"),
            **variables,
        }

    def run(self, *command, **variables):
        """Run a command; return what it prints."""
        done = subprocess.run(
            [*self._enter, *command],
            cwd=self.folder / "work",
            env=self._env | variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_worker(self, name):
        """Start a worker as the document says, with a name."""
        [block] = [each for each in blocks("operations.md") if each.title == "On another host"]
        assert block.text.endswith(" --limit 2\n")
        worker = Process(
            [*self._enter, "bash", "-c", f"{block.text.strip()} --name '{name}'"],
            self.folder / "worker.log",
            cwd=self.folder / "work",
            env=self._env,
        )
        eventually(lambda: "started!" in worker.output())
        return worker


def deploy(platform, repository):
    """Deploy the flows for workers that clone the project."""
    text = (platform.project / "prefect.yaml").read_text()
    pull = {"prefect.deployments.steps.git_clone": {"repository": repository}}
    (platform.project / "prefect-clone.yaml").write_text(f"{text}\npull: {json.dumps([pull])}\n")
    pool = ["work-pool", "create", "--type", "process", "training"]
    template = str(platform.project / "ops/base_job_template.json")
    platform.prefect(*pool, "--base-job-template", template)
    arguments = ["deploy", "--all", "--prefect-file", "prefect-clone.yaml"]
    platform.prefect(*arguments, cwd=platform.project)
    subprocess.run(
        [sys.executable, "-c", QUICK_RECOVERY], cwd=platform.project, env=platform.env, check=True
    )


def start_runs(platform, root):
    """Start all runs; every second one is given the root, the others find it on their host."""
    deployment = platform.deployment("training-pipeline/train")["id"]
    ids = []
    for n in range(RUNS):
        parameters = {"training_config_path": f"configs/training/host_{n % CONFIGS}.yaml"}
        if n % 2:
            parameters["artifacts_dir"] = root
        path = f"deployments/{deployment}/create_flow_run"
        ids.append(platform.post(path, parameters=parameters)["id"])
    return ids


def states(platform, ids):
    """Return the number of runs in each final state, and of the others, as `active`."""
    runs = platform.post("flow_runs/filter", flow_runs={"id": {"any_": ids}})
    assert len(runs) == len(ids)

    def name(run):
        # A run that crashed for the first time is scheduled once more.
        is_final = run["state_type"] in FINAL and run["state_name"] != CRASHED_ONCE
        return run["state_name"] if is_final else "active"

    return Counter(map(name, runs))


def test_hosts_without_a_common_folder_share_a_bucket(folder, project, monkeypatch):
    with (
        private_network() as network,
        running_store("ministack", new(folder / "store"), host=network.server) as store,
        running_postgres(folder) as database,
    ):
        for name, value in store.variables.items():
            monkeypatch.setenv(name, value)
        port, root = free_port(), f"{store.url}/team"
        daemon = [f"--listen={network.server}", f"--port={port}", f"--base-path={folder}"]
        settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
        platform = Platform(new(folder / "server"), project, host=network.server, settings=settings)
        variables = {
            "BUCKET": "bucket",
            "PREFECT_API_URL": platform.env["PREFECT_API_URL"],
            "PREFECT_API_AUTH_STRING": platform.env["PREFECT_API_AUTH_STRING"],
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            **store.variables,
        }
        hosts = {
            name: Host(folder / name, network.new_host(name), variables)
            for name in ("host-1", "host-2")
        }
        workers = {}
        third = Host(folder / "third", [], variables)
        repository = f"git://{network.server}:{port}/project/.git"
        try:
            with running(["git", "daemon", "--export-all", *daemon], folder / "git.log"):
                clone = third.folder / "clone"
                eventually(lambda: is_cloned(repository, clone))
                data = project / "artifacts/datasets/dataset_v1/data.jsonl"
                llm_train(third, "dataset", "add", str(data), "dataset_v1")
                deploy(platform, repository)
                ids = start_runs(platform, root)
                for name, host in hosts.items():
                    workers[name] = host.start_worker(f"worker of {name}")
                ended = disturb_and_wait(platform, network, ids, workers["host-1"])
        finally:
            for worker in workers.values():
                worker.kill()
            platform.stop()
        assert ended == {"Completed": RUNS}
        check_record(git(project, "rev-parse", "HEAD").strip(), network.is_private)
        verdicts = json.loads(llm_train(third, "verify", "--all", "--json"))
        assert [each["verdict"] for each in verdicts] == ["MATCH"] * CONFIGS
        is_private = network.is_private
    if not is_private:
        pytest.skip("no host's network was cut: it needs namespaces, and root. All else holds.")


def new(folder):
    folder.mkdir()
    return folder


def is_cloned(repository, folder):
    return subprocess.run(["git", "clone", "--quiet", repository, folder]).returncode == 0


def llm_train(host, *arguments):
    """Run a command with the code of the host's clone."""
    code = str(host.folder / "clone")
    start = "from cli.entry import main; main()"
    variables = {"PYTHONPATH": code, "LLM_TRAIN_ARTIFACTS": "s3://bucket/team"}
    return host.run(sys.executable, "-c", start, *arguments, **variables)


def disturb_and_wait(platform, network, ids, first_worker):
    """Cut a network, and kill a worker, in the middle of the runs; return the final states."""

    def wait_for(completed):
        eventually(lambda: states(platform, ids)["Completed"] >= completed, seconds=1800, every=2)

    wait_for(CONFIGS // 4)
    if network.is_private:
        network.cut("host-2")
        time.sleep(CUT_SECONDS)
        network.reconnect("host-2")
    wait_for(CONFIGS // 2)
    first_worker.kill()
    eventually(lambda: not states(platform, ids)["active"], seconds=1800, every=2)
    return states(platform, ids)


def check_record(commit, is_private):
    """Check that each config has one version, made by the code that the hosts have cloned."""
    # By boto3: the threads of obstore could be those of another test, in another network.
    client = boto3.client("s3")  # from the variables

    def read(key):
        return json.loads(client.get_object(Bucket="bucket", Key=f"team/{key}")["Body"].read())

    versions = [model["model_version"] for model in read("models/registry.json")["models"]]
    assert len(versions) == len(set(versions)) == CONFIGS
    places = set()
    for version in versions:
        build = read(f"models/{version}/provenance.json")["predicate"]["buildDefinition"]
        digests = [each.get("digest") for each in build["resolvedDependencies"]]
        assert {"gitCommit": commit} in digests
        places.add((build["internalParameters"]["host"], build["internalParameters"]["worker"]))
        read(f"evaluations/{version}/evaluation.json")
    here = os.uname().nodename
    hosts = ("host-1", "host-2") if is_private else (here, here)
    assert places == {(hosts[0], "worker of host-1"), (hosts[1], "worker of host-2")}
