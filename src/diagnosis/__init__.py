"""Diagnosis of a set-up: is it sound? Each check returns findings, one line each.

`root` is about the artifacts root, `environment` about Python and its packages, and `configs` about
the trainers and evaluators that configs name. `ops.doctor` checks Prefect's side.
"""
