"""Requests to the API of a Prefect server, about one work pool and its runs.

Uses httpx: importing Prefect's client takes more than a second.
"""

from base64 import b64encode
from datetime import datetime
from typing import Any

import httpx

from ops.runs import ACTIVE, Run

__all__ = ["Api"]

REJECTED = "REJECT"  # by the server: the run is Cancelling, and can only become Cancelled
ABORTED = "ABORT"  # by the server: the run has ended
REQUEST_SECONDS = 60.0  # on a busy machine
TABLE_KEY = "models"  # as in `flows.report`, which updates this artifact


class Api:
    """A client of the API.

    All methods raise `httpx.HTTPError` if the server cannot be reached or refuses the request.
    """

    def __init__(self, url: str, auth_string: str, pool: str) -> None:
        credentials = b64encode(auth_string.encode()).decode()  # as Prefect, also without a colon
        self._pool = pool
        self._named = {"name": {"any_": [pool]}}
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Basic {credentials}"},
            timeout=REQUEST_SECONDS,
            trust_env=False,
        )

    def limit_requests(self, seconds: float) -> None:
        """Wait at most so long for the answer to each request from now on."""
        self._client.timeout = httpx.Timeout(seconds)

    def create_pool(self, template: dict[str, Any]) -> None:
        """Create the work pool, or replace its job template if that differs."""
        found = self._read_pool()
        if not found:
            body = {"name": self._pool, "type": "process", "base_job_template": template}
            self._request("POST", "/work_pools/", body)
        elif found["base_job_template"] != template:
            self._update_pool(base_job_template=template)

    def is_paused(self) -> bool:
        """Return whether the work pool is paused. Workers get no runs of a paused pool."""
        return bool(self._read_pool()["is_paused"])

    def pause(self, is_paused: bool) -> None:
        """Pause or resume the work pool."""
        self._update_pool(is_paused=is_paused)

    def has_polled(self, worker_name: str, since: datetime) -> bool:
        """Return whether a worker has asked for runs of the work pool after `since`."""
        workers = self._request("POST", f"/work_pools/{self._pool}/workers/filter", {})
        return any(
            worker["name"] == worker_name
            and datetime.fromisoformat(worker["last_heartbeat_time"]) > since
            for worker in workers
        )

    def active_runs(self) -> list[Run]:
        """Return the runs of the work pool that are Pending, Running or Cancelling."""
        return self._active_runs({"work_pools": self._named})

    def active_runs_without_worker(self) -> list[Run]:
        """Return the active runs that belong to no deployment, such as those in a terminal."""
        return self._active_runs({}, deployment_id={"is_null_": True})

    def _active_runs(self, wanted: dict[str, Any], **of_run: Any) -> list[Run]:
        filters = {**wanted, "flow_runs": {"state": {"type": {"any_": ACTIVE}}, **of_run}}
        found = self._request("POST", "/flow_runs/filter", filters)
        return [Run.from_response(run) for run in found]

    def crash(self, run: Run, message: str) -> None:
        """Mark a run as Crashed, or as Cancelled if it is Cancelling; not if it has ended."""
        if self._set_state(run, "CRASHED", message) == REJECTED:
            self._set_state(run, "CANCELLED", message)

    def cancel(self, run: Run, message: str) -> None:
        """Mark a run as Cancelled; not if it has ended."""
        # The server accepts Cancelled for a run that has ended, too.
        if self._set_state(run, "CANCELLING", message) != ABORTED:
            self._set_state(run, "CANCELLED", message)

    def models_table(self) -> str:
        """Return the id of the table of all models; create an empty table if there is none.

        Runs update this artifact in place, so its page shows the newest table; the page of its key
        lists only ids.
        """
        newest = {"artifacts": {"key": {"any_": [TABLE_KEY]}}, "sort": "CREATED_DESC", "limit": 1}
        found = self._request("POST", "/artifacts/filter", newest)
        if not found:
            empty = {"key": TABLE_KEY, "type": "table", "data": "[]"}
            empty["description"] = "No models yet."
            found = [self._request("POST", "/artifacts/", empty)]
        return str(found[0]["id"])

    def _read_pool(self) -> dict[str, Any]:
        wanted = {"work_pools": self._named}
        found: list[dict[str, Any]] = self._request("POST", "/work_pools/filter", wanted)
        return found[0] if found else {}

    def _update_pool(self, **values: Any) -> None:
        self._request("PATCH", f"/work_pools/{self._pool}", values)

    def _set_state(self, run: Run, state: str, message: str) -> str:
        path = f"/flow_runs/{run.id}/set_state"
        body = {"state": {"type": state, "message": message}}
        return str(self._request("POST", path, body)["status"])

    def _request(self, method: str, path: str, body: dict[str, Any]) -> Any:
        response = self._client.request(method, path, json=body)
        response.raise_for_status()
        return response.json() if response.content else None
