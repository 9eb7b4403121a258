"""Checks of Prefect's side of a set-up: its settings, server, deployments and workers.

Prefect is imported only if a server may be configured. Credentials are sent to that server, and
never printed.
"""

import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ops.answer import NOT_PREFECT, Answer, AnswerError, LoginError, Server, expected_form
from ops.deployments import Deployment, compare_deployments, expected_deployments
from ops.server import ROOT
from src.diagnosis.finding import Finding, fault, ok, run_check, warning
from src.rendering.text import one_line, truncated_list
from src.storage import read_file

__all__ = [
    "check_prefect",
    "check_server",
    "clock_finding",
    "home_finding",
    "place_of",
    "version_finding",
    "worker_finding",
]

SECONDS = 5.0  # for each check of the server
CLOCK_SECONDS = 60.0
FIRST_YEAR = 2024  # an earlier clock was never set
SOURCE_LIMIT = 1 << 20  # bytes of prefect.yaml, and of the module of a flow
START = "Start the server, or set PREFECT_API_URL to another one; the URL ends with /api."
LOOK = "Look at the log of the server."
LOGIN = "Set PREFECT_API_AUTH_STRING to `USER:PASSWORD` of this server."
TEMPORARY = "none configured: each command starts a temporary one. `make up` starts one for many."
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}[\w.+-]{0,40}", re.ASCII)


def check_prefect(on_load: Callable[[], None] = lambda: None) -> Iterator[Finding]:
    """Check Prefect's settings and, if there is one, the server.

    Args:
        on_load: Called before Prefect is imported, which takes seconds.
    """
    try:
        from tasks.settings import active_profile, has_no_server  # configures Prefect

        profile = active_profile(os.environ)
    except (OSError, ValueError) as error:
        yield fault("prefect", str(error))
        yield clock_finding(datetime.now(UTC), None)
        return
    if has_no_server(os.environ, profile, Path.cwd()):
        home = os.environ.get("PREFECT_HOME") or str(Path.home() / ".prefect")
        yield home_finding(Path(home).expanduser(), profile.name)
        yield ok("server", TEMPORARY)
        yield clock_finding(datetime.now(UTC), None)
        return
    on_load()
    yield from _check_configured()


def home_finding(home: Path, profile: str) -> Finding:
    """Return whether Prefect's home folder can be written, and which profile is in use."""
    existing = next(each for each in (home, *home.absolute().parents) if os.path.lexists(each))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        found = f"home {home}: cannot be written to."
        return fault("prefect", found, "Set PREFECT_HOME to a folder that can be written to.")
    return ok("prefect", f"home {home}, profile {profile or 'ephemeral'}.")


def _check_configured() -> Iterator[Finding]:
    from tasks.settings import checked_settings

    try:
        with checked_settings():
            from prefect.context import get_settings_context

            from ops.profile import is_stale

            context = get_settings_context()
            has_stale_url = is_stale()
    except (OSError, ValueError) as error:
        yield fault("prefect", str(error))
        yield clock_finding(datetime.now(UTC), None)
        return
    settings = context.settings
    yield home_finding(settings.home, context.profile.name)
    url = settings.api.url
    if url is not None and not has_stale_url:
        yield from check_server(
            Server(url, _headers(settings), _verify(settings)),
            f"{place_of(url)} ({_origin(url)})",
            is_cloud=url.startswith(settings.cloud.api_url),
        )
        return
    if url is not None:
        found = f"{place_of(url)}: the `make up` that started it was killed."
        yield warning("server", found, "Run `make up` again.")
    elif settings.server.ephemeral.enabled:
        yield ok("server", TEMPORARY)
    else:
        found = "none configured, and PREFECT_SERVER_EPHEMERAL_ENABLED is false."
        yield fault("server", found, "Set PREFECT_API_URL, or run `make up`.")
    yield clock_finding(datetime.now(UTC), None)


def check_server(server: Server, place: str, *, is_cloud: bool = False) -> Iterator[Finding]:
    """Check a server: that it answers, its clock and version, its deployments and workers.

    Args:
        server: The server.
        place: Its URL without credentials, and where it is configured; for messages.
        is_cloud: Whether it is Prefect Cloud, which has no version.
    """
    from importlib.metadata import version  # slow to import

    answers: list[Answer] = []

    def reach() -> list[Finding]:
        return [_reach(server, place, answers, is_cloud=is_cloud)]

    yield from run_check(SECONDS, "server", reach, place=place, action=START)
    answer = answers[0] if answers else None
    yield clock_finding(datetime.now(UTC), None if answer is None else answer.date)
    if answer is None:
        return
    if not is_cloud:
        yield version_finding(version("prefect"), answer.json())
    for check, run in (("deployments", _deployments), ("worker", _workers)):
        yield from run_check(SECONDS, check, partial(run, server), place=place, action=LOOK)


def _headers(settings: Any) -> dict[str, str]:
    headers = {str(name): str(value) for name, value in settings.client.custom_headers.items()}
    if settings.api.key is not None:
        headers["Authorization"] = f"Bearer {settings.api.key.get_secret_value()}"
    elif settings.api.auth_string is not None:
        credentials = settings.api.auth_string.get_secret_value().encode(errors="surrogateescape")
        headers["Authorization"] = f"Basic {b64encode(credentials).decode()}"
    return headers


