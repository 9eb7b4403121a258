"""Prefect home folders whose database has its tables, so that a server starts in half the time."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from ops.server import ROOT, ServerProcess, listen
from tests.network import STARTUP_SECONDS

__all__ = ["DATABASE", "Homes"]

DATABASE = "prefect.db"


class Homes:
    """Creates Prefect home folders, each with a copy of one database."""

    def __init__(self, folder: Path) -> None:
        """Use the database in `folder`, which other processes may use too.

        The first process that needs the database has a server create it.
        """
        self._template = folder / "prefect_template"

    def create(self, home: Path) -> Path:
        """Create a home folder with the tables of a database, but no flows or runs; return it."""
        with FileLock(f"{self._template}.lock"):
            if not self._template.exists():
                _start_once(self._template.with_name("prefect_template_new"))
                self._template.with_name("prefect_template_new").rename(self._template)
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._template / DATABASE, home / DATABASE)
        return home


def _start_once(home: Path) -> None:
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(home), "PREFECT_SERVER_UI_ENABLED": "false"}
    with (home / "server.log").open("w+b") as log:
        server = ServerProcess(listen(), env=env, log=log, cwd=ROOT)
        try:
            server.wait_until_ready(STARTUP_SECONDS)
        finally:
            server.stop()
    with closing(sqlite3.connect(home / DATABASE)) as database:
        database.execute("pragma wal_checkpoint(truncate)")
