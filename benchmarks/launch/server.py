"""The trivial server of the measured launches: it answers every request with 200, and starts in milliseconds.

As a repository's `start` command, it runs in place of JupyterLab with JupyterLab's own arguments; an unmodified
JupyterHub gives its address as a variable. It first waits for the seconds in the file `slow_seconds` next to it, if
present, then listens.
"""

import _socket  # importing `socket` would double the start time
import posix  # as would `os`
import signal
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
SLOW = "slow_seconds"


def _port() -> int:
    for word in sys.argv:
        if word.startswith("--ServerApp.port="):
            return int(word.partition("=")[2])
    return int(posix.environ[b"JUPYTERHUB_SERVICE_URL"].split(b":")[2].partition(b"/")[0])


def _slow_seconds() -> float:
    try:
        with open(SLOW) as file:  # noqa: PTH123 - importing pathlib takes longer than everything else
            return float(file.read())
    except OSError:
        return 0.0


def main() -> None:
    """Listen, and answer until the process is stopped."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(_slow_seconds())
    server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", _port()))
    server.listen(16)
    while True:
        descriptor, _ = server._accept()  # type: ignore[attr-defined]
        connection = _socket.socket(fileno=descriptor)
        connection.settimeout(5)
        try:
            if connection.recv(65536):
                connection.sendall(ANSWER)
        except OSError:
            pass
        connection.close()


if __name__ == "__main__":
    main()
