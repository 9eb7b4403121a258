"""A network of several hosts on this machine, made of Linux namespaces. It needs root.

The thread of the test enters a namespace, with the servers. The hosts are joined to it by a bridge.
A namespace ends with its last process, so nothing is left if the tests are killed.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["LOOPBACK", "SERVER", "Network", "private_network"]

LOOPBACK = "127.0.0.1"
SERVER = "10.99.0.1"
NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """The hosts of a network.

    Attributes:
        server: The address of this thread, for all hosts.
    """

    def __init__(self, stack: ExitStack, *, is_private: bool) -> None:
        self.is_private = is_private
        self.server = SERVER if is_private else LOOPBACK
        self._stack = stack
        self._hosts: list[str] = []

    def new_host(self, name: str) -> list[str]:
        """Add a host; return the words that, before a command, run it there."""
        if not self.is_private:
            return []
        self._hosts.append(name)
        number = len(self._hosts)
        script = f"hostname {name} && echo ready && exec cat"
        holder = self._stack.enter_context(
            subprocess.Popen(
                ["unshare", "--net", "--uts", "sh", "-c", script],
                stdin=subprocess.PIPE,  # closed at the end, or if this process is killed
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert holder.stdin
        assert holder.stdout
        self._stack.callback(holder.stdin.close)
        assert holder.stdout.readline() == "ready\n"
        enter = ["nsenter", "--target", str(holder.pid), "--net", "--uts"]
        _ip("link", "add", name, "type", "veth", "peer", "eth0", "netns", str(holder.pid))
        _ip("link", "set", name, "master", "bridge", "up")
        _ip("link", "set", "lo", "up", enter=enter)
        _ip("address", "add", f"10.99.0.{number + 1}/24", "dev", "eth0", enter=enter)
        _ip("link", "set", "eth0", "up", enter=enter)
        return enter

    def cut(self, name: str) -> None:
        """Cut the cable of a host."""
        _ip("link", "set", name, "nomaster")

    def reconnect(self, name: str) -> None:
        """Undo `cut`."""
        _ip("link", "set", name, "master", "bridge")


@contextmanager
def private_network() -> Iterator[Network]:
    """Enter a network of this thread until the end of the block; this host's own if it cannot."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        with ExitStack() as stack:
            if _libc.unshare(NEW_NETWORK) != 0:
                yield Network(stack, is_private=False)
                return
            stack.callback(_enter, before)
            _ip("link", "set", "lo", "up")
            _ip("link", "add", "bridge", "type", "bridge")
            _ip("address", "add", f"{SERVER}/24", "dev", "bridge")
            _ip("link", "set", "bridge", "up")
            yield Network(stack, is_private=True)
    finally:
        os.close(before)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str, enter: list[str] | None = None) -> None:
    subprocess.run([*(enter or []), "ip", *arguments], check=True)
