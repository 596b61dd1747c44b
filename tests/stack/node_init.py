"""The first process of a test node, in its own mount, pid and network namespaces, which end with it.

Hides the machine's state behind the node's directories, sets up the network, starts the node's programs in order, and
reaps their orphaned children. `node` starts it with the path of a JSON file that lists the programs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_MACHINE_WIDE = {
    "/proc/sys/vm/overcommit_memory": "1",
    "/proc/sys/vm/panic_on_oom": "0",
    "/proc/sys/kernel/panic": "10",
    "/proc/sys/kernel/panic_on_oops": "1",
    "/proc/sys/kernel/keys/root_maxkeys": "1000000",
    "/proc/sys/kernel/keys/root_maxbytes": "25000000",
}
"""Machine-wide settings that the kubelet requires: it reads these values, and the machine keeps its own."""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _hide(folder: Path) -> None:
    """Mount the node's own directories over the fixed paths that its programs use."""
    _run("mount", "--make-rprivate", "/")
    _run("mount", "-t", "proc", "proc", "/proc")
    cgroups = folder / "cgroup"
    cgroups.mkdir()
    _run("mount", "--rbind", "/sys/fs/cgroup", str(cgroups))
    # /sys shows the network devices of the namespace that mounted it
    _run("mount", "-t", "sysfs", "sysfs", "/sys")
    _run("mount", "--rbind", str(cgroups), "/sys/fs/cgroup")
    for hidden in ("/var/lib", "/var/log", "/run"):
        own = folder / hidden.strip("/").replace("/", "-")
        own.mkdir()
        _run("mount", "--bind", str(own), hidden)
    for number, (path, value) in enumerate(_MACHINE_WIDE.items()):
        if Path(path).exists():
            stand_in = folder / f"sysctl-{number}"
            stand_in.write_text(value)
            _run("mount", "--bind", str(stand_in), path)


def _network(address: str, gateway: str) -> None:
    """Set up the link to the machine, which the parent moves into this namespace, and forwarding for pods."""
    ends = time.monotonic() + 20
    while not Path("/sys/class/net/eth0").exists():
        assert time.monotonic() < ends, "no link to the machine"
        time.sleep(0.05)
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "addr", "add", f"{address}/30", "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    _run("ip", "route", "add", "default", "via", gateway)
    for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "net/ipv4/conf/all/route_localnet"):
        (Path("/proc/sys") / name).write_text("1")


def _start(folder: Path, programs: list[dict[str, Any]]) -> None:
    for program in programs:
        with (folder / "logs" / f"{program['name']}.log").open("ab") as log:
            subprocess.Popen(program["command"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/")
        while program.get("wait_for") and not Path(program["wait_for"]).exists():
            time.sleep(0.05)
        for command in program.get("then", []):
            subprocess.run(command, check=True, capture_output=True)


def main(path: str) -> None:
    """Run the node until killed."""
    folder = Path(path).parent
    node = json.loads(Path(path).read_text())
    _hide(folder)
    _network(node["address"], node["gateway"])
    _start(folder, node["programs"])
    (folder / "started").touch()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(sys.argv[1])
