"""Commands of a user, each run as a child process under a supervisor; Linux only.

`command` is the side of the caller; `supervisor` is the program between the caller and the command.
Together they guarantee, for each call of `run_command`:

- No process of a command outlives the call. When the call ends by an exception, or by the death of
  the caller in any way, the supervisor sends SIGTERM to the command, and SIGKILL after a grace
  period, until the command and all its descendants have ended. A double fork or another session
  does not exempt a descendant.
- The lock is held while one of these processes lives, so two commands over one lock never overlap.
- A supervisor that is stopped (SIGSTOP) is continued; one that is stopped again and again for some
  seconds is killed. If its caller is killed meanwhile, the next command over the same lock
  continues it.
- If the caller is killed, the supervisor removes the scratch folder of the command, if it has one.
- If the supervisor is killed, the kernel kills the command, and the caller its descendants. If the
  caller is killed, too, these may survive; the next command over the same lock kills them before it
  starts.

Two limits: a process that runs as another user (`sudo`) cannot be killed, and is waited for; one
that survives a killed supervisor with a cleared environment is not found.

A copy of the connection to the supervisor stays open in a process that the caller makes by a plain
`os.fork` during the call. If the caller is then killed, the command ends only when this process
has ended, too. Processes of `subprocess` and of `multiprocessing` with the start methods `spawn`
and `forkserver` have no such copy.
"""
