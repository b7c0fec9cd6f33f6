"""make bench: this program compared with what it replaces, in one run, on this machine. Prints a table and draws an
SVG.

python -m Tests.Sandbox.bench [--runs N] [--only discovery|large|boot|dual|fleet|small|idle|logs]
"""

import argparse
import calendar
import contextlib
import http.client
import http.server
import json
import os
import platform
import random
import re
import shutil
import socketserver
import statistics
import subprocess
import sys
import threading
import time
from typing import ClassVar

from . import footprint, network
from .host import HostError
from .sandbox import AWS_ADDRESS, BUILD, ROOT, Sandbox
from .waiting import TIMEOUT, until

# The interpreter that instances have, too: the measured programs run inside them.
PYTHON = "/usr/bin/python3"
# Some of what is measured takes minutes.
PATIENCE = 4 * TIMEOUT
RESULTS = os.path.join(BUILD, "bench")
CLI = os.path.join(BUILD, "bench-venv")
AWSLOGS = os.path.join(BUILD, "awslogs-venv")

# Seed 000, with the AWS CLI: the ids of the members, then one call for the address of each, sorted as text.
SEED = """
ids() {
  aws autoscaling describe-auto-scaling-groups --auto-scaling-group-name bench | grep '"InstanceId"' | cut -d '"' -f 4
}
while [ "$(ids | wc -l)" -lt "$1" ]; do sleep 1; done
for id in $(ids); do
  aws ec2 describe-instances --instance-ids "$id" --query 'Reservations[].Instances[].[PrivateIpAddress]' --output text
done | sort | head -1
"""
# The fastest shell script: one call, filtered by the service, sorted by number.
BEST = """
aws ec2 describe-instances \\
  --filters Name=tag:aws:autoscaling:groupName,Values=bench Name=instance-state-name,Values=pending,running \\
  --query 'Reservations[].Instances[].[PrivateIpAddress]' --output text | sort -t . -k 1,1n -k 2,2n -k 3,3n -k 4,4n
"""
# Neither shell script runs Consul. For a fair comparison, a static stand-in prints its version here.
STUB = '#include <unistd.h>\nint main(void) { return write(1, "Consul v1.8.7\\n", 14) != 14; }\n'

# Runs inside the instance: wall time, CPU time and peak memory of a command and its children, so many times.
MEASURE = """
import json, os, sys, time
runs, command, results = int(sys.argv[1]), sys.argv[2:], []
for _ in range(runs):
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        null = os.open('/dev/null', os.O_RDWR)
        for fd in (1, 2): os.dup2(null, fd)
        os.execvp(command[0], command)
    _, status, usage = os.wait4(pid, 0)
    wall, cpu, exit = time.perf_counter() - started, usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)
    results.append([wall, cpu, usage.ru_maxrss / 1024, exit])
print(json.dumps(results))
"""

PROGRAM = "/usr/local/bin/consul-bootstrap"
# Seconds after which a sidecar is at peace, and for which it is measured.
IDLE_AFTER, IDLE = 60, 600


def measure(instance, runs, *command, environment=None):
    result = instance.run(
        "/usr/bin/python3", "-c", MEASURE, str(runs), *command, timeout=PATIENCE, environment=environment
    )
    rows = json.loads(result.stdout)
    assert all(row[3] == 0 for row in rows), (command, rows)
    return {
        "wall": statistics.median(r[0] for r in rows),
        "cpu": statistics.median(r[1] for r in rows),
        "memory": max(r[2] for r in rows),
    }


