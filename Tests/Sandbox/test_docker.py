"""--start docker, by a real Docker engine inside an instance, and an image made of the real Consul."""

import io
import json
import os
import re
import signal
import subprocess
import tarfile

import pytest

from .conftest import peers
from .sandbox import CONSUL
from .waiting import until

ENGINE = [
    "dockerd",
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--storage-driver=vfs",
    "--data-root=/run/docker-data",
    "--log-level=error",
]
# Prints its argument and whether the engine's socket exists, and waits.
REGISTRATOR = """
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
  printf("%s %s\\n", argv[1], access("/tmp/docker.sock", R_OK) == 0 ? "socket" : "no socket");
  fflush(stdout);
  for (;;) pause();
}
"""


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        parents = {os.path.dirname(name).lstrip("/") for name in files}
        parents |= {os.path.dirname(name) for name in parents}
        for directory in sorted({"tmp", "etc", "opt", *parents} - {""}):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(entry)
        for name, source in files.items():
            tar.add(os.path.realpath(source), name.lstrip("/"))
    return buffer.getvalue()


@pytest.fixture
def host(sandbox):
    sandbox.aws.create_group("consul")
    instances = []

    def launch():
        instance = sandbox.launch(group="consul", docker=True)
        instance.engine = instance.start(*ENGINE, f"--cgroup-parent=/{instance.cgroup}")
        instances.append(instance)
        until(lambda: instance.run("docker", "version").returncode == 0, lambda: instance.engine.output)
        libraries = re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", CONSUL], capture_output=True, text=True).stdout)
        files = {"/usr/bin/consul": CONSUL, **{library: library for library in libraries}}
        imported = subprocess.run(
            instance.command(["docker", "import", "-", "consul:test"]), input=archive(files), capture_output=True
        )
        assert imported.returncode == 0, imported.stderr
        return instance

    yield launch
    for instance in instances:
        instance.run("sh", "-c", "docker rm -f $(docker ps -aq)")
        instance.engine.signal(signal.SIGTERM)
        instance.engine.finish()


def docker(instance, *arguments):
    return instance.run("docker", *arguments, check=True).stdout.strip()


def make_registrator(member, directory, tag):
    (directory / "registrator.c").write_text(REGISTRATOR)
    subprocess.run(["gcc", "-static", "-O1", "-o", directory / "registrator", directory / "registrator.c"], check=True)
    imported = subprocess.run(
        member.command(["docker", "import", "--change", 'ENTRYPOINT ["/registrator"]', "-", tag]),
        input=archive({"/registrator": directory / "registrator"}),
        capture_output=True,
    )
    assert imported.returncode == 0, imported.stderr


