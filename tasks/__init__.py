"""One Prefect task per step, each a single call into the core."""

import logging

# What the core logs belongs in the run's log; pyproject.toml has Prefect collect it.
logging.getLogger("src").setLevel(logging.INFO)
