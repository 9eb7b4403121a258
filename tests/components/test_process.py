"""The child process of a component."""

import errno
import os

import pytest

from src.components import process
from src.components.component import Component
from src.components.process import run_component


def test_a_run_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(process, "write_json", full)
    component = Component(use="command", argv=("true",))
    with pytest.raises(OSError, match="No space left on device") as caught:
        run_component(
            component, "trainer", {}, folder=tmp_path, timeout_seconds=None, on_line=print
        )
    assert caught.value.filename == str(tmp_path / "run.json")