def install_cli():
    if not os.path.exists(os.path.join(CLI, "bin", "aws")):
        print("installing the AWS CLI", flush=True)
        subprocess.run([PYTHON, "-m", "venv", CLI], check=True)
        subprocess.run(
            [os.path.join(CLI, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "awscli"], check=True
        )


def prepare(instance):
    """Every address of the VPC answers on this machine: a host that is up, on which nothing listens yet."""
    for block in ("10.0.1.0/24", "10.0.2.0/24", "10.1.0.0/16"):
        instance.run("ip", "route", "add", "local", block, "dev", "lo", check=True)
    stub = instance.path("/usr/local/bin/consul-stub")
    os.makedirs(os.path.dirname(stub), exist_ok=True)
    with open(instance.path("/tmp/stub.c"), "w") as file:
        file.write(STUB)
    subprocess.run(["gcc", "-static", "-O1", "-o", stub, instance.path("/tmp/stub.c")], check=True)


def discovery(sandbox, runs, sizes=(5, 50, 200)):
    rows = []
    for size in sizes:
        sandbox.clear()
        sandbox.aws.create_group("bench")
        instance = sandbox.launch(group="bench")
        prepare(instance)
        for index in range(size - 1):
            zone = "ab"[index % 2]
            sandbox.aws.run_instance(f"eu-west-1{zone}", f"10.0.{1 + index % 2}.{20 + index // 2}", group="bench")
        cli = {
            "PATH": f"{CLI}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt",
        }
        ours = [PROGRAM, "--dry-run", "--json", "--group", "bench", "--consul", "/usr/local/bin/consul-stub"]
        plan = json.loads(instance.run(*ours, check=True).stdout)
        assert plan["group"]["eligible"] == size
        found = instance.run("sh", "-c", BEST, environment=cli)
        assert len(found.stdout.split()) == size, found.stdout + found.stderr
        row = {
            "size": size,
            "ours": measure(instance, 5 * runs, *ours),
            "best shell": measure(instance, runs, "sh", "-c", BEST, environment=cli),
        }
        row["seed 000"] = measure(
            instance, 1 if size > 5 else runs, "sh", "-c", SEED, "seed", str(size), environment=cli
        )
        rows.append(row)
        print(
            f"  discovery of {size}: "
            + ", ".join(f"{k} {v['wall']:.3f} s wall {v['cpu']:.4f} s CPU" for k, v in row.items() if k != "size"),
            flush=True,
        )
    return rows


class Recorded(http.server.BaseHTTPRequestHandler):
    """A large group, in the shape of AWS's answers, at no cost for the server."""

    protocol_version = "HTTP/1.1"
    pages: ClassVar = {}

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        token = re.search(r"NextToken=(\d+)", body)
        answer = self.pages["group" if "DescribeAutoScalingGroups" in body else int(token.group(1)) if token else 0]
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def record(sandbox, instance, size):
    """One instance as moto describes it, repeated with its own id and address."""
    captured = []
    client = sandbox.aws.client("ec2")
    client.meta.events.register(
        "before-parse.ec2.DescribeInstances", lambda response_dict, **_: captured.append(response_dict["body"])
    )
    client.describe_instances()
    text = captured[0].decode()
    text = text[text.index("<DescribeInstancesResponse") :]
    item = re.search(r"<reservationSet>\s*(<item>.*</item>)\s*</reservationSet>", text, re.S).group(1)
    ids = [instance.id] + [f"i-{n:017x}" for n in range(1, size)]
    addresses = [instance.address] + [f"10.1.{n // 250}.{n % 250 + 1}" for n in range(1, size)]
    pages = {}
    for start in range(0, size, 1000):
        items = "".join(
            item.replace(instance.id, i).replace(instance.address, a)
            for i, a in list(zip(ids, addresses, strict=True))[start : start + 1000]
        )
        token = f"<nextToken>{start + 1000}</nextToken>" if start + 1000 < size else ""
        pages[start] = (
            '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>'
            "<reservationSet>"
            f"{items}</reservationSet>"
            f"{token}</DescribeInstancesResponse>"
        ).encode()
    members = "".join(
        f"<member><InstanceId>{i}</InstanceId><AvailabilityZone>eu-west-1a</AvailabilityZone><LifecycleState>"
        "InService</LifecycleState>"
        "<HealthStatus>"
        "Healthy</HealthStatus>"
        "<ProtectedFromScaleIn>"
        "false</ProtectedFromScaleIn>"
        "<InstanceType>"
        "t3.micro</InstanceType>"
        "</member>"
        for i in ids
    )
    pages["group"] = (
        '<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">'
        "<DescribeAutoScalingGroupsResult>"
        "<AutoScalingGroups>"
        "<member>"
        f"<AutoScalingGroupName>bench</AutoScalingGroupName><DesiredCapacity>{size}</DesiredCapacity><Instances>"
        f"{members}</Instances>"
        "</member>"
        "</AutoScalingGroups>"
        "</DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
    ).encode()
    return pages


def large(sandbox, runs):
    rows = []
    sandbox.clear()
    sandbox.aws.create_group("bench")
    instance = sandbox.launch(group="bench")
    prepare(instance)

    class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
        daemon_threads = True

    server = Server((AWS_ADDRESS, 8080), Recorded, bind_and_activate=False)
    server.socket.close()
    server.socket = network.listen(sandbox.namespace, AWS_ADDRESS, 8080)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for size in (1000, 10000):
        Recorded.pages = record(sandbox, instance, size)
        environment = {"AWS_ENDPOINT_URL": f"http://{AWS_ADDRESS}:8080"}
        command = [PROGRAM, "--dry-run", "--json", "--group", "bench", "--consul", "/usr/local/bin/consul-stub"]
        plan = json.loads(instance.run(*command, environment=environment, check=True).stdout)
        assert plan["group"]["eligible"] == size, plan["group"]["eligible"]
        row = {
            "size": size,
            "bytes": sum(len(page) for page in Recorded.pages.values()),
            **measure(instance, runs, *command, environment=environment),
        }
        rows.append(row)
        print(
            f"  {size} members: {row['cpu']:.2f} s CPU, {row['wall']:.2f} s wall, {row['memory']:.0f} MiB peak, "
            f"{row['bytes'] / 1e6:.1f} "
            "MB "
            "of "
            "answers",
            flush=True,
        )
    server.shutdown()
    return rows


START = "#!/bin/sh\ndate +%s.%N > /var/log/started\n"


def tuned(address, joins):
    return {
        "datacenter": "dc1",
        "data_dir": "/opt/consul",
        "bind_addr": address,
        "client_addr": "127.0.0.1",
        "server": True,
        "bootstrap_expect": 5,
        "retry_join": joins,
        "retry_interval": "1s",
        "performance": {"raft_multiplier": 1},
        "autopilot": {"server_stabilization_time": "1s"},
        "leave_on_terminate": True,
    }


class LeaderWatch(threading.Thread):
    """Asks an agent from inside its instance, as a health check does, until it knows a leader.

    The log would be late: an agent logs a new leader when gossip brings the news, up to 0.2 s after its raft knows
    it."""

    def __init__(self, member):
        super().__init__(daemon=True)
        self.namespace, self.found = member.namespace, None
        self.ended = threading.Event()
        self.start()

    def run(self):
        network.enter_namespace(self.namespace)
        while not self.found and not self.ended.wait(0.02):
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", 8500, timeout=5)
                connection.request("GET", "/v1/status/leader")
                if len(connection.getresponse().read()) > len('""'):
                    self.found = time.time()
                connection.close()


def boot_once(sandbox, kind):
    """Five instances at once; seconds from the first start of a user-data line until the last agent knows a leader.

    What is compared: the instances are launched and listed before the first one boots; the user-data lines start one
    after another, for each kind alike; the agents have the same timing (`tuned`: raft_multiplier, retry_interval,
    autopilot), and each is asked for its leader in the same way. The runs take turns. Configurations by hand name the
    addresses, which are unknown before the launch. Auto-join gets keys and region, so that it needs no metadata (this
    Consul's SDK cannot use version 2 of the service); this program asks the metadata service for both. And this
    program's time ends later: when it has verified that every server is a voter.

    Of this program in three parts: the longest own time of an instance before its agent runs; the own time from the
    moment when the first agent knows a leader; and the rest: the election, and the starts one after another."""
    sandbox.clear()
    sandbox.aws.create_group("consul", desired=5)
    members = [sandbox.launch(group="consul", boot=False) for _ in range(5)]
    addresses = [m.address for m in members]
    for member in members:
        if kind != "ours":
            directory = member.path("/etc/consul.d")
            os.makedirs(directory, exist_ok=True)
            joins = [a for a in addresses if a != member.address]
            if kind == "auto-join":
                joins = ["provider=aws region=eu-west-1 tag_key=Name tag_value=consul addr_type=private_v4"]
            with open(os.path.join(directory, "consul.json"), "w") as file:
                json.dump(tuned(member.address, joins), file)
    line = {
        "ours": "exec consul-bootstrap --expect 5 --group consul\n",
        "by hand": "exec consul agent -config-dir=/etc/consul.d\n",
        "auto-join": f"export AWS_ACCESS_KEY_ID={sandbox.aws.admin[0]} "
        f"AWS_SECRET_ACCESS_KEY={sandbox.aws.admin[1]}\nexec consul agent -config-dir=/etc/consul.d\n",
    }[kind]
    watches = []
    for member in members:
        member.boot(START + line)
        watches.append(LeaderWatch(member))
    mark = " healthy leader=" if kind == "ours" else "Consul agent running!"
    try:
        until(
            lambda: all(w.found for w in watches) and all(mark in m.log for m in members),
            lambda: "\n".join(m.log[-1500:] for m in members),
        )
    finally:
        for watch in watches:
            watch.ended.set()
            watch.join()

    def stamps(text):
        return [stamp(next(line for line in m.log.splitlines() if text in line)) for m in members]

    started = [float(m.read("/var/log/started")) for m in members]
    found = [watch.found for watch in watches]
    parts = {"whole": max(stamps(mark) if kind == "ours" else found) - min(started)}
    if kind == "ours":
        # The instances start one after another: the own time is each instance's.
        parts["before"] = max(
            running - start for running, start in zip(stamps("the agent is running"), started, strict=True)
        )
        parts["after"] = max(0, max(stamps(mark)) - min(found))
        parts["election"] = parts["whole"] - parts["before"] - parts["after"]
    return parts


def boot(sandbox, runs):
    times = {"ours": [], "by hand": [], "auto-join": []}
    for run in range(runs):
        for turn in range(len(times)):
            kind = list(times)[(run + turn) % len(times)]
            times[kind].append(boot_once(sandbox, kind))
    for kind, values in times.items():
        for part in values[0]:
            figures = [value[part] for value in values]
            print(
                f"  five at once, {kind}, {part}: median {statistics.median(figures):.3f} s "
                f"({min(figures):.3f} to {max(figures):.3f}, {len(figures)} runs)",
                flush=True,
            )
    return times


def median_part(values, part="whole"):
    return statistics.median(value[part] for value in values)


STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d\.\d+)Z")


