"""One Prefect task per step; each task makes one call into the core."""

import logging
import sys

from tasks.settings import configure

if "prefect" not in sys.modules:  # Prefect reads its settings once
    configure()
# The log of a run includes the log of the core; pyproject.toml makes Prefect collect it.
logging.getLogger("src").setLevel(logging.INFO)
