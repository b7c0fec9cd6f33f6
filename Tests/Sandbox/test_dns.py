"""Names: systemd-resolved, dnsmasq and port 53, each verified after writing, and reverted where it does not answer."""

import os

import pytest

from .conftest import healthy
from .waiting import until

AWS = "ec2.eu-west-1.amazonaws.com"
CONSUL = "consul.service.consul"
RESOLVED = "/etc/systemd/resolved.conf.d/consul-bootstrap.conf"
DNSMASQ = "/etc/dnsmasq.d/consul-bootstrap.conf"


def lookup(instance, name):
    return instance.run("getent", "ahostsv4", name).stdout.split()[:1]


@pytest.fixture
def machine(sandbox):
    """A server with real systemd, which resolves the names of AWS by DNS only."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul", systemd=True)
    instance.write("/etc/hosts", "127.0.0.1 localhost\n")
    return instance


def resolved(instance):
    instance.run(
        "sh",
        "-c",
        "ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf && systemctl start systemd-resolved && "
        "resolvectl dns eth0 "
        "10.0.0.2",
        check=True,
    )
    until(lambda: lookup(instance, AWS) == ["10.0.0.2"])


def test_systemd_resolved_forwards_consul_names_and_reverse_zones(machine):
    resolved(machine)
    options = ("--expect", "1", "--dns", "systemd-resolved", "--dns-reverse")
    dry = machine.bootstrap("--dry-run", *options)
    assert f"write {RESOLVED} and resolve {CONSUL}, {AWS}; revert it if that fails" in dry.stdout
    result = machine.bootstrap(*options)
    assert result.returncode == 0 and "names resolve through the agent" in result.stderr, result.stderr
    assert machine.configuration["recursors"] == ["10.0.0.2"]
    text = machine.read(RESOLVED)
    assert "DNS=127.0.0.1:8600\n" in text and "Domains=~consul ~0.10.in-addr.arpa\n" in text
    assert lookup(machine, CONSUL) == [machine.address] and lookup(machine, AWS) == ["10.0.0.2"]
    found = machine.run("resolvectl", "query", "--cache=no", machine.address)
    assert f"{machine.id}.node.dc1.consul" in found.stdout, found.stdout + found.stderr
    # Again: nothing to do.
    before = os.stat(machine.path(RESOLVED)).st_mtime_ns
    assert machine.bootstrap(*options).returncode == 0
    assert os.stat(machine.path(RESOLVED)).st_mtime_ns == before


def test_a_resolver_that_does_not_answer_is_reverted_and_reported(sandbox, machine):
    resolved(machine)
    # The agent's DNS listens on another address than the one in the drop-in.
    result = machine.bootstrap("--expect", "1", "--dns", "systemd-resolved", "--set", 'addresses.dns="127.0.0.7"')
    assert result.returncode == 0, result.stderr
    assert "names do not resolve through the agent; reverted" in result.stderr and CONSUL in result.stderr
    assert not machine.exists(RESOLVED)
    assert lookup(machine, AWS) == ["10.0.0.2"]


def test_dnsmasq_forwards_consul_names(machine):
    machine.write(
        "/etc/dnsmasq.d/upstream.conf",
        "no-resolv\nserver=10.0.0.2\nlisten-address=127.0.0.1\nbind-interfaces\nuser=root\n",
    )
    machine.run("sh", "-c", "echo nameserver 127.0.0.1 > /etc/resolv.conf && systemctl start dnsmasq", check=True)
    result = machine.bootstrap("--expect", "1", "--dns", "dnsmasq", "--dns-reverse")
    assert result.returncode == 0 and "names resolve through the agent" in result.stderr, result.stderr
    # Never itself: if the machine lists no other name server, the VPC's resolver.
    assert machine.configuration["recursors"] == ["169.254.169.253"]
    assert machine.read(DNSMASQ).splitlines()[1:] == [
        "server=/consul/127.0.0.1#8600",
        "server=/0.10.in-addr.arpa/127.0.0.1#8600",
    ]
    assert lookup(machine, CONSUL) == [machine.address] and lookup(machine, AWS) == ["10.0.0.2"]


def test_port_53_by_the_units_capability(machine):
    result = machine.bootstrap("--expect", "1", "--dns", "port-53")
    assert result.returncode == 0 and "names resolve through the agent" in result.stderr, result.stderr
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in machine.read("/etc/systemd/system/consul.service")
    assert lookup(machine, CONSUL) == [machine.address] and lookup(machine, AWS) == ["10.0.0.2"]
    lines = [line for line in machine.read("/etc/resolv.conf").splitlines() if line.startswith("nameserver")]
    assert lines == ["nameserver 127.0.0.1", "nameserver 10.0.0.2"]


def test_port_53_is_reverted_where_the_recursor_does_not_answer(sandbox):
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    before = instance.read("/etc/resolv.conf")
    instance.write("/var/lib/cloud/user-data", "")
    sandbox.names.broken = True
    instance.reboot("#!/bin/sh\nexec consul-bootstrap --expect 1 --dns port-53\n")
    healthy(instance)
    assert "names do not resolve through the agent; reverted" in instance.log and AWS in instance.log
    assert instance.read("/etc/resolv.conf") == before


@pytest.mark.parametrize(
    "dns, words",
    [("systemd-resolved", "systemd is not the init system here"), ("dnsmasq", "there is no dnsmasq that systemd runs")],
)
def test_a_resolver_that_is_not_there_is_refused_before_anything_is_written(sandbox, dns, words):
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    result = instance.bootstrap("--expect", "1", "--dns", dns)
    assert result.returncode == 2 and words in result.stderr and not os.listdir(instance.path("/etc/consul.d"))