def test_servers_in_containers(sandbox, host):
    members = [host() for _ in range(3)]
    options = ("--expect", "3", "--start", "docker", "--image", "consul:test")
    dry = members[0].bootstrap("--dry-run", *options)
    command = (
        "bin/docker run --detach --name consul --network host --restart on-failure --stop-timeout 60 "
        "--volume /etc/consul.d:/etc/consul.d:ro --volume /opt/consul:/opt/consul --user 8500:8500 --entrypoint "
        "consul --label "
    )
    assert dry.returncode == 0 and command in dry.stdout, dry.stdout + dry.stderr
    assert docker(members[0], "ps", "-aq") == ""
    for run in [m.start("/usr/local/bin/consul-bootstrap", *options) for m in members]:
        output = run.finish()
        assert run.returncode == 0 and " healthy leader=" in output, output
    until(lambda: len(peers(members[0])) == 3)
    member = members[0]
    state = json.loads(docker(member, "inspect", "consul"))[0]
    assert state["HostConfig"]["NetworkMode"] == "host" and state["Config"]["StopTimeout"] == 60
    # A container that is paused answers nothing; both commands name it.
    assert member.bootstrap("status", "--check").stdout == ""
    docker(member, "pause", "consul")
    for command in (["status", "--check"], ["doctor"]):
        result = member.bootstrap(*command)
        assert result.returncode == 1 and "its container is paused" in result.stdout, result.stdout
        assert "docker unpause consul" in result.stdout
    docker(member, "unpause", "consul")
    until(lambda: member.bootstrap("status", "--check").stdout == "", lambda: member.bootstrap("status").stdout)
    # Again: nothing to do. A changed setting is a reload, another image another container.
    started = state["State"]["StartedAt"]
    assert member.bootstrap(*options).returncode == 0
    assert member.bootstrap(*options, "--consul-log-level", "debug").returncode == 0
    assert json.loads(docker(member, "inspect", "consul"))[0]["State"]["StartedAt"] == started
    # Docker restarts it after a crash; a leave is final.
    member.run("sh", "-c", f"kill -9 {state['State']['Pid']}", check=True)
    until(
        lambda: (
            json.loads(docker(member, "inspect", "consul"))[0]["RestartCount"] == 1
            and member.consul("/v1/status/leader")
        ),
        lambda: (
            docker(member, "ps", "-a")
            + member.run("docker", "logs", "--tail", "20", "consul").stdout
            + str(json.loads(docker(member, "inspect", "consul"))[0]["State"])
        ),
    )
    member.run("consul", "leave", check=True)
    until(
        lambda: docker(member, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "consul") == "exited 0"
    )
    until(lambda: len(peers(members[1])) == 2)
    # A run starts it again.
    result = member.bootstrap(*options)
    assert result.returncode == 0, result.stderr
    until(lambda: len(peers(members[1])) == 3)
    # Pinned by digest: the image that the digest names.
    image = docker(member, "inspect", "--format", "{{.Id}}", "consul:test")
    pinned = member.bootstrap(*options[:-1], image)
    assert pinned.returncode == 0 and "the options of container consul have changed" in pinned.stderr, pinned.stderr
    assert json.loads(docker(member, "inspect", "consul"))[0]["Config"]["Image"] == image


def test_registrator_and_the_bridges_dns(sandbox, host, tmp_path):
    member = host()
    make_registrator(member, tmp_path, "registrator:test")
    options = (
        "--expect",
        "1",
        "--start",
        "docker",
        "--image",
        "consul:test",
        "--registrator",
        "registrator:test",
        "--dns",
        "port-53",
        "--dns-address",
        "docker-bridge",
    )
    result = member.bootstrap(*options)
    assert result.returncode == 2 and "there is no interface docker0" in result.stderr
    member.run(
        "sh",
        "-c",
        "ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up",
        check=True,
    )
    result = member.bootstrap(*options)
    assert result.returncode == 0, result.stderr
    assert member.configuration["addresses"] == {"dns": "127.0.0.1 172.17.0.1"} and member.configuration["ports"] == {
        "dns": 53
    }
    until(lambda: docker(member, "logs", "registrator") == "consul://127.0.0.1:8500 socket")
    question = (
        "import socket,os;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(2);"
        "s.sendto(os.urandom(2)+b'\\x01\\x00\\x00\\x01'+bytes(6)"
        "+b'\\x06consul\\x07service\\x06consul\\x00\\x00\\x01\\x00\\x01',('172.17.0.1',53));print(s.recv(512)[7])"
    )
    assert member.run("/usr/bin/python3", "-c", question).stdout.strip() == "1"


def test_an_unrelated_container_of_the_same_name_is_not_replaced(sandbox, host):
    member = host()
    docker(
        member, "create", "--name", "consul", "--network", "none", "--entrypoint", "consul", "consul:test", "version"
    )
    result = member.bootstrap("--expect", "1", "--start", "docker", "--image", "consul:test")
    assert result.returncode == 15 and "another program created container consul" in result.stderr
    result = member.bootstrap("--expect", "1", "--start", "docker", "--image", "missing:test")
    reason = "cannot determine the version of Consul: image missing:test does not print it"
    assert result.returncode == 15 and reason in result.stderr


