"""Code of a user that a config names: trainers and evaluators, and how they are run."""
