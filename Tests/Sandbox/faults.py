"""Faults of machines, links and AWS, which tests switch on and off. `sandbox.faults` has them; clearing ends all.

| Function | What it does |
|---|---|
| `kill_agent(instance)` | SIGKILL to the Consul agent |
| `pause_agent(instance, seconds)` | SIGSTOP to the agent, SIGCONT after so many seconds, or by `resume(instance)` |
| `kill_sidecar(instance)` | SIGKILL to the running `consul-bootstrap` |
| `pause_sidecar(instance, seconds)` | the same with SIGSTOP |
| `cut(instance, incoming, outgoing, aws)` | drops what its link receives, sends or both; with `aws` the APIs stay |
| `partition(ones, others, one_way)` | drops what passes between two sets; `one_way` only what `others` get of `ones` |
| `heal()` | every link is whole |
| `panic(instance)` | a kernel panic: processes and link are gone, while EC2 still reports it as running |
| `small_disk(instance, mebibytes, path)` | a file system of that size there, to be set up before the agent starts |
| `fill_disk(instance, path)`, `free_disk(instance, path)` | nothing more fits; the room is there again |
| `aws(kind, action, ...)` | calls fail: `5xx`, `throttle`, `denied`, `slow` (value: seconds), `hang`, `lost-answer` |
| `aws("other-region", source=...)` | EC2 and Auto Scaling answer as in a region that has none of this |
| `end_aws(fault)` | they succeed again |

What AWS says of the state of instances without it being true is in `lies.py`. Faults of the metadata service are
attributes of `instance.metadata`.
"""

import contextlib
import os
import signal
import subprocess
import threading

from . import network
from .aws import Fault
from .network import AWS_ADDRESS

AGENT = "consul"
# As the kernel cuts it.
SIDECAR = "consul-bootstrap"[:15]
FILLER = ".filler"


