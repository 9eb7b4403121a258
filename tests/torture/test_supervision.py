"""Supervised commands whose caller, supervisor or own process is killed at random moments."""

import os
import random
import signal
import time
from contextlib import suppress

from tests.supervision.conftest import commands
from tests.torture.harness import LONG

__all__ = ["commands"]

KILLS = 50 if LONG else 6
STEPS = 20
SEED = 20_240_229

# A trainer with checkpoints and a helper in another session. The helper shares its lock, so a
# trainer that starts while a process of an earlier one lives ends with code 7.
TRAINER = f"""
import fcntl, os, signal, time
held = open("held", "w")
try:
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open("overlap", "w").close()
    os._exit(7)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
step = int(open("checkpoint").read()) if os.path.exists("checkpoint") else 0
if step == {STEPS}:
    step = 0
while step < {STEPS}:
    step += 1
    print(step, flush=True)
    time.sleep(0.02)
    with open("checkpoint.tmp", "w") as file:
        file.write(str(step))
    os.replace("checkpoint.tmp", "checkpoint")
"""


def test_after_random_kills_the_training_ends_and_no_two_trainers_overlap(commands):
    rng = random.Random(SEED)
    callers, kills = [], 0
    while kills < KILLS:
        caller = commands.caller(TRAINER, grace_seconds=0.05)
        callers.append(caller)
        if rng.random() < 0.7:
            caller.hear()  # the supervisor or the trainer has started
        time.sleep(rng.uniform(0, 0.3))
        victim = rng.choice([caller.process.pid, *commands.left()])
        with suppress(ProcessLookupError):
            os.kill(victim, rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            kills += 1
        if rng.random() < 0.5:
            caller.process.kill()  # otherwise it runs or waits during the next rounds
    for caller in callers:
        caller.process.kill()
    commands.run(TRAINER, grace_seconds=0.05)
    assert (commands.folder / "checkpoint").read_text() == str(STEPS)
    assert not (commands.folder / "overlap").exists()
