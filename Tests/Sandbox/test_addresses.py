"""Addresses: seed 003's five network environments, peers to match, WAN over public addresses, and an address that a
reboot changes."""

import json

import pytest

from .conftest import healthy, peers, wan
from .waiting import until

PUBLIC = {f"203.0.113.{n}": f"10.0.1.{n}" for n in (9, 10)}


def plan(instance, *options, status=0):
    result = instance.bootstrap("--dry-run", "--json", "--expect", "1", "--group", "consul", *options)
    assert result.returncode == status, result.stderr
    return json.loads(result.stdout)["configuration"] if status == 0 else result.stderr


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul")
    return sandbox.launch(group="consul", address="10.0.1.9")


def test_one_private_address(instance):
    instance.set_interfaces({"privates": ["10.0.1.9"]})
    for options in ((), ("--bind", "private"), ("--bind", "eth0"), ("--bind", "10.0.0.0/16"), ("--bind", "10.0.1.9")):
        configuration = plan(instance, *options)
        assert configuration["bind_addr"] == "10.0.1.9" and "advertise_addr" not in configuration
    assert "does not have a public address" in plan(instance, "--advertise", "public", status=2)
    assert "there is no interface eth7" in plan(instance, "--bind", "eth7", status=2)


def test_one_public_address_in_a_vpc_of_public_addresses(sandbox):
    """A VPC may lie in a public range: Consul alone would refuse to choose it."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul", address="10.0.1.9")
    instance.set_interfaces({"privates": ["198.51.100.9"]})
    document = json.loads(instance.metadata.documents["/latest/dynamic/instance-identity/document"])
    instance.metadata.documents["/latest/dynamic/instance-identity/document"] = json.dumps(
        dict(document, privateIp="198.51.100.9")
    )
    assert plan(instance)["bind_addr"] == "198.51.100.9"
    assert plan(instance, "--bind", "public")["bind_addr"] == "198.51.100.9"


def test_several_public_addresses(instance):
    instance.set_interfaces({"privates": ["198.51.100.9"]}, {"privates": ["198.51.100.77"]})
    error = plan(instance, "--bind", "public", status=2)
    assert "more than one such address" in error and "198.51.100.9 (eth0)" in error and "198.51.100.77 (eth1)" in error
    assert "set one of them: --bind 198.51.100.9" in error
    assert plan(instance, "--bind", "eth1")["bind_addr"] == "198.51.100.77"


def test_one_private_address_with_several_public_ones(instance):
    instance.set_interfaces(
        {"privates": ["10.0.1.9"], "publics": {"203.0.113.9": "10.0.1.9"}},
        {"privates": ["10.0.9.9"], "publics": {"203.0.113.10": "10.0.9.9"}},
    )
    assert plan(instance)["bind_addr"] == "10.0.1.9"
    error = plan(instance, "--advertise", "public", status=2)
    assert "203.0.113.9 (public, translated to 10.0.1.9 on eth0)" in error and "203.0.113.10" in error
    configuration = plan(instance, "--advertise", "203.0.113.9")
    assert (configuration["bind_addr"], configuration["advertise_addr"]) == ("10.0.1.9", "203.0.113.9")
    error = plan(instance, "--bind", "203.0.113.9", status=2)
    assert "is on no interface of this machine" in error and "--advertise 203.0.113.9" in error


def test_several_private_addresses_without_efa_and_trunks(instance):
    instance.set_interfaces(
        {"privates": ["10.0.1.9", "10.0.1.200"]},
        {"privates": ["10.0.9.9"]},
        {"privates": ["10.0.9.10"], "kind": "trunk"},
        {"privates": ["10.0.9.11"], "kind": "efa"},
    )
    assert plan(instance)["bind_addr"] == "10.0.1.9"
    assert "10.0.1.200" in plan(instance, "--bind", "eth0", status=2)
    # Of three interfaces in this network only one is for agents.
    assert plan(instance, "--bind", "10.0.9.0/24")["bind_addr"] == "10.0.9.9"
    assert "eth2 is of type trunk" in plan(instance, "--bind", "eth2", status=2)
    assert "does not have 10.0.9.11" in plan(instance, "--bind", "10.0.9.11", status=2)


def test_servers_on_their_second_interfaces_meet_there(sandbox):
    members = sandbox.launch_group(3, boot=False)
    for index, member in enumerate(members):
        member.set_interfaces({"privates": [member.address]}, {"privates": [f"10.9.0.{index + 1}"]})
        member.boot("#!/bin/sh\nexec consul-bootstrap --expect 3 --bind 10.9.0.0/16\n")
    healthy(*members)
    until(lambda: all(peers(m) == ["10.9.0.1:8300", "10.9.0.2:8300", "10.9.0.3:8300"] for m in members))
    assert members[0].configuration["retry_join"] == ["10.9.0.2", "10.9.0.3"]


def test_datacenters_meet_over_public_addresses(sandbox):
    """The private addresses of the other zone lead nowhere."""
    members = []
    for zone, address, public in (("a", "10.0.1.9", "203.0.113.9"), ("b", "10.0.2.9", "203.0.113.10")):
        sandbox.aws.create_group(f"consul-{zone}", zone=f"eu-west-1{zone}")
        member = sandbox.launch(zone=f"eu-west-1{zone}", address=address, group=f"consul-{zone}", boot=False)
        member.set_interfaces({"privates": [address], "publics": {public: address}})
        sandbox.network.translate(member.namespace, public, address)
        sandbox.network.blackhole(member.namespace, "10.0.2.0/24" if zone == "a" else "10.0.1.0/24")
        members.append(member)
    for member in members:
        member.boot(
            "#!/bin/sh\nexec consul-bootstrap --layout datacenter-per-az --group consul-a --group consul-b "
            "--expect "
            "1 --wan-address public "
            "--require-wan\n"
        )
    healthy(*members)
    for member, own, other in (
        (members[0], "203.0.113.9", "203.0.113.10"),
        (members[1], "203.0.113.10", "203.0.113.9"),
    ):
        configuration = member.configuration
        assert configuration["advertise_addr_wan"] == own and configuration["translate_wan_addrs"] is True
        assert configuration["retry_join_wan"] == [other]
        until(lambda member=member: wan(member) == ["203.0.113.10", "203.0.113.9"])
    nodes = members[0].consul("/v1/catalog/nodes?dc=eu-west-1b")
    assert [n["Node"] for n in nodes] == [members[1].id]


@pytest.mark.parametrize("graceful", [False, True])
def test_a_reboot_with_a_new_address_keeps_the_vote_and_leaves_no_duplicate(sandbox, graceful):
    members = sandbox.launch_group(3)
    healthy(*members)
    member = members[1]
    node = member.consul("/v1/agent/self")["Config"]["NodeID"]
    assert members[0].run("consul", "kv", "put", "precious", "data").returncode == 0
    until(lambda: member.consul("/v1/agent/self")["Stats"]["raft"]["last_log_index"] != "0")
    if graceful:
        member.signal_run(15)
        until(lambda: member.status is not None)
    new = "10.0.1.99"
    sandbox.readdress(member, new, "#!/bin/sh\nexec consul-bootstrap --expect 3\n")
    healthy(member)
    # One that has left is not named by the leader any more: it joins without its raft data, with its node ID.
    assert f"decision: {'join' if graceful else 'rejoin'} " in member.log.replace("\n", " ")
    assert member.configuration["bind_addr"] == new
    others = [m for m in members if m is not member]
    wanted = sorted(f"{a}:8300" for a in [new, *(m.address for m in others)])
    until(lambda: all(peers(m) == wanted for m in members), lambda: [peers(m) for m in members])

    def known(agent):
        return sorted((m["Name"], m["Addr"], m["Status"]) for m in agent.consul("/v1/agent/members") or [])

    def raft(agent):
        configuration = agent.consul("/v1/operator/raft/configuration") or {"Servers": []}
        return {s["ID"]: (s["Address"], s["Voter"]) for s in configuration["Servers"]}

    listed = sorted((m.id, m.address, 1) for m in members)
    until(lambda: all(known(m) == listed for m in members), lambda: [known(m) for m in members])
    until(
        lambda: all(len(r := raft(m)) == 3 and r.get(node) == (f"{new}:8300", True) for m in members),
        lambda: raft(member),
    )
    assert member.run("consul", "kv", "get", "precious").stdout.strip() == "data"


def test_the_sidecar_adapts_to_a_new_address_after_a_reboot_under_systemd(sandbox):
    """User-data does not run again: the agent's unit starts with an address that is gone."""
    sandbox.aws.create_group("consul")
    members = [sandbox.launch(group="consul", boot=False, systemd=True) for _ in range(3)]
    for member in members:
        member.boot()
    for run in [member.start("/usr/local/bin/consul-bootstrap", "--expect", "3") for member in members]:
        output = run.finish()
        assert run.returncode == 0, output
    member = members[2]
    assert member.run("systemctl", "is-active", "consul-bootstrap").stdout.strip() == "active"
    sandbox.readdress(member, "10.0.1.77")
    wanted = sorted(f"{m.address}:8300" for m in members)
    raft = lambda m: m.run("consul", "operator", "raft", "list-peers").stdout
    until(
        lambda: all(all(a in raft(m) for a in wanted) and raft(m).count("true") == 3 for m in members),
        lambda: raft(members[0]) + member.run("journalctl", "-u", "consul-bootstrap", "--no-pager").stdout,
    )
    assert len(raft(members[0]).strip().splitlines()) == 4
    assert member.configuration["bind_addr"] == "10.0.1.77" and "bootstrap_expect" not in member.configuration
    journal = member.run("journalctl", "-u", "consul-bootstrap", "--no-pager").stdout
    assert "the address of this machine has changed" in journal