def stamp(line):
    parts = [float(part) for part in STAMP.search(line).groups()]
    return calendar.timegm((*map(int, parts[:5]), 0)) + parts[5]


def dual_once(sandbox, kind):
    """Three servers in each of two zones at once; seconds until every one has a leader and six WAN members, and ours
    reports it."""
    sandbox.clear()
    members = []
    for zone in "ab":
        sandbox.aws.create_group(f"consul-{zone}", desired=3, zone=f"eu-west-1{zone}")
        members += [sandbox.launch(zone=f"eu-west-1{zone}", group=f"consul-{zone}", boot=False) for _ in range(3)]
    for member in members:
        if kind == "by hand":
            lan = [m.address for m in members if m.zone == member.zone and m is not member]
            wan = [m.address for m in members if m.zone != member.zone]
            configuration = dict(
                tuned(member.address, lan),
                datacenter=member.zone,
                bootstrap_expect=3,
                retry_join_wan=wan,
                retry_interval_wan="1s",
            )
            member.write("/etc/consul.d/consul.json", json.dumps(configuration))
    line = {
        "ours": "exec consul-bootstrap --layout datacenter-per-az --group consul-a --group consul-b\n",
        "by hand": "exec consul agent -config-dir=/etc/consul.d\n",
    }[kind]
    for member in members:
        member.boot(START + line)

    def ready(member):
        lines = member.log.splitlines()
        leader = [line for line in lines if "New leader elected" in line]
        joined = [line for line in lines if "serf.wan: serf: EventMemberJoin" in line]
        proven = [line for line in lines if " healthy leader=" in line]
        if not leader or len(joined) < 6 or (kind == "ours" and not proven):
            return None
        return max(stamp(line) for line in [leader[0], joined[5], *proven[:1]])

    until(lambda: all(ready(m) for m in members), lambda: "\n".join(m.log[-1500:] for m in members))
    return max(ready(m) for m in members) - min(float(m.read("/var/log/started")) for m in members)


