"""The CPU time of servers and workers is measured with that of their children."""

import os
import subprocess
import sys

from benchmarks.server import cpu_seconds


def test_the_cpu_time_of_a_process_includes_that_of_children_that_ended():
    subprocess.run([sys.executable, "-c", ""], check=True)
    user, system, children_user, children_system, _ = os.times()
    assert children_user + children_system > 0
    assert cpu_seconds(os.getpid()) >= user + system + children_user + children_system - 1e-9
