"""sandbox: an AWS region with real Consul on this machine, in network namespaces of its own.

up                        start it, in the background
launch [GROUP] [COUNT]    launch instances into a group (created if missing), with the usual user-data line
terminate ID              terminate an instance: its processes die, its address goes
reboot ID                 power-cycle an instance
status                    list the instances and the state of their user-data
exec ID COMMAND...        run a command on an instance (by id, end of the id, or address)
fault KIND [ACTION [N]]   inject throttle, 5xx, denied, slow, hang, malformed, truncated, html or bomb: N times,
                          or until `fault none`
fault skew SECONDS        set AWS's clock ahead
fault expire              expire the current credentials of all instances; the metadata service has new ones
fault unknown SECONDS     hide instances launched from now on from EC2 for this time
metadata ID KEY VALUE     set hang_token, slow, fail, version1_only, disabled or no_role of a metadata service
demo [--keep]             boot five instances into one Consul datacenter
down                      stop it, and remove everything of it
"""

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time

from . import host
from . import sandbox as module
from .aws import Fault
from .waiting import TIMEOUT, until

# Not below the checkout: the path of a socket has at most 107 bytes.
SOCKET = os.path.join(host.RUN, module.CHECKOUT + ".sock")


class Control:
    """Calls that the running sandbox answers."""

    def __init__(self, sandbox):
        self.sandbox = sandbox

    def find(self, word):
        for instance in self.sandbox.instances.values():
            if instance.id == word or instance.address == word or instance.id.endswith(word):
                return instance
        raise KeyError(f"no instance {word}")

    def status(self):
        return [
            {
                "id": i.id,
                "address": i.address,
                "zone": i.zone,
                "pid": i.pid,
                "user-data": i.status,
                "healthy": " healthy leader=" in i.log,
            }
            for i in self.sandbox.instances.values()
        ]

    def launch(self, group="consul", count=1, desired=None):
        groups = {
            g["AutoScalingGroupName"]
            for g in self.sandbox.aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        }
        if group not in groups:
            self.sandbox.aws.create_group(group)
        new = [self.sandbox.launch(group=group, boot=False, hidden_for=self.hidden_for) for _ in range(int(count))]
        # The whole user-data, as an administrator writes it.
        for instance in new:
            instance.boot("#!/bin/sh\nexec consul-bootstrap --group " + group + "\n")
        return [i.id for i in new]

    def terminate(self, word):
        self.sandbox.terminate(self.find(word))

    def reboot(self, word):
        self.find(word).reboot("#!/bin/sh\nexec consul-bootstrap\n")

    hidden_for = 0

    def fault(self, kind, action="*", times=None):
        self.sandbox.aws.faults.clear()
        if kind == "none":
            self.sandbox.aws.clock_offset = self.hidden_for = 0
        elif kind == "skew":
            self.sandbox.aws.clock_offset = int(action)
        elif kind == "unknown":
            self.hidden_for = float(action)
        elif kind == "expire":
            for instance in self.sandbox.instances.values():
                self.sandbox.aws.expired_keys.add(instance.metadata.current_credentials()["AccessKeyId"])
                instance.metadata.rotate()
        else:
            self.sandbox.aws.faults.append(Fault(kind, action, times=int(times) if times else None, value=5))

    def metadata(self, word, key, value):
        service = self.find(word).metadata
        getattr(service, key)
        setattr(service, key, json.loads(value))

    def demo(self):
        self.sandbox.aws.create_group("consul", desired=5)
        members = [self.sandbox.launch(group="consul", boot=False) for _ in range(5)]
        for member in members:
            member.boot("#!/bin/sh\nexec consul-bootstrap --expect 5\n")

    def log(self, word):
        return self.find(word).log


def serve():
    sandbox = module.Sandbox()
    for name, (before, now) in sandbox.raised.items():
        print(f"raised {name} from {before} to {now} while the sandbox is up", flush=True)
    control = Control(sandbox)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            try:
                request = json.loads(self.rfile.readline())
                reply = {"result": getattr(control, request["call"])(*request["arguments"])}
            except Exception as error:
                reply = {"error": str(error)}
            self.wfile.write(json.dumps(reply).encode() + b"\n")

    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    server = socketserver.ThreadingUnixStreamServer(SOCKET, Handler)
    server.daemon_threads = True

    def stop(*_):
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        os.unlink(SOCKET)
        sandbox.down()


