"""How the throughput of `run_training_pipeline` grows with processes on one artifacts root.

    python -m benchmarks.many [--runs 30] [--processes 1 2 4 8] [--rounds 3]

All processes start at once, each with new configs of its own; imports are done before. Beside
them, the plain script's functions in as many processes, which sync nothing.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from benchmarks.measure import Row, in_turns, report, workshop
from benchmarks.peers import plain
from benchmarks.project import Project
from src.training.pipeline import run_training_pipeline