def test_the_sidecar_starts_the_container_after_a_reboot_and_only_then(sandbox, host):
    """The machine's shutdown is a leave, after which Docker starts nothing."""
    member = host()
    options = ("--expect", "1", "--start", "docker", "--image", "consul:test")
    assert member.bootstrap(*options).returncode == 0
    member.write(
        "/etc/consul-bootstrap/config.json", json.dumps({"expect": 1, "start": "docker", "image": "consul:test"})
    )
    state = lambda: docker(member, "inspect", "--format", "{{.State.Status}}", "consul")

    def sidecar(boot):
        member.write("/run/boot_id", boot)
        member.run("mount", "--bind", "/run/boot_id", "/proc/sys/kernel/random/boot_id", check=True)
        run = member.start_bootstrap("sidecar")
        until(lambda: "monitors the agent" in run.output or run.poll() is not None)
        run.signal(signal.SIGTERM)
        output = run.finish()
        assert run.returncode == 0 and "monitors the agent" in output, output
        member.run("umount", "/proc/sys/kernel/random/boot_id", check=True)

    docker(member, "stop", "consul")
    sidecar("one\n")
    assert state() == "running"
    docker(member, "stop", "consul")
    sidecar("one\n")
    assert state() == "exited"
    sidecar("two\n")
    assert state() == "running"


JOBS = """#!/bin/sh
[ "$1" = list-jobs ] && echo "  1 {} start waiting"
"""


def test_the_sidecar_leaves_before_a_shutdown_stops_the_container_but_not_before_a_reboot(sandbox, host):
    """Docker stops a container by a signal, which is no leave. What systemd would say of its jobs is written here."""
    members = [host() for _ in range(2)]
    options = ("--expect", "2", "--start", "docker", "--image", "consul:test")
    for run in [m.start("/usr/local/bin/consul-bootstrap", *options) for m in members]:
        output = run.finish()
        assert run.returncode == 0, output
    member, other = members
    until(lambda: len(peers(other)) == 2)

    def stop(target):
        run = member.start_bootstrap("sidecar", *options)
        until(lambda: "monitors the agent" in run.output or run.poll() is not None, lambda: run.output)
        member.write("/usr/bin/systemctl", JOBS.format(target), mode=0o755)
        member.run("mkdir", "-p", "/run/systemd/system", check=True)
        run.signal(signal.SIGTERM)
        output = run.finish()
        assert run.returncode == 0, output
        return output

    state = lambda: docker(member, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "consul")
    assert "leaving the cluster" not in stop("reboot.target")
    assert state() == "running 0" and len(peers(other)) == 2
    assert "this server has left" in stop("poweroff.target")
    assert peers(other) == [f"{other.address}:8300"]
    # Docker does not start again what has left.
    until(lambda: state() == "exited 0", state)


def test_the_containers_log(sandbox, host):
    """Through restarts of the forwarder, without a line twice."""
    member = host()
    result = member.bootstrap("--expect", "1", "--start", "docker", "--image", "consul:test", "--log", "consul")
    assert result.returncode == 0, result.stderr
    stream = lambda: sandbox.aws.log_events("/consul/dc1", f"{member.id}/consul")
    # From the first line on, by the run itself.
    assert stream()[0] == "==> Starting Consul agent..."
    for _ in range(2):
        run = member.start_bootstrap("sidecar", "--start", "docker", "--image", "consul:test", "--log", "consul")
        count = sum("signal=hangup" in m for m in stream())
        docker(member, "kill", "--signal", "HUP", "consul")
        until(lambda count=count: sum("signal=hangup" in m for m in stream()) == count + 1)
        run.signal(signal.SIGTERM)
        run.finish()
    stamped = [m for m in stream() if "[INFO]" in m]
    assert len(stamped) == len(set(stamped)) and any("New leader elected" in m for m in stamped)
