"""Prefect flows: the steps in order, and the pages that people see of a run."""