def is_up():
    try:
        call("status")
        return True
    except OSError:
        return False


def call(name, *arguments):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        connection.sendall(json.dumps({"call": name, "arguments": arguments}).encode() + b"\n")
        reply = json.loads(connection.makefile().readline())
    if "error" in reply:
        sys.exit(f"sandbox: {reply['error']}")
    return reply.get("result")


def up():
    try:
        host.require(module.FILES)
    except host.HostError as error:
        sys.exit(f"sandbox: {error}")
    os.makedirs(module.STATE, exist_ok=True)
    log = os.path.join(module.STATE, "sandbox.log")
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "Tests.Sandbox", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            cwd=module.ROOT,
        )
    until(lambda: is_up() or process.poll() is not None)
    if not is_up():
        with open(log) as file:
            sys.exit("sandbox: did not start\n" + file.read())


def execute(word, command):
    found = [i for i in call("status") if i["id"] == word or i["address"] == word or i["id"].endswith(word)]
    if not found:
        sys.exit(f"sandbox: no instance {word}")
    enter = ["nsenter", "-t", str(found[0]["pid"]), "--mount", "--uts", "--ipc", "--net", "--pid", "--root"]
    return subprocess.run(
        [*enter, "env", "-i", "--chdir=/", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", *command]
    ).returncode


def print_status():
    for i in call("status"):
        state = (
            "healthy"
            if i["healthy"]
            else "running"
            if i["user-data"] is None
            else f"user-data ended, status {i['user-data']}"
        )
        print(f"{i['id']}  {i['address']:<10}  {i['zone']}  {state}")


def demo(keep):
    bold = lambda text: print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)
    if is_up():
        sys.exit("sandbox: already running; stop it with make sandbox-down")
    bold("==> Starting the sandbox: two availability zones, instance metadata, the AWS APIs with signatures checked")
    up()
    try:
        bold("==> Launching an Auto Scaling group of five; each instance's user-data is: consul-bootstrap --expect 5")
        started = time.monotonic()
        call("demo")
        while not all(i["healthy"] for i in call("status")):
            if any(i["user-data"] not in (None, 0) for i in call("status")) or time.monotonic() - started > TIMEOUT:
                print_status()
                for i in call("status"):
                    print(call("log", i["id"])[-3000:])
                sys.exit("sandbox: the group did not become healthy")
            time.sleep(0.1)
        bold(f"==> All five verified healthy, {time.monotonic() - started:.1f} s after the first boot")
        print_status()
        first = call("status")[0]["address"]
        bold("\n==> consul members")
        execute(first, ["consul", "members"])
        bold("\n==> consul operator raft list-peers")
        execute(first, ["consul", "operator", "raft", "list-peers"])
        bold("\n==> What one instance logged")
        print("".join(line + "\n" for line in call("log", first).splitlines() if line.startswith("20")), end="")
        bold("\n==> Next steps")
        if keep:
            print(
                f"Tests/Sandbox/sandbox status\n"
                f"Tests/Sandbox/sandbox exec {first} consul-bootstrap --dry-run --start none\n"
                f"Tests/Sandbox/sandbox exec {first} cat /etc/consul.d/00-consul-bootstrap.json\n"
                f"Tests/Sandbox/sandbox terminate {call('status')[1]['address']}   # then: Tests/Sandbox/sandbox "
                "launch\n"
                f"make sandbox-down"
            )
        else:
            print("make demo KEEP=1 leaves the sandbox running; README.md lists the options and the supported systems")
    finally:
        if not keep:
            down()


def down():
    module.remove_stale(all=True)
    until(lambda: not is_up())


def main():
    command, *arguments = sys.argv[1:] or ["help"]
    if command == "serve":
        serve()
    elif command == "up":
        sys.exit("sandbox: already running") if is_up() else up()
    elif command == "down":
        down()
    elif command == "demo":
        demo(keep="--keep" in arguments)
    elif command == "status":
        print_status()
    elif command == "exec" and len(arguments) > 1:
        sys.exit(execute(arguments[0], arguments[1:]))
    elif command in ("launch", "terminate", "reboot", "fault", "metadata"):
        try:
            result = call(command, *arguments)
        except OSError:
            sys.exit("sandbox: not running; start it with Tests/Sandbox/sandbox up")
        print("\n".join(result) if result else "done")
    else:
        print(__doc__)
        sys.exit(0 if command in ("help", "--help", "-h") else 2)


main()
