"""Refuses other users of the machine at the HTTP servers of Dask's schedulers and workers (dashboards, metrics).

A preload of the local profile, where these listen on loopback without a login. Linux names the user of each socket in
/proc/net/tcp (https://docs.kernel.org/networking/proc_net_tcp.html), so the other end of a connection shows who it is.
Other systems have no such file, and nothing is checked there.
"""

import os
import socket

from tornado.routing import Matcher, Rule
from tornado.web import RequestHandler

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_ESTABLISHED = "01"
_MAPPED = "0000000000000000FFFF0000"
"""The first 96 bits of an IPv4 address in a socket of IPv6, as the kernel prints them."""


def _written(address):
    """Return an IPv4 address and port as the kernel prints them: the address's bytes in the machine's order."""
    host, port = address[:2]
    number = int.from_bytes(socket.inet_aton(host), "little" if _is_little() else "big")
    return "{:08X}:{:04X}".format(number, port)


def _is_little():
    return socket.htons(1) != 1


def user_of_peer(connection):
    """Return the user id at the other end of a TCP connection within this machine; None if it is not established."""
    try:
        ends = [_written(connection.getpeername()), _written(connection.getsockname())]
    except OSError:
        return None
    wanted = (ends, [_MAPPED + end for end in ends])
    for table in _TABLES:
        try:
            with open(table) as lines:
                for line in lines:
                    fields = line.split()
                    if fields[1:3] in wanted and fields[3] == _ESTABLISHED:
                        return int(fields[7])
        except OSError:
            continue
    return None


class OtherUser(Matcher):
    """A request from a process of another user."""

    def match(self, request):
        stream = request.connection.stream
        return None if stream.socket is not None and user_of_peer(stream.socket) == os.getuid() else {}


class Refusal(RequestHandler):
    """The answer to another user."""

    def prepare(self):
        self.set_status(403)
        self.finish("This server answers only to the user who started it.\n")


def dask_setup(server):
    """Add the check in front of all other routes of a scheduler or worker."""
    if os.path.exists(_TABLES[0]):
        server.http_application.default_router.rules.insert(0, Rule(OtherUser(), Refusal))
