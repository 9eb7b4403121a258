"""Soak of `make up`: runs are queued at random while server, worker and flow processes are killed.

    python -m tests.torture.soak [--seconds 900] [--kills 20] [--seed 1]

Runs are started by the form, for a later time, by an event that names a config, by one that names a
dataset, and by cron each minute. A `make up` that ends because its server or worker was killed is
started again. At the end no run is active or has failed, no process is left, every config has one
model, which verifies, and the logs have no error or warning but those of `EXPECTED`.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.make_dataset import make_dataset
from ops.runs import processes
from tests.checkout import ROOT, copy_project
from tests.e2e.conftest import Process, descendants, registered
from tests.network import STARTUP_SECONDS, free_port

NIGHTLY = "configs/training/mistral_finetune.yaml"  # trained by cron
VARIANTS = 6  # of this config
DATASET = "dataset_soak"  # of half of the variants
QUEUED = 4  # no further run is started while so many wait
DRAIN_SECONDS = 900.0
WAITING_OR_ACTIVE = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")
UNFINISHED = {
    "deployments": {"name": {"any_": ["train", "on-dataset", "configs"]}},
    "flow_runs": {"state": {"type": {"any_": WAITING_OR_ACTIVE}}},
}
LEVELS = re.compile(r"\| (ERROR|WARNING|CRITICAL) +\| ")
LOST_SERVER = "the server was killed, and the worker or a run lost it"
LOST_LEASE = (
    "the server was killed, and released the slot of a run without the lease it had in memory"
)
LOST_EVENT = "the server was killed, and lost the event that a run had ended"
KILLED_RUN = "the process of a run was killed; the flows have no hooks for crashes"
CANCELLED_RUN = "a run was cancelled at the end of `make up`"
# Each kind of line that may have a level of WARNING or above, with its reason.
EXPECTED = {
    r"prefect\.FlowRun\w+Observer - The \w+ websocket failed with an exception\.": LOST_SERVER,
    r"prefect\.events\.clients - Unable to connect to 'ws://[0-9.:]+/api/events/in'": LOST_SERVER,
    r"Service 'EventsWorker' failed to process item Event\(.*event='prefect\.worker\.": LOST_SERVER,
    r" - Failed to update state of flow run '": LOST_SERVER,
    r"core_policy - Lease [0-9a-f-]+ not found during release": LOST_LEASE,
    r"actions - Action failed: 'Failed to set state: Run is already in terminal state": LOST_EVENT,
    r"Runner failed to retrieve flow to execute on_crashed hooks for flow run ": KILLED_RUN,
    r"Flow run '.*' - Process exited with status code: -9": KILLED_RUN,
    r"(Flow|Task) run '.*' - (Crash detected! |Finished in state (Crashed|Cancel))": CANCELLED_RUN,
}


class Soak:
    """A `make up` in a copy of the project: start runs, kill processes, check the end."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.rng = rng
        self.project = copy_project(folder / "project")
        (self.project / ".venv").symlink_to(ROOT / ".venv")
        self.home = self.project / ".prefect"
        self._folder = folder
        self._port = free_port()
        env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        self._env = env | {"HOME": str(folder), "PREFECT_HOME": str(self.home)}
        make_dataset(DATASET, samples=1000, datasets_dir=self.project / "artifacts/datasets")
        template = (self.project / NIGHTLY).read_text()
        self.configs = [NIGHTLY]
        for n in range(VARIANTS):
            changed = re.sub("learning_rate: .*", f"learning_rate: {n + 1}e-6", template)
            if n % 2:
                changed = changed.replace("dataset_v1", DATASET)
            self.configs.append(f"configs/training/soak_{n}.yaml")
            (self.project / self.configs[-1]).write_text(changed)
        deployments = self.project / "prefect.yaml"  # nightly: each minute; audit: each third
        text = deployments.read_text().replace("0 2 * * *", "* * * * *")
        deployments.write_text(text.replace("0 4 * * *", "*/3 * * * *"))
        self.kills: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.up: Process | None = None

    def start(self) -> None:
        """Start `make up`, and wait until it is ready."""
        number = len(list(self._folder.glob("up-*.log")))
        self.up = Process(
            [sys.executable, "-m", "ops.up", "--port", str(self._port)],
            self._folder / f"up-{number:02}.log",
            cwd=self.project,
            env=self._env,
        )
        deadline = time.monotonic() + STARTUP_SECONDS
        while "Ready." not in self.up.output():
            assert self.up.process.poll() is None, self.up.output()
            assert time.monotonic() < deadline, self.up.output()
            time.sleep(0.2)
        [auth] = re.findall(r"asks for a login. Enter: (admin):(\S+)\n", self.up.output())
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}/api/", auth=auth, timeout=60
        )

    def keep_running(self) -> None:
        """Start `make up` again if it has ended."""
        assert self.up
        if self.up.process.poll() is not None:
            self.keep_log()
            self.start()

    def keep_log(self) -> None:
        """Copy the log of the server, which the next server replaces."""
        assert self.up
        shutil.copy(self.home / "server.log", self._folder / f"server-{self.up.log.name}")

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request; return the JSON of the response, `None` if there is no server."""
        try:
            response = self.api.request(method, path, json=body)
        except httpx.HTTPError:
            return None
        assert response.status_code != httpx.codes.SERVICE_UNAVAILABLE, response.text
        assert response.is_success, response.text
        return response.json() if response.content else None

    def unfinished(self) -> int | None:
        """Count the runs, without those of cron, that have not ended; `None` without a server."""
        return self.request("POST", "flow_runs/count", UNFINISHED)

    def queue(self, config: str, kind: str) -> bool:
        """Start a run by the request of the UI's form, for a later time, or by an event.

        Returns:
            Whether the server answered.
        """
        parameters = {"training_config_path": config}
        deployment = self.request("GET", "deployments/name/training-pipeline/train")
        if deployment is None:
            return False
        if kind == "dataset":
            self._send_event(f"dataset.{DATASET}", {"dataset_version": DATASET})
        elif kind == "config":
            self._send_event("training-config.soak", parameters)
        else:
            body: dict[str, Any] = {"parameters": deployment["parameters"] | parameters}
            if kind == "later":
                at = datetime.now(UTC) + timedelta(seconds=5)
                details = {"scheduled_time": at.isoformat()}
                body["state"] = {"type": "SCHEDULED", "state_details": details}
            self.request("POST", f"deployments/{deployment['id']}/create_flow_run", body)
        self.starts[kind] += 1
        return True

    def _send_event(self, resource: str, payload: dict[str, str]) -> None:
        event = {
            "occurred": datetime.now(UTC).isoformat(),
            "event": "dataset.published",
            "resource": {"prefect.resource.id": resource},
            "payload": payload,
            "id": str(uuid4()),
        }
        self.request("POST", "events", [event])

    def kill(self) -> bool:
        """Kill the server, the worker or the process of a run, whichever was killed least often.

        Returns:
            Whether there was such a process.
        """
        assert self.up
        kinds: dict[str, list[int]] = {"server": [], "worker": [], "flow run": []}
        for process in descendants(self.up.process.pid):
            with suppress(OSError):
                command = Path(f"/proc/{process}/cmdline").read_text()
                kind = "server" if "uvicorn" in command else "flow run"
                kinds["worker" if "worker\0start" in command else kind].append(process)
        kind = min(kinds, key=lambda kind: self.kills[kind])
        with suppress(IndexError, ProcessLookupError):  # there is none yet
            os.kill(self.rng.choice(kinds[kind]), signal.SIGKILL)
            self.kills[kind] += 1
            return True
        return False

    def drain(self) -> None:
        """Wait until no run is active or waits."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (count := self.unfinished()) != 0:
            assert time.monotonic() < deadline, f"not ended: {count} runs"
            self.keep_running()
            time.sleep(2)

    def stop(self) -> None:
        """End `make up` by SIGINT."""
        assert self.up
        self.up.process.send_signal(signal.SIGINT)
        assert self.up.process.wait(120) == 0, self.up.output()
        self.keep_log()

    def final_states(self) -> Counter[str]:
        """Check that every run has ended and none has failed; return the number of each state."""
        with closing(sqlite3.connect(self.home / "prefect.db")) as database:
            states = database.execute(
                "select state_type, state_name from flow_run where state_type != 'SCHEDULED'"
            ).fetchall()
        assert {state for state, _ in states} <= {"COMPLETED", "CRASHED", "CANCELLED"}, states
        return Counter(name for _, name in states)

    def check(self) -> Counter[str]:
        """Check processes, models and logs at the end; return the number of each expected line."""
        left = [
            p.pid for p in processes() if (p.environ or {}).get("PREFECT_HOME") == str(self.home)
        ]
        assert left == []
        learning_rates = {
            json.loads(path.read_text())["training_config"]["learning_rate"]
            for path in (self.project / "artifacts/models").glob("*/metadata.json")
        }
        assert len(learning_rates) == len(self.configs), learning_rates
        assert len(registered(self.project)) == len(self.configs)
        llm_train = [sys.executable, "-c", "from cli.main import main; main()", "verify", "--all"]
        done = subprocess.run(
            llm_train, cwd=self.project, env=self._env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr  # 0: all match
        found: Counter[str] = Counter()
        unexpected = []
        logs = [path.read_text(errors="replace") for path in sorted(self._folder.glob("*.log"))]
        for line in "\n".join(logs).splitlines():
            if LEVELS.search(line):
                reasons = [why for what, why in EXPECTED.items() if re.search(what, line)]
                found.update(reasons[:1])
                unexpected += [] if reasons else [line]
        assert unexpected == [], "\n".join(unexpected)
        return found


def main(argv: list[str] | None = None) -> int:
    """Run the soak.

    Returns:
        0. A failed check raises AssertionError, and leaves the folder.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    sys.stdout.write(f"Folder: {folder}\n")
    sys.stdout.flush()
    soak = Soak(folder, random.Random(arguments.seed))
    soak.start()
    try:
        started = time.monotonic()
        killed = 0
        while (
            passed := time.monotonic() - started
        ) < arguments.seconds or killed < arguments.kills:
            soak.keep_running()
            if (count := soak.unfinished()) is not None and count < QUEUED:
                kind = soak.rng.choice(["form", "later", "config", "dataset"])
                soak.queue(soak.rng.choice(soak.configs), kind)
            if killed < arguments.kills and passed > (killed + 1) * arguments.seconds / (
                arguments.kills + 1
            ):
                killed += soak.kill()
            time.sleep(soak.rng.uniform(0.5, 2))
        for config in soak.configs:  # a run that was cancelled or killed twice is not tried again
            while not soak.queue(config, "form"):
                soak.keep_running()
                time.sleep(1)
        soak.drain()
        soak.stop()
        states = soak.final_states()
        lines = soak.check()
    finally:
        if soak.up:
            soak.up.kill()
    sys.stdout.write(
        f"Started: {dict(soak.starts)}. Killed: {dict(soak.kills)}. Ended: {dict(states)}.\n"
        f"Expected errors and warnings: {dict(lines)}.\n"
    )
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
