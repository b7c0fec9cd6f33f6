"""What the sandbox requires of this machine: checked first, and reported in one error with what to do.

Kernel limits that are too low for several booted systems are raised while a sandbox is up, and restored after the
last one.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

# Shared by every checkout on this machine.
RUN = "/run/consul-bootstrap-sandbox"

# By the Debian package that has them.
PROGRAMS = {
    "iproute2": ["ip"],
    "nftables": ["nft"],
    "procps": ["ps", "pgrep"],
    "util-linux": ["unshare", "nsenter", "setpriv"],
    "mount": ["mount", "umount"],
    "openssl": ["openssl"],
    "systemd-container": ["systemd-nspawn"],
    "strace": ["strace"],
    "gcc": ["gcc"],
    "file": ["file"],
    "python3": ["/usr/bin/python3"],
}

LIMITS = {
    # Of root, whose instances they all are: a booted systemd holds some ten.
    "fs.inotify.max_user_instances": 8192,
    "fs.inotify.max_user_watches": 262144,
    # One table of neighbours for all network namespaces: a hundred agents fill the default of 1024.
    "net.ipv4.neigh.default.gc_thresh1": 16384,
    "net.ipv4.neigh.default.gc_thresh2": 32768,
    "net.ipv4.neigh.default.gc_thresh3": 65536,
}

# Image layers, file systems of instances and raft databases of a sandbox are in memory.
MEMORY_MIB = 2048
# Packages, archives and compilations of the tests.
DISK_MIB = 1024

# Mounts an overlay as instances have it, with a directory that hides those of the same name below it.
PROBE = """
import os, subprocess, sys
directory = sys.argv[1]
def mount(*arguments): subprocess.run(["mount", *arguments], check=True)
mount("--make-rprivate", "/")
mount("-t", "tmpfs", "tmpfs", directory)
for name in ("lower/hidden/below", "image/hidden", "upper", "work", "root"): os.makedirs(f"{directory}/{name}")
os.setxattr(f"{directory}/image/hidden", "trusted.overlay.opaque", b"y")
layers = f"lowerdir={directory}/image:{directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
mount("-t", "overlay", "overlay", "-o", layers, f"{directory}/root")
if os.listdir(f"{directory}/root/hidden"): sys.exit("an opaque directory does not hide what is below it")
"""


class HostError(Exception):
    """This machine cannot run the sandbox; the message has every reason, and what to do about each."""


def require(files):
    """Throws `HostError` if anything is missing.

    - files: paths that must exist, each with the command that creates it."""
    if found := problems(files):
        raise HostError("\n".join(["this machine cannot run the sandbox:", *(f"  - {problem}" for problem in found)]))


def problems(files):
    if os.geteuid() != 0:
        return ["mounts and namespaces need root: run it as root, in a container with --privileged"]
    found = []
    for package, programs in PROGRAMS.items():
        if missing := [program for program in programs if not shutil.which(program)]:
            found.append(f"{', '.join(missing)} not found: install the package {package} (make deps-sandbox does)")
    found += [f"{path} does not exist: {command}" for path, command in files.items() if not os.path.exists(path)]
    if found:
        return found
    kinds = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]
    for kind in kinds:
        result = subprocess.run(["unshare", kind, "--fork", "true"], capture_output=True, text=True)
        if result.returncode:
            found.append(f"no new namespace ({result.stderr.strip()}): run it in a container with --privileged")
            return found
    with tempfile.TemporaryDirectory() as directory:
        result = subprocess.run(
            ["unshare", "--mount", sys.executable, "-c", PROBE, directory], capture_output=True, text=True
        )
    if result.returncode:
        found.append(f"no overlay on tmpfs ({result.stderr.strip().splitlines()[-1]}): load the kernel module overlay")
    if not cgroups():
        found.append("no writable cgroup hierarchy for systemd at /sys/fs/cgroup: mount it, or run with --privileged")
    memory = available_memory()
    if memory < MEMORY_MIB:
        found.append(f"{memory} MiB of memory are available, {MEMORY_MIB} are needed: stop other programs")
    for directory in sorted({tempfile.gettempdir(), os.getcwd()}):
        free = shutil.disk_usage(directory).free >> 20
        if free < DISK_MIB:
            found.append(f"{free} MiB are free at {directory}, {DISK_MIB} are needed: remove files there")
    found += Limits().problems()
    return found


def available_memory():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("MemAvailable"))


def process_start(pid):
    """Distinguishes a process from a later one with its number. None for one that has ended, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Limits:
    """`hold` raises what is too low, `release` restores it once no process of this machine holds it any more.

    A process that was killed holds nothing: the next one to hold or release notices."""

    def __init__(self, limits=None, directory=RUN, root="/proc/sys"):
        self.limits = LIMITS if limits is None else limits
        self.directory, self.root = directory, root
        self.record = os.path.join(directory, "limits.json")

    def problems(self):
        """Limits that are too low and cannot be raised."""
        found = []
        for name, wanted in self.limits.items():
            value = self._read(name)
            if value is None or value >= wanted:
                continue
            try:
                self._write(name, value)
            except OSError as error:
                hint = f"sysctl -w {name}={wanted} on the host"
                found.append(f"{name} is {value}, {wanted} is needed, and raising it failed ({error.strerror}): {hint}")
        return found

    def hold(self):
        """Returns what was raised, by name: the value before, and the value now."""
        raised = {}
        with self._locked() as state:
            for name, wanted in self.limits.items():
                value = self._read(name)
                if value is not None and value < wanted:
                    self._write(name, wanted)
                    state["originals"].setdefault(name, value)
                    raised[name] = (value, wanted)
            state["holders"].append([os.getpid(), process_start(os.getpid())])
        return raised

    def release(self):
        """Returns what was restored, by name."""
        restored = {}
        with self._locked() as state:
            if (own := [os.getpid(), process_start(os.getpid())]) in state["holders"]:
                state["holders"].remove(own)
            if not state["holders"]:
                for name, value in state["originals"].items():
                    # What was changed by others meanwhile is theirs.
                    if self._read(name) == self.limits.get(name):
                        self._write(name, value)
                        restored[name] = value
                state["originals"] = {}
        return restored

    @contextlib.contextmanager
    def _locked(self):
        os.makedirs(self.directory, exist_ok=True)
        with open(os.path.join(self.directory, "limits.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                with open(self.record) as file:
                    state = json.load(file)
            except FileNotFoundError:
                state = {"originals": {}, "holders": []}
            state["holders"] = [[pid, start] for pid, start in state["holders"] if process_start(pid) == start]
            yield state
            with open(self.record + ".new", "w") as file:
                json.dump(state, file)
            os.rename(self.record + ".new", self.record)

    def _path(self, name):
        return os.path.join(self.root, name.replace(".", "/"))

    def _read(self, name):
        """None where this kernel, or this network namespace, does not have it."""
        try:
            with open(self._path(name)) as file:
                return int(file.read())
        except FileNotFoundError:
            return None

    def _write(self, name, value):
        with open(self._path(name), "w") as file:
            file.write(f"{value}\n")


# Control groups: every booted systemd gets one of its own. Without it they all share one tree, in which each of them
# takes the processes of the others' units for its own.


def cgroups(name=""):
    """The directories of a group in the hierarchies that systemd uses, of version 1 and 2; only those that are
    writable."""
    roots = ["/sys/fs/cgroup"] if os.path.exists("/sys/fs/cgroup/cgroup.procs") else []
    roots = roots or ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]
    writable = [r for r in roots if os.path.exists(f"{r}/cgroup.procs") and not os.statvfs(r).f_flag & os.ST_RDONLY]
    return [os.path.join(root, name) for root in writable]


def remove_cgroups(prefix):
    """Removes the groups whose names begin so, in every hierarchy; those in which processes are left stay."""
    parents = ["/sys/fs/cgroup"]
    if not os.path.exists("/sys/fs/cgroup/cgroup.procs"):
        parents = [entry.path for entry in os.scandir("/sys/fs/cgroup") if entry.is_dir(follow_symlinks=False)]
    for parent in parents:
        for name in os.listdir(parent):
            if name.startswith(prefix):
                remove_cgroup(os.path.join(parent, name))


def remove_cgroup(group):
    """A process that was killed leaves its group a moment later."""
    deadline = time.monotonic() + 10
    while os.path.exists(group) and time.monotonic() < deadline:
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        if os.path.exists(group):
            time.sleep(0.02)
