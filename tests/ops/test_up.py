"""Tests of ops.up without a server; tests/e2e has those with one."""

import fcntl
import signal

import pytest

from ops import up


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty Prefect home folder; signal handlers are restored after the test."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    handlers = {signum: signal.getsignal(signum) for signum in up.STOP_SIGNALS}
    yield tmp_path / "home"
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(name, *_):
        if name == "httpx":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder)
runpy.run_module("ops.up", run_name="__main__")
"""


def test_ctrl_c_during_the_imports_is_silent_with_exit_code_130(start):
    process = start(INTERRUPTED).process
    assert process.communicate() == ("", "")
    assert process.returncode == 130


def test_a_second_instance_is_an_error(home, capsys):
    home.mkdir()
    with (home / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert up.main([]) == 1
    assert capsys.readouterr() == (
        "",
        f"error: {home}/up.lock: locked by another process. Only one `make up` can run in "
        "this folder. Stop the other one with Ctrl-C.\n",
    )


def test_port_0_is_an_error(home, capsys):
    assert up.main(["--port", "0"]) == 1
    assert capsys.readouterr().err == (
        "error: port 0: expected 1 to 65535. Choose another port: make up PORT=4201\n"
    )


def test_a_port_out_of_range_is_an_error(home, capsys):
    assert up.main(["--port", "65536"]) == 1
    assert capsys.readouterr() == (
        "",
        "error: 127.0.0.1:65536: cannot be used (bind(): port must be 0-65535.). "
        "Choose another port: make up PORT=4201\n",
    )
    assert [path.name for path in home.iterdir()] == ["up.lock"]
    assert [path for path in (home, home / "up.lock") if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("not = [toml", "not valid TOML: Invalid value (at line 1, column 8)."),
        ("profiles = 3", "profiles: expected tables [profiles.NAME]."),
    ],
)
def test_damaged_profiles_are_an_error(home, capsys, content, reason):
    home.mkdir()
    (home / "profiles.toml").write_text(content)
    assert up.main([]) == 1
    assert capsys.readouterr() == (
        "",
        f"error: {home}/profiles.toml: {reason} Correct the file, or delete it.\n",
    )
    assert [path.name for path in home.iterdir()] == ["profiles.toml"]


def test_a_setting_of_prefect_that_is_not_valid_is_an_error(home, start, monkeypatch):
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "LOUD")
    process = start("import sys; from ops.up import main; sys.exit(main())").process
    assert process.communicate() == (
        "",
        "error: Prefect's settings: LoggingSettings.level: Input should be 'DEBUG', 'INFO', "
        "'WARNING', 'ERROR' or 'CRITICAL', found 'LOUD'. Correct the environment variable or the "
        "profile that sets it.\n",
    )
    assert process.returncode == 1


def test_a_home_folder_that_cannot_be_created_is_an_error(home, capsys):
    home.parent.joinpath("home").write_text("a file")
    assert up.main([]) == 1
    assert capsys.readouterr() == (
        "",
        f"error: PREFECT_HOME {home}: cannot be written to: File exists. Set PREFECT_HOME to a "
        "writable folder.\n",
    )


def test_an_error_of_another_file_does_not_name_the_home_folder(home, capsys, monkeypatch):
    def fail(_):
        raise FileNotFoundError(2, "No such file or directory", "template.json")

    monkeypatch.setattr(up, "_only_instance", fail)
    assert up.main([]) == 1
    assert capsys.readouterr() == (
        "",
        "error: [Errno 2] No such file or directory: 'template.json'\n",
    )


class Pool:
    """A work pool, in place of the server."""

    def __init__(self, paused):
        self.paused = paused

    def is_paused(self):
        return self.paused

    def pause(self, is_paused):
        self.paused = is_paused


def test_a_pool_that_was_paused_at_the_end_is_resumed_at_the_next_start_only(tmp_path):
    pool = Pool(paused=False)
    up._pause(pool, tmp_path)
    assert pool.paused
    up._resume(pool, tmp_path)
    assert not pool.paused
    pool.paused = True
    up._resume(pool, tmp_path)
    assert pool.paused


def test_a_pool_that_a_user_has_paused_stays_paused(tmp_path):
    pool = Pool(paused=True)
    up._pause(pool, tmp_path)
    up._resume(pool, tmp_path)
    assert pool.paused
