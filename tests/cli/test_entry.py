"""Tests of the entry point of `llm-train`."""

import sys

import pytest

from cli import entry


def test_ctrl_c_while_the_commands_are_imported_is_silent_with_exit_code_130(monkeypatch, capfd):
    class Importing:
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "cli.main", Importing())
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    assert (stopped.value.code, capfd.readouterr()) == (130, ("", ""))