def _verify(settings: Any) -> bool | str:
    if settings.api.tls_insecure_skip_verify:
        return False
    file: str | None = settings.api.ssl_cert_file
    return file or True


def _origin(url: str) -> str:
    """Return which setting has the URL."""
    from prefect.context import get_settings_context
    from prefect.settings import PREFECT_API_URL

    if os.environ.get("PREFECT_API_URL"):
        return "of the variable PREFECT_API_URL"
    profile = get_settings_context().profile
    if profile.settings.get(PREFECT_API_URL) == url:
        return f"of the profile {profile.name}"
    return "of a file of settings in this folder"


def place_of(url: str) -> str:
    """Return a URL without credentials."""
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.rpartition("@")[2]
        return one_line(parts._replace(netloc=netloc, query="", fragment="").geturl())
    except ValueError:
        return "the URL of the server"


def _reach(server: Server, place: str, answers: list[Answer], *, is_cloud: bool) -> Finding:
    """Return whether the server answers; append its answer to `answers` if it does."""
    try:
        answer = server.post("/work_pools/filter") if is_cloud else server.get("/admin/version")
        if not (is_cloud or _is_version(answer.json())):
            return fault("server", f"{place}: {NOT_PREFECT}", START)
    except AnswerError as error:
        is_login = isinstance(error, LoginError)
        return fault("server", f"{place}: {error}", LOGIN if is_login else START)
    answers.append(answer)
    return ok("server", f"{place}: answers.")


def _is_version(value: object) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def clock_finding(now: datetime, server: datetime | None) -> Finding:
    """Return whether the clock of this machine is right, as far as it can be seen.

    Args:
        now: Its time.
        server: That of the server; `None` if not known.
    """
    action = "Set the clock, e.g. with NTP: records have its time."
    text = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    if now.year < FIRST_YEAR:
        return fault("clock", f"{text}.", action)
    seconds = 0.0 if server is None else (now - server).total_seconds()
    if abs(seconds) > CLOCK_SECONDS:
        side = "ahead of" if seconds > 0 else "behind"
        return warning("clock", f"{text}, {abs(seconds):,.0f} s {side} that of the server.", action)
    return ok("clock", f"{text}{'' if server is None else ', as that of the server'}.")


def version_finding(client: str, server: str) -> Finding:
    """Return whether the Prefect of this environment and that of the server have one release."""
    found = f"Prefect {client} here, {server} on the server."
    if client.split(".")[:2] == server.split(".")[:2]:
        return ok("versions", found)
    action = "Upgrade the older one: the server first, then the workers, then this environment."
    return warning("versions", found, action)


def _deployments(server: Server) -> Iterator[Finding]:
    expected = _expected()
    flows = sorted({each.name.partition("/")[0] for each in expected})
    wanted = {"flows": {"name": {"any_": flows}}}
    with expected_form():
        named = server.post("/flows/filter", **wanted).json()
        names = {each["id"]: str(each["name"]) for each in named}
        found = [
            Deployment.from_response(each, names[each["flow_id"]])
            for each in server.post("/deployments/filter", **wanted).json()
        ]
    yield compare_deployments(expected, found)


def _expected() -> list[Deployment]:
    """Return the deployments of prefect.yaml."""
    import yaml

    def read(name: str) -> str:
        return (read_file(ROOT / name, SOURCE_LIMIT) or b"").decode()

    try:
        project = yaml.safe_load(read("prefect.yaml"))
        return expected_deployments(project, os.path.realpath(ROOT), read)
    except (AttributeError, LookupError, SyntaxError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{ROOT / 'prefect.yaml'}: {type(error).__name__}: {error}") from error


def _workers(server: Server) -> Iterator[Finding]:
    """Yield a finding for each work pool that prefect.yaml names."""
    for pool in sorted({str(each.work_pool) for each in _expected()}):
        with expected_form():
            found = server.post("/work_pools/filter", work_pools={"name": {"any_": [pool]}}).json()
            if not found:
                action = "Run `make up`, or see prefect.yaml."
                yield warning("worker", f"no work pool {pool!r} on the server.", action)
                continue
            workers = server.post(f"/work_pools/{pool}/workers/filter").json()
            online = [str(each["name"]) for each in workers if each["status"] == "ONLINE"]
            yield worker_finding(pool, online, is_paused=bool(found[0]["is_paused"]))


def worker_finding(pool: str, online: list[str], *, is_paused: bool) -> Finding:
    """Return whether a worker takes the runs of a work pool.

    Args:
        pool: The work pool.
        online: The names of its workers that sent a heartbeat in time.
        is_paused: Whether it is paused.
    """
    if not online:
        action = f"Run `make up`, or `prefect worker start --pool {pool}`."
        return fault("worker", f"no worker of the work pool {pool!r} is online.", action)
    if is_paused:
        found = f"the work pool {pool!r} is paused, so no run starts."
        return warning("worker", found, f"Run `prefect work-pool resume {pool}`.")
    return ok("worker", f"online in the work pool {pool!r}: {truncated_list(online)}.")
