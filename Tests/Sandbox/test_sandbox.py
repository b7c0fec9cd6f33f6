"""The sandbox itself: it hides this machine, leaves nothing behind, and its AWS is as strict as the tests assume."""

import glob
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from . import host
from . import sandbox as module
from .waiting import TIMEOUT, until

PROGRAM = """
import signal, sys, time
# A background job of a shell starts with the interrupt ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {root!r})
from Tests.Sandbox.sandbox import Sandbox
sandbox = Sandbox()
members = sandbox.launch_group(2)
sandbox.launch(systemd=True)
while not all(" healthy " in m.log for m in members): time.sleep(0.05)
print(sandbox.prefix, flush=True)
time.sleep(3600)
"""


def traces(prefix):
    namespaces = [name for name in module.namespaces() if name.startswith(prefix + "-")]
    with open("/proc/mounts") as file:
        mounts = [line for line in file if f"/{prefix} " in line or f"/{prefix}/" in line]
    agents = subprocess.run(["pgrep", "-f", f"/{prefix}/"], capture_output=True, text=True).stdout.split()
    files = [
        name for name in os.listdir(module.STATE) if name.startswith((prefix + ".", prefix + "-")) or name == prefix
    ]
    groups = [path for path in glob.glob("/sys/fs/cgroup/**", recursive=True) if f"/{prefix}-" in path]
    return namespaces, mounts, agents, files, groups


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_leaves_nothing_behind_whatever_ends_it(number):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(root=module.ROOT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=module.ROOT,
    )
    prefix = process.stdout.readline().strip()
    assert all(traces(prefix)), traces(prefix)
    os.kill(process.pid, number)
    process.wait(TIMEOUT)
    process.stdout.close()
    # After a kill -9 the next command clears up; after the others there is nothing to clear.
    if number in (signal.SIGKILL, signal.SIGTERM):
        module.remove_stale()
    until(lambda: not any(traces(prefix)), lambda: traces(prefix))


# Files that a machine may have, and that no instance may see.
DIRT = [
    "/etc/consul-bootstrap/config.json",
    "/etc/consul.d/server.json",
    "/etc/dnsmasq.d/consul",
    "/etc/systemd/system/consul.service",
    "/opt/consul/node-id",
    "/root/.aws/credentials",
    "/run/consul.pid",
    "/tmp/dirt",
    "/usr/bin/consul-bootstrap",
    "/usr/local/bin/consul",
    "/var/lib/consul-bootstrap/instance.json",
    "/var/log/consul-bootstrap.log",
    "/var/tmp/dirt",
]


def seen(instance, *paths):
    return sorted(instance.run("find", *paths, "-mindepth", "1").stdout.splitlines())


def test_nothing_of_this_machine_shows_through(sandbox):
    """A test that passes here passes on a machine on which Consul runs."""
    dirty = os.path.join(sandbox.directory, "dirty")
    for path in DIRT:
        os.makedirs(os.path.dirname(dirty + path), exist_ok=True)
        with open(dirty + path, "w") as file:
            file.write("dirt")
    instance = sandbox.launch(image=sandbox.image.removesuffix(":/") + f":{dirty}:/")
    found = instance.run("sh", "-c", "grep -lx dirt " + " ".join(DIRT))
    assert found.stdout == "" and found.returncode == 2, found.stdout
    assert (
        seen(instance, "/opt", "/root", "/home", "/etc/consul.d", "/etc/systemd/system", "/tmp", "/var/tmp", "/dev/shm")
        == []
    )
    assert seen(instance, "/run", "/usr/local/bin") == ["/run/booted", "/usr/local/bin/consul-bootstrap"]
    assert seen(instance, "/var") == [
        "/var/cache",
        "/var/lib",
        "/var/lib/cloud",
        "/var/lock",
        "/var/log",
        "/var/run",
        "/var/spool",
        "/var/tmp",
    ]
    assert not instance.exists("/etc/consul-bootstrap")
    # Its programs do.
    assert instance.run("python3", "-c", "print(1)").stdout == "1\n"


def test_an_instance_sees_a_directory_that_is_made_visible(sandbox, tmp_path):
    """The bench runs programs of the checkout, which may be below a directory that instances have of their own."""
    (tmp_path / "file").write_text("content")
    sandbox.visible.append(str(tmp_path))
    try:
        instance = sandbox.launch()
    finally:
        sandbox.visible.clear()
    assert instance.run("cat", str(tmp_path / "file")).stdout == "content"
    assert instance.run("touch", str(tmp_path / "other")).returncode != 0


def test_a_booted_systemd_has_a_control_group_of_its_own(sandbox):
    """In a shared one each systemd takes the processes of the others' units of the same name for its own."""
    instances = [sandbox.launch(systemd=True) for _ in range(2)]
    for instance in instances:
        instance.write("/etc/systemd/system/busy.service", "[Service]\nExecStart=/bin/sleep infinity\n")
        instance.run("systemctl", "start", "busy", check=True)
    groups = [path for i in instances for path in host.cgroups(i.cgroup)]
    tasks = [glob.glob(f"{group}/payload/system.slice/busy.service/cgroup.procs") for group in groups]
    assert len(groups) == len(set(groups)) and all(
        len(pathlib.Path(found[0]).read_text().split()) == 1 for found in tasks if found
    )
    assert sum(map(bool, tasks)) >= 2
    instances[0].run("systemctl", "stop", "busy", check=True)
    assert instances[1].run("systemctl", "is-active", "busy").stdout == "active\n"


def test_two_calls_a_poll_for_a_group_of_150(sandbox):
    """moto's pages hold 100 by default, as AWS's hold fewer than a group: the page size is asked for."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    for index in range(149):
        sandbox.aws.run_instance(
            f"eu-west-1{'ab'[index % 2]}", f"10.0.{1 + index % 2}.{30 + index // 2}", group="consul"
        )
    sandbox.aws.calls.clear()
    result = instance.bootstrap("--dry-run", "--group", "consul")
    assert result.returncode == 0 and "150 of 150 are eligible" in result.stdout
    assert sorted(call["action"] for call in sandbox.aws.calls) == ["DescribeAutoScalingGroups", "DescribeInstances"]


def test_the_apis_check_signatures_and_policies(sandbox):
    """Or the other tests would prove little."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    key, secret = sandbox.aws.admin
    for environment, code in (
        ({"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret[::-1]}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY", "AWS_SECRET_ACCESS_KEY": secret}, "InvalidClientTokenId"),
    ):
        result = instance.bootstrap("--dry-run", environment=environment)
        assert result.returncode == 12 and code in result.stderr, result.stderr