class Faults:
    def __init__(self, sandbox):
        self.sandbox = sandbox
        self._count = 0
        # Tables of rules: (namespace, name).
        self._tables = []
        # Handles of paused processes, by instance id.
        self._paused = {}
        self._timers = []
        self._lock = threading.Lock()

    # Processes.

    def kill_agent(self, instance):
        return self._signal(instance, AGENT, signal.SIGKILL)

    def kill_sidecar(self, instance):
        return self._signal(instance, SIDECAR, signal.SIGKILL)

    def pause_agent(self, instance, seconds=None):
        return self._pause(instance, AGENT, seconds)

    def pause_sidecar(self, instance, seconds=None):
        return self._pause(instance, SIDECAR, seconds)

    def resume(self, instance):
        """Whatever of it is paused."""
        with self._lock:
            handles = self._paused.pop(instance.id, [])
        for handle in handles:
            # It may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGCONT)
            os.close(handle)

    def _pause(self, instance, name, seconds):
        handles = self._signal(instance, name, signal.SIGSTOP, keep=True)
        with self._lock:
            self._paused.setdefault(instance.id, []).extend(handles)
        if seconds is not None:
            timer = threading.Timer(seconds, self.resume, [instance])
            timer.daemon = True
            timer.start()
            self._timers.append(timer)
        return len(handles)

    def _signal(self, instance, name, number, keep=False):
        """Returns how many processes of this name there were; or, to keep, their handles."""
        handles = []
        for pid in network.processes_in(instance.namespace):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                handle = os.pidfd_open(pid)
                with open(f"/proc/{pid}/comm") as file:
                    if file.read().strip() != name:
                        os.close(handle)
                        continue
                handles.append(handle)
                signal.pidfd_send_signal(handle, number)
        if keep:
            return handles
        for handle in handles:
            os.close(handle)
        return len(handles)

    # Links.

    def cut(self, instance, incoming=True, outgoing=True, aws=False):
        kept = {"in": f"ip saddr {AWS_ADDRESS} accept;", "out": f"ip daddr {AWS_ADDRESS} accept;"} if aws else {}
        rules = {"in": "iifname eth0 drop;"} if incoming else {}
        rules |= {"out": "oifname eth0 drop;"} if outgoing else {}
        self._drop(instance, {way: kept.get(way, "") + rule for way, rule in rules.items()})

    def partition(self, ones, others, one_way=False):
        """Whatever else they reach, AWS among it, they reach on."""
        self._separate(others, ones)
        if not one_way:
            self._separate(ones, others)

    def _separate(self, receivers, senders):
        """Receivers get nothing of the senders. Dropped where it arrives."""
        if addresses := ", ".join(sender.address for sender in senders):
            for receiver in receivers:
                self._drop(receiver, {"in": f"iifname eth0 ip saddr {{ {addresses} }} drop;"})

    def _drop(self, instance, rules):
        self._count += 1
        table = f"fault{self._count}"
        hooks = {"in": "input", "out": "output"}
        chains = "".join(
            f"chain {way} {{ type filter hook {hooks[way]} priority -10; {rule} }}\n" for way, rule in rules.items()
        )
        nft(instance.namespace, f"table inet {table} {{ {chains} }}\n")
        self._tables.append((instance.namespace, table))

    def heal(self):
        tables, self._tables = self._tables, []
        for namespace, table in tables:
            try:
                nft(namespace, f"delete table inet {table}\n")
            except subprocess.CalledProcessError:
                # The instance may have been terminated.
                if os.path.exists(f"/run/netns/{namespace}"):
                    raise

    # Machines.

    def panic(self, instance):
        self.sandbox.vanish(instance)

    def small_disk(self, instance, mebibytes, path="/opt/consul"):
        """Owned and permitted as the directory it hides."""
        instance.run("mkdir", "-p", path, check=True)
        status = os.stat(instance.path(path))
        options = f"size={mebibytes}m,uid={status.st_uid},gid={status.st_gid},mode={status.st_mode & 0o7777:o}"
        instance.run("mount", "-t", "tmpfs", "-o", options, "small", path, check=True)

    def fill_disk(self, instance, path="/opt/consul"):
        """Only of a small disk: the others share the memory of this machine."""
        kind = instance.run("stat", "--file-system", "--format", "%T", path, check=True).stdout.strip()
        source = instance.run("findmnt", "--noheadings", "--output", "SOURCE", "--target", path).stdout.strip()
        if (kind, source) != ("tmpfs", "small"):
            raise ValueError(f"{path} of {instance.id} is no small disk")
        instance.run("dd", "if=/dev/zero", f"of={path}/{FILLER}", "bs=4k")

    def free_disk(self, instance, path="/opt/consul"):
        instance.run("rm", "-f", f"{path}/{FILLER}", check=True)

    # AWS.

    def aws(self, kind, action="*", times=None, probability=1.0, source=None, value=None):
        """
        - action: its name; every action, without it.
        - times: how many calls; every call, without it.
        - source: the instance whose calls fail; every one's, without it.
        - value: of `slow`, the seconds."""
        fault = Fault(kind, action, times, probability, source.address if source else None, value)
        with self.sandbox.aws.lock:
            self.sandbox.aws.faults.append(fault)
        return fault

    def end_aws(self, fault):
        with self.sandbox.aws.lock, contextlib.suppress(ValueError):
            self.sandbox.aws.faults.remove(fault)

    def clear(self):
        for timer in self._timers:
            timer.cancel()
            timer.join()
        self._timers.clear()
        for id in list(self._paused):
            if instance := self.sandbox.instances.get(id):
                self.resume(instance)
            else:
                for handle in self._paused.pop(id):
                    os.close(handle)
        self.heal()
        with self.sandbox.aws.lock:
            self.sandbox.aws.faults.clear()


def nft(namespace, rules):
    subprocess.run(
        ["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=rules, text=True, check=True, capture_output=True
    )
