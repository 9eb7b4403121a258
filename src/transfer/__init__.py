"""Copy an artifacts root to another one, e.g. from a folder to a bucket and back.

`plan_copy` compares both roots and returns a plan; `Plan.run` writes. `datasets`, `models` and
`evaluations` plan one folder of the root each; `steps` has the steps of a plan, which write.
"""