def dual(sandbox, runs):
    times = {"ours": [], "by hand": []}
    for _ in range(runs):
        for kind in times:
            times[kind].append(dual_once(sandbox, kind))
    for kind, values in times.items():
        print(
            f"  two zones of three, {kind}: median {statistics.median(values):.2f} s ({min(values):.2f} to "
            f"{max(values):.2f}, "
            f"{len(values)} "
            "runs)",
            flush=True,
        )
    return times


def fleet(sandbox, runs, size=100):
    """So many clients at once, each an instance with an agent of its own, all on this one machine: two cores carry
    no more."""
    sandbox.clear()
    servers = sandbox.launch_group(3, options="--group consul")
    until(lambda: all(" healthy " in m.log for m in servers))
    clients = [sandbox.launch(tags={"Name": "client"}, boot=False) for _ in range(size)]
    sandbox.network.introduce({AWS_ADDRESS: sandbox.namespace, **{m.address: m.namespace for m in servers + clients}})
    start = time.time() + 5 + size * 0.15
    line = f"#!/bin/sh\nwhile [ $(date +%s) -lt {start:.0f} ]; do sleep 0.5; done\n"
    sandbox.aws.calls.clear()
    for member in clients:
        member.boot(
            line
            + START.partition("\n")[2]
            + "exec consul-bootstrap --role client --group consul --sidecar-interval 10m\n"
        )
    until(
        lambda: all(" healthy leader=" in m.log for m in clients),
        lambda: f"{sum(' healthy ' in m.log for m in clients)} of {size}",
    )
    times = []
    for member in clients:
        lines = member.log.splitlines()
        times.append(
            stamp(next(line for line in lines if " healthy leader=" in line)) - float(member.read("/var/log/started"))
        )
    calls = sum(call["source"] in {m.address for m in clients} for call in sandbox.aws.calls) / size
    print(
        f"  {size} clients at once: median {statistics.median(times):.1f} s, worst {max(times):.1f} s to joined "
        "(start jitter up to 10 s "
        "included),"
        " "
        f"{calls:.2f} "
        "API "
        "calls "
        "each",
        flush=True,
    )
    return {"size": size, "median": statistics.median(times), "worst": max(times), "calls": calls}


