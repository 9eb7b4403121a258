"""Copying of an artifacts root to another one, e.g. from a folder to a bucket and back.

`plan_copy` reads both roots and decides; `Plan.run` writes. `datasets`, `models` and `evaluations`
plan their folders, and `steps` has what each step writes.
"""
