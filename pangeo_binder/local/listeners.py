"""Finds out whether a server's own processes listen on a port, or another program took it meanwhile.

On Linux, one question to the kernel finds the socket (https://man7.org/linux/man-pages/man7/sock_diag.7.html). Reading
the table of connections instead takes milliseconds for each server that starts, and more with each connection of the
machine. Where the kernel cannot be asked, psutil reads the table. Runs in the hub of the local profile.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _TCP_LISTEN = 4, 20, 1, 10
# nlmsghdr; then inet_diag_req_v2, or inet_diag_msg, whose last field is the inode
_QUESTION = struct.Struct("=IHHII BBxxI 2sxx 16s16s I8s")
_ANSWER = struct.Struct("=IHHII BBxx 48x 16x I")
_NO_COOKIE = b"\xff" * 8
_TIMEOUT_SECONDS = 1.0
_ANSWER_BYTES = 8192


def listens(pid: int, port: int) -> bool:
    """Return whether the process `pid` or one of its descendants gets the connections to `port` of 127.0.0.1."""
    if sys.platform == "linux":
        with suppress(OSError):
            return _holds(pid, f"socket:[{find_listener(port)}]")
    with suppress(psutil.Error):
        return any(_listens_itself(each, port) for each in _descendants(psutil.Process(pid)))
    return False


def find_listener(port: int) -> int:
    """Return the inode of the socket that gets the connections to `port` of 127.0.0.1.

    It may listen on all addresses. Raises OSError if there is none, and if this kernel does not answer such questions.
    """
    address = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    head = (_QUESTION.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
    what = (socket.AF_INET, socket.IPPROTO_TCP, 1 << _TCP_LISTEN, port.to_bytes(2, "big"), address, bytes(16))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT_SECONDS)
        kernel.send(_QUESTION.pack(*head, *what, 0, _NO_COOKIE))
        answer = kernel.recv(_ANSWER_BYTES)
    if len(answer) >= _ANSWER.size:
        _, kind, _, _, _, _, state, inode = _ANSWER.unpack_from(answer)
        if (kind, state) == (_SOCK_DIAG_BY_FAMILY, _TCP_LISTEN):
            return int(inode)
    raise OSError(errno.ENOENT, f"the kernel knows no socket that listens on port {port}")


def _holds(pid: int, name: str) -> bool:
    """Return whether the process or a descendant has the open file `name`."""
    left = [pid]
    while left:
        each = left.pop()
        if _has_open(each, name):
            return True
        left.extend(_children(each))
    return False


def _has_open(pid: int, name: str) -> bool:
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as files:
        for each in files:
            with suppress(OSError):  # closed meanwhile
                if os.readlink(each) == name:  # noqa: PTH115 - no Path for each open file of a server
                    return True
    return False


def _children(pid: int) -> Iterator[int]:
    """Yield a process's children; psutil would read every process of the machine for them."""
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, each.read_text().split())


def _descendants(process: psutil.Process) -> Iterator[psutil.Process]:
    yield process
    yield from process.children(recursive=True)


def _listens_itself(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):
        for kind in ("tcp4", "tcp6"):  # the second only if needed: psutil reads all connections of the machine
            found = process.net_connections(kind)
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found):
                return True
    return False