# Inside the instance: starts a forwarder, waits until the sink has everything, and prints what the forwarder has used.
FORWARD = """
import json, os, resource, signal, sys, time
events, idle, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
def got():
    try: return json.load(open('/run/sink.progress'))
    except OSError: return {'events': 0, 'bytes': 0}
def used(pid):
    fields = open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()
    peak = next(int(l.split()[1]) for l in open(f'/proc/{pid}/status') if l.startswith('VmHWM'))
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK'), peak / 1024
started = time.monotonic()
pid = os.fork()
if pid == 0:
    output = os.open('/run/forwarder.log', os.O_RDWR | os.O_CREAT)
    for fd in (1, 2): os.dup2(output, fd)
    os.execvp(command[0], command)
while got()['events'] < events and time.monotonic() < started + 900: time.sleep(0.05)
wall, (cpu, peak) = time.monotonic() - started, used(pid)
at, rest = time.monotonic(), cpu
if idle: time.sleep(idle)
idle_cpu = (used(pid)[0] - rest) / (time.monotonic() - at) if idle else 0
os.kill(pid, signal.SIGTERM)
os.waitpid(pid, 0)
print(json.dumps({'wall': wall, 'cpu': cpu, 'peak': peak, 'idle': idle_cpu, 'got': got()}))
"""


def install_awslogs():
    """The agent of the articles: a plugin of the AWS CLI."""
    if not os.path.exists(os.path.join(AWSLOGS, "bin", "aws")):
        print("installing the awslogs agent", flush=True)
        subprocess.run([PYTHON, "-m", "venv", AWSLOGS], check=True)
        # It uses pkg_resources, which later ones have not.
        subprocess.run(
            [
                os.path.join(AWSLOGS, "bin", "pip"),
                "install",
                "-q",
                "--disable-pip-version-check",
                "awscli-cwlogs",
                "setuptools<81",
            ],
            check=True,
        )


def write_log(path, lines):
    """Lines like an agent's at debug level, of 200 bytes each: a few dozen sentences, with ids, addresses and
    numbers of their own."""
    modules = [
        "server.raft",
        "server.serf.lan",
        "server.memberlist",
        "http",
        "dns",
        "leader",
        "server.rpc",
        "proxycfg",
        "cache",
        "connect",
    ]
    sentences = [
        f"{verb} {noun}"
        for verb in ("request finished for", "stream event about", "synced check of", "registered", "probed")
        for noun in ("service", "node", "session", "intention")
    ]
    stamp, generator = time.time() - lines / 2000, random.Random(1)
    with open(path, "w") as file:
        for number in range(lines):
            if number % 20 == 0:
                stamp += 0.01
                when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp)) + f".{int(stamp * 1000) % 1000:03d}Z"
            r = generator.getrandbits(128)
            line = (
                f"{when} [DEBUG] agent.{modules[r % 10]}: {sentences[r % 20]}: id={r:032x} "
                f"from=10.0.{r % 7}.{r % 251}:{32768 + r % 28000} index={number} latency={r % 9000 / 1000:.3f}ms "
                f"node=i-0{r & 0xFFFF:04x}consul datacenter=eu-west-1a"
            )
            file.write(line.ljust(199)[:199] + "\n")


