"""Tests of the log lines that a flow prints on the console."""

import io
import logging

import pytest
from prefect.logging.handlers import PrefectConsoleHandler

from flows.logs import escape_log_lines
from flows.states import failed_state


@pytest.fixture
def console(monkeypatch):
    """The output of a logger; the only handler of the root logger is Prefect's for a console."""
    output = io.StringIO()
    handler = PrefectConsoleHandler(stream=output)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    return output


def test_a_log_line_has_no_control_character_and_its_further_lines_are_indented(console):
    escape_log_lines()
    escape_log_lines()  # a process may run several flows
    logging.getLogger("src").warning("%s: no such file.", "a\x1b[2K\x9b\u202e\nINFO forged")
    assert console.getvalue() == ("WARNING a\\x1b[2K\\x9b\\u202e\n  INFO forged: no such file.\n")


def test_printable_log_lines_are_unchanged(console):
    logging.getLogger("src").warning("naïve [bold]x[/bold]")
    before = console.getvalue()
    escape_log_lines()
    logging.getLogger("src").warning("naïve [bold]x[/bold]")
    assert console.getvalue() == before * 2


def test_other_handlers_are_left_alone(console, monkeypatch):
    handler = logging.StreamHandler(io.StringIO())
    formatter = logging.Formatter()
    handler.setFormatter(formatter)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    escape_log_lines()
    assert handler.formatter is formatter


def test_the_engine_of_a_deployed_run_logs_no_traceback_of_an_error_that_its_state_reports(console):
    reported = FileNotFoundError("c.yaml: no such training config.")
    assert failed_state(reported).message == "c.yaml: no such training config."
    engine = logging.getLogger("prefect.engine")
    engine.error("Execution exited with unexpected exception", exc_info=reported)
    assert console.getvalue() == ""
    engine.error("Execution exited with unexpected exception", exc_info=RuntimeError("a bug"))
    assert console.getvalue().startswith("ERROR Execution exited with unexpected exception\n")
