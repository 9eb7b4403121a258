"""Drop the privileges of root in a test process, so that modes of files apply to it."""

import ctypes
import os

__all__ = ["drop_privileges"]


def drop_privileges() -> None:
    """Drop all Linux capabilities of this process; it stays the owner of root's files."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")