def forward(sandbox, kind, megabytes, idle=0):
    """One forwarder, one file of 200-byte lines, one service that is never the bottleneck."""
    instance = sandbox.launch(group="consul")
    lines = megabytes * 5000
    write_log(instance.path("/var/log/bench.log"), lines)
    shutil.copyfile(os.path.join(os.path.dirname(__file__), "log_sink.py"), instance.path("/run/log_sink.py"))
    sink = instance.start("/usr/bin/python3", "/run/log_sink.py", "9999", "/run/sink")
    until(lambda: instance.exists("/run/sink.progress"))
    environment = {"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://127.0.0.1:9999", "CONSUL_BOOTSTRAP_START": "none"}
    if kind == "ours":
        command = [PROGRAM, "sidecar", "--log", "file:/var/log/bench.log"]
    else:
        instance.write("/root/.aws/config", "[plugins]\ncwlogs = cwlogs\n[default]\nregion = eu-west-1\n")
        instance.write(
            "/etc/awslogs.conf",
            "[general]\nstate_file = /var/lib/awslogs-state\n[/var/log/bench.log]\nfile = /var/log/bench.log\n"
            "log_group_name = g\n"
            "log_stream_name = s\ninitial_position = start_of_file\ndatetime_format = %Y-%m-%dT%H:%M:%S\n"
            "batch_count = 10000\n"
            "batch_size "
            "= "
            "1048576\n",
        )
        command = [
            os.path.join(AWSLOGS, "bin", "aws"),
            "logs",
            "push",
            "--config-file",
            "/etc/awslogs.conf",
            "--endpoint-url",
            "http://127.0.0.1:9999",
        ]
    result = instance.run(
        "/usr/bin/python3", "-c", FORWARD, str(lines), str(idle), *command, environment=environment, timeout=PATIENCE
    )
    sink.terminate()
    if result.returncode:
        raise AssertionError(result.stderr + instance.read("/run/forwarder.log")[-3000:])
    found = json.loads(result.stdout)
    if found["got"]["events"] < lines:
        raise AssertionError(f"{kind}: {found}\n{instance.read('/run/forwarder.log')[-3000:]}")
    sandbox.clear()
    return {**found, "megabytes": megabytes}


