"""Tests of the log lines that a flow prints on the console."""

import io
import logging

import pytest
from prefect.logging.handlers import PrefectConsoleHandler

import flows.logs
from flows.logs import configure_log, log_error


@pytest.fixture
def console(monkeypatch):
    """The output of a logger; the only handler of the root logger is Prefect's for a console."""
    output = io.StringIO()
    handler = PrefectConsoleHandler(stream=output)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    return output


def test_a_log_line_has_no_control_character_and_its_further_lines_are_indented(console):
    configure_log()
    configure_log()  # a process may run several flows
    logging.getLogger("src").warning("%s: no such file.", "a\x1b[2K\x9b\u202e\nINFO forged")
    assert console.getvalue() == ("WARNING a\\x1b[2K\\x9b\\u202e\n  INFO forged: no such file.\n")


def test_printable_log_lines_are_unchanged(console):
    logging.getLogger("src").warning("naïve [bold]x[/bold]")
    before = console.getvalue()
    configure_log()
    logging.getLogger("src").warning("naïve [bold]x[/bold]")
    assert console.getvalue() == before * 2


def test_no_name_of_an_emoji_is_replaced(console):
    configure_log()
    logging.getLogger("src").warning("trainer mine:train: done")
    assert console.getvalue() == "WARNING trainer mine:train: done\n"


def test_other_handlers_are_left_alone(console, monkeypatch):
    handler = logging.StreamHandler(io.StringIO())
    formatter = logging.Formatter()
    handler.setFormatter(formatter)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    configure_log()
    assert handler.formatter is formatter


@pytest.mark.parametrize("name", ["prefect.engine", "prefect.flow_runs"])
def test_the_engine_of_a_deployed_run_logs_no_traceback_of_an_error_that_the_run_has_logged(
    console, monkeypatch, name
):
    monkeypatch.setattr(flows.logs, "get_run_logger", lambda: logging.getLogger("src"))
    configure_log()
    reported = FileNotFoundError("c.yaml: no such training config.")
    log_error(reported, "no such training config (c.yaml)")
    engine = logging.getLogger(name)
    engine.error("Execution exited with unexpected exception", exc_info=reported)
    assert console.getvalue() == "ERROR no such training config (c.yaml)\n"
    engine.error("Execution exited with unexpected exception", exc_info=RuntimeError("a bug"))
    assert "\nERROR Execution exited with unexpected exception\n" in console.getvalue()


def test_the_last_retry_of_a_step_logs_no_traceback_of_an_error_of_the_disk(console):
    configure_log()
    step = logging.getLogger("prefect.task_runs")
    step.error("Retries are exhausted", exc_info=OSError(28, "No space left on device"))
    assert console.getvalue() == ""
    step.error("Retries are exhausted", exc_info=RuntimeError("a bug"))
    assert console.getvalue().startswith("ERROR Retries are exhausted\n")
