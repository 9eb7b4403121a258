"""Prefect flows: the steps in order, and the pages that people see of a run."""

import tasks  # noqa: F401  # configures Prefect before its first import