def logs(sandbox, runs):
    results = {}
    for kind, megabytes in (("awslogs", 40), ("ours", 400)):
        found = []
        for run in range(max(1, runs // (3 if kind == "awslogs" else 1))):
            sandbox.clear()
            sandbox.aws.create_group("consul")
            found.append(forward(sandbox, kind, megabytes, idle=20 if run == 0 and kind == "ours" else 0))
        median = lambda key, found=found: statistics.median(f[key] for f in found)
        results[kind] = {
            "MB/s": megabytes / median("wall"),
            "lines/s": megabytes * 5000 / median("wall"),
            "MB per CPU second": megabytes / median("cpu"),
            "CPU s per GB": median("cpu") / megabytes * 1000,
            "received share": statistics.median(f["got"]["received"] / f["got"]["bytes"] for f in found),
            "peak MiB": max(f["peak"] for f in found),
            "idle CPU %": 100 * max(f["idle"] for f in found),
        }
        print(kind, {k: round(v, 2) for k, v in results[kind].items()}, flush=True)
    print(
        f"per CPU second: {results['ours']['MB per CPU second'] / results['awslogs']['MB per CPU second']:.0f} "
        "times "
        "awslogs",
        flush=True,
    )
    return results


def small(sandbox, runs):
    sandbox.clear()
    members = sandbox.launch_group(3)
    until(lambda: all(" healthy " in m.log for m in members))
    # Once it has settled: five equal figures in a row.
    figures = []
    until(
        lambda: figures.append(members[0].resident()) or (len(set(figures[-5:])) == 1 and len(figures) >= 5), every=0.3
    )
    memory = figures[-1]
    version = measure(members[0], 50, PROGRAM, "--version")
    print(f"  supervising: {memory:.1f} MiB resident; --version: {version['wall'] * 1000:.1f} ms", flush=True)
    return {"memory": memory, "version": version["wall"]}


class Idling:
    """A server's sidecar at one time."""

    def __init__(self, sandbox, member):
        pid = footprint.sidecar(member)
        self.at, self.cpu, self.memory = time.monotonic(), footprint.cpu(pid), footprint.resident(pid)
        self.metadata = len(member.metadata.requests)
        self.aws = sum(call["source"] == member.address for call in sandbox.aws.calls)

    def since(self, before):
        wall = self.at - before.at
        return {
            "memory": self.memory,
            "CPU %": 100 * (self.cpu - before.cpu) / wall,
            "metadata": 5 * (self.metadata - before.metadata) / wall,
            "AWS": 300 * (self.aws - before.aws) / wall,
        }


def idle(sandbox, runs):
    """Sidecars of a cluster at peace, which watch for notices, for twice as long as their rarest poll takes: the worst
    memory and CPU time, and the mean of the requests, whose intervals are random."""
    sandbox.clear()
    members = sandbox.launch_group(3, systemd=True, boot=False)
    sandbox.lifecycle.put_hook("consul")
    for member in members:
        member.boot()
    # They leave the sidecar behind.
    for run in [m.start_bootstrap("--expect", "3", "--termination-hook", "hook") for m in members]:
        output = run.finish()
        assert run.returncode == 0, output
    time.sleep(IDLE_AFTER)
    before = [Idling(sandbox, member) for member in members]
    time.sleep(IDLE)
    found = [Idling(sandbox, m).since(b) for m, b in zip(members, before, strict=True)]
    of_requests = {"metadata": statistics.mean, "AWS": statistics.mean}
    figures = {name: of_requests.get(name, max)(row[name] for row in found) for name in found[0]}
    print(f"  idle sidecar: {figures}", flush=True)
    return figures


def table(results):
    lines = ["| Measure | Ours | Beside it | Ratio | To reach |", "|---|---|---|---|---|"]
    goals = {"seed 000": (30, 200), "best shell": (5, 30)}
    for row in results.get("discovery", []):
        for other, (wall, cpu) in goals.items():
            ours, theirs = row["ours"], row[other]
            lines.append(
                f"| discovery of {row['size']}, against {other} | {ours['wall'] * 1000:.0f} ms wall, "
                f"{ours['cpu'] * 1000:.1f} "
                "ms "
                "CPU "
                f"| {theirs['wall']:.2f} s wall, {theirs['cpu']:.2f} s CPU | {theirs['wall'] / ours['wall']:.0f}× "
                f"wall, {theirs['cpu'] / ours['cpu']:.0f}× "
                "CPU "
                f"| {wall}× wall, {cpu}× CPU |"
            )
    limits = {1000: "0.2 s CPU, 40 MiB", 10000: "1.5 s CPU, 100 MiB"}
    for row in results.get("large", []):
        lines.append(
            f"| a group of {row['size']:,} ({row['bytes'] / 1e6:.0f} MB of answers) | {row['cpu']:.2f} s CPU, "
            f"{row['memory']:.0f} MiB | "
            "| "
            "| "
            f"{limits[row['size']]} "
            "|"
        )
    if "boot" in results:
        ours = median_part(results["boot"]["ours"])
        own = [median_part(results["boot"]["ours"], part) for part in ("before", "election", "after")]
        lines.append(
            f"| of these, before the agents run, election, after a leader is known | {own[0]:.2f} s, {own[1]:.2f} s, "
            f"{own[2]:.2f} s | | {(own[0] + own[2]) / ours:.0%} own | at most 12% |"
        )
        for kind in ("by hand", "auto-join"):
            theirs = median_part(results["boot"][kind])
            name = {"by hand": "configurations tuned by hand", "auto-join": "Consul's cloud auto-join, tuned"}[kind]
            lines.append(
                f"| five at once to a leader, against {name} | {ours:.2f} s, verification included | {theirs:.2f} s | "
                f"{ours / theirs:.2f}× | at "
                f"most {'1.00' if kind == 'auto-join' else '1.15'}× |"
            )
    if "dual" in results:
        ours, theirs = (statistics.median(results["dual"][kind]) for kind in ("ours", "by hand"))
        lines.append(
            "| two zones of three at once to two leaders and six WAN members, against configurations tuned by hand "
            f"| {ours:.2f} s, proof "
            "included "
            "| "
            f"{theirs:.2f} "
            "s "
            "| "
            f"{ours / theirs:.2f}× "
            "| "
            "at "
            "most "
            "1.2× |"
        )
    if "fleet" in results:
        row = results["fleet"]
        lines.append(
            f"| {row['size']} clients at once to joined, a start jitter of up to 10 s included | median "
            f"{row['median']:.1f} s, "
            "worst "
            f"{row['worst']:.1f} "
            "s,"
            " "
            f"{row['calls']:.2f} "
            "API "
            "calls "
            "each | | | |"
        )
    if "small" in results:
        lines.append(f"| memory while supervising | {results['small']['memory']:.1f} MiB | | | at most 20 MiB |")
        lines.append(
            f"| `consul-bootstrap --version` | {results['small']['version'] * 1000:.1f} ms | | | at most 10 ms |"
        )
    if "idle" in results:
        row = results["idle"]
        lines.append(
            f"| idle sidecar of a server, notices included | {row['memory']:.1f} MiB, {row['CPU %']:.2f}% CPU, "
            f"{row['metadata']:.1f} metadata requests in 5 s, {row['AWS']:.1f} AWS calls in 5 minutes | | "
            "| at most 20 MiB, 0.2% CPU, 4, 2 |"
        )
    if "logs" in results:
        ours, theirs = results["logs"]["ours"], results["logs"]["awslogs"]
        lines.append(
            f"| log forwarding, 200-byte lines, against awslogs | {ours['MB/s']:.0f} MB/s, {ours['lines/s']:,.0f} "
            "lines/s, "
            f"{ours['CPU s per GB']:.1f} "
            "CPU "
            "s "
            "per "
            "GB,"
            " "
            f"{ours['peak MiB']:.1f} "
            "MiB "
            f"| {theirs['MB/s']:.1f} MB/s, {theirs['lines/s']:,.0f} lines/s, {theirs['CPU s per GB']:.0f} CPU s per "
            f"GB, {theirs['peak MiB']:.0f} "
            "MiB "
            f"| {ours['MB per CPU second'] / theirs['MB per CPU second']:.0f}× per CPU second | 20×, 50 MB/s, 24 MiB |"
        )
        lines.append(f"| idle with one file | {ours['idle CPU %']:.2f}% CPU | | | at most 0.2% |")
    return "\n".join(lines)


def plot(results, path):
    """Horizontal bars on a logarithmic scale: CPU seconds of a discovery, and seconds to a leader."""
    import math

    bars = []
    for row in results.get("discovery", []):
        for kind in ("ours", "best shell", "seed 000"):
            bars.append((f"{kind}, group of {row['size']}", row[kind]["cpu"], kind == "ours"))
    low, high = math.log10(0.001), math.log10(200)
    width, height = 760, 60 + 26 * len(bars)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="10" y="22" font-size="15">CPU seconds to discover a full group (logarithmic)</text>',
    ]
    for index, (label, value, ours) in enumerate(bars):
        y = 40 + 26 * index
        length = 460 * (math.log10(max(value, 0.001)) - low) / (high - low)
        out.append(f'<text x="10" y="{y + 14}">{label}</text>')
        out.append(
            f'<rect x="190" y="{y}" width="{length:.0f}" height="18" fill="{"#2a7f62" if ours else "#b9c4c9"}"/>'
        )
        out.append(f'<text x="{196 + length:.0f}" y="{y + 14}">{value:.3g} s</text>')
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["discovery", "large", "boot", "dual", "fleet", "small", "idle", "logs"])
    options = parser.parse_args()
    os.makedirs(RESULTS, exist_ok=True)
    with open("/proc/cpuinfo") as file:
        processor = re.search(r"model name\s*: (.*)", file.read())
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    print(
        f"{os.cpu_count()} cores, {processor.group(1) if processor else platform.machine()}, Linux "
        f"{platform.release()}, "
        "commit "
        f"{commit},"
        " "
        "medians "
        "of "
        f"{options.runs} "
        "runs",
        flush=True,
    )
    try:
        sandbox = Sandbox()
    except HostError as error:
        sys.exit(f"bench: {error}")
    # The programs beside which this one is measured.
    if options.only in (None, "discovery"):
        install_cli()
        sandbox.visible.append(CLI)
    if options.only in (None, "logs"):
        install_awslogs()
        sandbox.visible.append(AWSLOGS)
    results = {}
    try:
        for name in ("small", "idle", "logs", "boot", "dual", "fleet", "large", "discovery"):
            if options.only in (None, name):
                # The election's time varies more than anything else.
                results[name] = globals()[name](sandbox, max(options.runs, 21) if name == "boot" else options.runs)
    finally:
        sandbox.down()
    print("\n" + table(results))
    with open(os.path.join(RESULTS, "results.json"), "w") as file:
        json.dump(results, file, indent=2)
    if "discovery" in results:
        plot(results, os.path.join(RESULTS, "discovery.svg"))
        print(f"\n{os.path.relpath(RESULTS, ROOT)}/discovery.svg, {os.path.relpath(RESULTS, ROOT)}/results.json")
    shutil.rmtree(os.path.join(RESULTS, "tmp"), ignore_errors=True)


if __name__ == "__main__":
    main()
