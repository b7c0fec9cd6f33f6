"""The static binary: its form, and that it needs nothing of the machine on which it runs."""

import os
import shutil
import subprocess

from .sandbox import BINARY


def test_it_is_static_stripped_and_small():
    kind = subprocess.run(["file", BINARY], capture_output=True, text=True).stdout
    assert "statically linked" in kind and ", stripped" in kind
    assert os.path.getsize(BINARY) <= 25_000_000


def test_version_and_help():
    assert subprocess.run([BINARY, "--version"], capture_output=True, text=True).stdout.startswith("consul-bootstrap ")
    text = subprocess.run([BINARY, "--help"], capture_output=True, text=True).stdout
    assert "--dry-run" in text and "Exit status:" in text


def test_it_runs_in_an_empty_chroot(sandbox):
    """Itself, /proc, /dev/urandom, resolv.conf, hosts and a CA bundle: an HTTPS call to a name of /etc/hosts, no
    NSS."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    root = instance.path("/tmp/jail")
    for directory in ("bin", "proc", "dev", "etc/ssl/certs", "usr/bin"):
        os.makedirs(os.path.join(root, directory))
    shutil.copy(BINARY, os.path.join(root, "bin/consul-bootstrap"))
    for file in ("etc/hosts", "etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(instance.path("/" + file), os.path.join(root, file))
    # A static stand-in: the real Consul is not part of this test.
    with open(os.path.join(root, "stub.c"), "w") as source:
        source.write('#include <unistd.h>\nint main(void) { return write(1, "Consul v1.8.7\\n", 14) != 14; }\n')
    subprocess.run(
        ["gcc", "-static", "-O1", "-o", os.path.join(root, "usr/bin/consul"), os.path.join(root, "stub.c")], check=True
    )
    os.unlink(os.path.join(root, "stub.c"))
    instance.run("mount", "-t", "proc", "proc", "/tmp/jail/proc", check=True)
    instance.run("mknod", "/tmp/jail/dev/urandom", "c", "1", "9", check=True)
    trace = "/tmp/jail-trace"
    result = instance.run(
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=openat,open,socket,connect",
        "-o",
        trace,
        "chroot",
        "/tmp/jail",
        "/bin/consul-bootstrap",
        "--dry-run",
        "--expect",
        "1",
    )
    assert result.returncode == 0, result.stderr
    assert "1 of 1 are eligible" in result.stdout
    assert len([c for c in sandbox.aws.calls if c["action"] == "DescribeInstances"]) == 1
    opened = [line for line in instance.run("cat", trace).stdout.splitlines() if "open" in line and "= -1" not in line]
    ours = opened[
        next(
            i for i, line in enumerate(opened) if "ca-certificates" in line or "/etc/hosts" in line or "/proc" in line
        ) :
    ]
    for word in ("nss", ".so", "nsswitch"):
        assert not [line for line in ours if word in line], ours
    # The name was found in /etc/hosts: no DNS server was asked.
    assert "htons(53)" not in instance.run("cat", trace).stdout


def test_names_that_hosts_lacks_are_resolved_by_dns(sandbox):
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    instance.run(
        "sh", "-c", "echo 127.0.0.1 localhost > /etc/hosts; echo nameserver 127.0.0.53 > /etc/resolv.conf", check=True
    )
    result = instance.run(
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=connect,sendto",
        "/usr/local/bin/consul-bootstrap",
        "--dry-run",
        "--expect",
        "1",
        environment={"AWS_MAX_ATTEMPTS": "1"},
    )
    assert result.returncode == 12
    assert "htons(53)" in result.stderr and (
        "name not found" in result.stderr or "no connection in time" in result.stderr
    )
