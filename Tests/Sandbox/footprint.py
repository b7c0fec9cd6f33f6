"""What a running sidecar costs: memory, CPU time and open descriptors, as the kernel counts them."""

import contextlib
import os

from . import network
from .faults import SIDECAR


def sidecar(instance):
    """The process id, on this machine, of the oldest consul-bootstrap of an instance; None without one."""
    found = []
    for pid in network.processes_in(instance.namespace):
        with contextlib.suppress(OSError):
            if name(pid) == SIDECAR:
                found.append((start(pid), pid))
    return min(found)[1] if found else None


def name(pid):
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()


def _fields(pid):
    """Of proc(5), from the state on."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def start(pid):
    return int(_fields(pid)[19])


def cpu(pid):
    """Seconds of all its threads."""
    return sum(map(int, _fields(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def _memory(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024


def resident(pid):
    """MiB."""
    return _memory(pid, "VmRSS:")


def anonymous(pid):
    """MiB of it that are no pages of the program's file, which it reads when it first uses them."""
    return _memory(pid, "RssAnon:")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
