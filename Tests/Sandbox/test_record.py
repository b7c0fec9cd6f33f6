"""The record of a cluster in Parameter Store: first boots, total losses, a store that is away, races."""

import json
import signal

import pytest

from .aws import Fault
from .conftest import healthy, peers
from .waiting import until

PATH = "/consul/web/cluster"
OTHER = "11111111-2222-4333-8444-555555555555"
OPTIONS = f"--cluster-record ssm:{PATH} --leader-wait 3s"


def entries(sandbox, path=PATH):
    client = sandbox.aws.client("ssm")
    found = {}
    for page in client.get_paginator("get_parameters_by_path").paginate(Path=path):
        for parameter in page["Parameters"]:
            assert parameter["Type"] == "String" and parameter["Version"] == 1, parameter
            found[parameter["Name"].removeprefix(path + "/")] = json.loads(parameter["Value"])
    return found


def names(entry):
    return sorted(server.get("instance") for server in entry["servers"])


def put(sandbox, number, state, servers, path=PATH, **members):
    entry = {"state": state, "cluster": OTHER, "epoch": 1, "by": "i-0123456789abcdef0"}
    entry |= {"at": "2026-01-01T00:00:00Z", "servers": [{"instance": i, "address": a} for i, a in servers]} | members
    sandbox.aws.client("ssm").put_parameter(Name=f"{path}/{number}", Value=json.dumps(entry), Type="String")


def calls(sandbox, member):
    return [call["action"] for call in sandbox.aws.calls_from(member.address) if call["service"] == "ssm"]


def boot(members, options="", expect=3):
    for member in members:
        member.boot(f"#!/bin/sh\nexec consul-bootstrap --expect {expect} {OPTIONS} {options}\n")


def ended(*members):
    until(lambda: all(m.status is not None for m in members), lambda: "\n".join(m.log[-1500:] for m in members))


def test_a_first_boot_makes_at_most_two_calls_more_on_each_server(sandbox):
    members = sandbox.launch_group(3, boot=False)
    boot(members, "--sidecar-interval 60m")
    healthy(*members)
    made = {m.id: calls(sandbox, m) for m in members}
    founder = next(m for m in members if made[m.id][:1] == ["PutParameter"] and "GetParametersByPath" not in made[m.id])
    until(lambda: len(entries(sandbox)) == 2)
    made = {m.id: calls(sandbox, m) for m in members}
    assert made[founder.id] == ["PutParameter", "PutParameter"]
    assert all(made[m.id] == ["PutParameter", "GetParametersByPath"] for m in members if m is not founder), made
    forming, formed = (entries(sandbox)[name] for name in ("000001", "000002"))
    assert (forming["state"], formed["state"], forming["cluster"]) == ("forming", "formed", formed["cluster"])
    assert names(forming) == names(formed) == sorted(m.id for m in members)
    assert {m.configuration["bootstrap_expect"] for m in members} == {3}
    # A server that joins, and one that rejoins, make none.
    fresh = sandbox.launch(group="consul", boot=False)
    sandbox.aws.set_desired("consul", 4)
    boot([fresh], "--sidecar-interval 60m", expect=4)
    healthy(fresh)
    assert calls(sandbox, fresh) == []
    before = len(calls(sandbox, members[0]))
    members[0].reboot(f"#!/bin/sh\nexec consul-bootstrap --expect 4 {OPTIONS} --sidecar-interval 60m\n")
    healthy(members[0])
    assert len(calls(sandbox, members[0])) == before


@pytest.mark.long
def test_the_leaders_sidecar_keeps_the_record_current(sandbox):
    members = sandbox.launch_group(3, boot=False)
    boot(members, "--sidecar-interval 2s")
    healthy(*members)
    # Node IDs are known once the agents run: the record of the boot does not have them.
    until(lambda: "000003" in entries(sandbox), lambda: entries(sandbox))
    entry = entries(sandbox)["000003"]
    assert entry["state"] == "formed" and names(entry) == sorted(m.id for m in members)
    assert all(server["node_id"] for server in entry["servers"])
    made = sum(len(calls(sandbox, m)) for m in members)
    fresh = sandbox.launch(group="consul", boot=False)
    sandbox.aws.set_desired("consul", 4)
    boot([fresh], "--sidecar-interval 2s", expect=4)
    healthy(fresh)
    until(lambda: "000004" in entries(sandbox), lambda: entries(sandbox))
    assert names(entries(sandbox)["000004"]) == sorted(m.id for m in [*members, fresh])
    # Between the two, nothing was read again and again.
    assert sum(len(calls(sandbox, m)) for m in [*members, fresh]) - made <= 6


def test_a_cluster_that_was_lost_is_formed_again_on_request_only(sandbox):
    old = sandbox.launch_group(3, boot=False)
    boot(old)
    healthy(*old)
    until(lambda: "000002" in entries(sandbox))
    lost = sorted(m.id for m in old)
    for member in old:
        sandbox.terminate(member)
    fresh = [sandbox.launch(group="consul", boot=False) for _ in range(3)]
    boot(fresh)
    ended(*fresh)
    for member in fresh:
        assert member.status == 18, member.log
        assert f"{PATH}/000002 says that a cluster exists, but none answers" in member.log
        assert all(id in member.log for id in lost) and "--on-total-loss new" in member.log
        assert not member.exists("/etc/consul.d/00-consul-bootstrap.json")
    plan = fresh[0].bootstrap("--dry-run", "--expect", "3", *OPTIONS.split())
    assert "says that a cluster exists, but none answers" in plan.stdout, plan
    assert len(entries(sandbox)) == 2
    plan = fresh[0].bootstrap("--dry-run", "--expect", "3", *OPTIONS.split(), "--on-total-loss", "new")
    assert f"claim {PATH}/000003 in Parameter Store" in plan.stdout and "bootstrap_expect 3" in plan.stdout
    assert len(entries(sandbox)) == 2
    for member in fresh:
        member.reboot(f"#!/bin/sh\nexec consul-bootstrap --expect 3 {OPTIONS} --on-total-loss new\n")
    healthy(*fresh)
    assert len({tuple(peers(m)) for m in fresh}) == 1
    until(lambda: "000004" in entries(sandbox))
    found = entries(sandbox)
    assert found["000004"]["cluster"] != found["000002"]["cluster"] and found["000004"]["epoch"] == 2


def test_all_empty_servers_of_a_cluster_that_exists_end_with_18(sandbox):
    """Their disks were exchanged, say: nothing here proves that the data is gone."""
    members = sandbox.launch_group(3, boot=False)
    put(sandbox, "000001", "formed", [(m.id, m.address) for m in members])
    boot(members, "--wait-timeout 4s --on-total-loss new")
    ended(*members)
    for member in members:
        assert member.status == 18 and all(m.id in member.log for m in members), member.log
    # An operator gives the data up.
    sandbox.aws.client("ssm").put_parameter(Name=f"{PATH}/000002", Value='{"state":"closed"}', Type="String")
    for member in members:
        member.reboot(f"#!/bin/sh\nexec consul-bootstrap --expect 3 {OPTIONS}\n")
    healthy(*members)
    assert len({tuple(peers(m)) for m in members}) == 1


def test_without_parameter_store_a_new_cluster_waits_and_a_join_works(sandbox):
    sandbox.aws.faults.append(Fault("denied", "PutParameter"))
    members = sandbox.launch_group(1, boot=False)
    boot(members, "--wait-timeout 3s", expect=1)
    ended(*members)
    assert members[0].status == 12, members[0].log
    assert f"cannot write the cluster's record {PATH}/000001" in members[0].log
    assert not members[0].exists("/etc/consul.d/00-consul-bootstrap.json")
    sandbox.aws.faults.clear()
    members[0].reboot(f"#!/bin/sh\nexec consul-bootstrap --expect 1 {OPTIONS}\n")
    healthy(*members)
    for action in ("PutParameter", "GetParameter", "GetParametersByPath"):
        sandbox.aws.faults.append(Fault("denied", action))
    sandbox.aws.set_desired("consul", 2)
    fresh = sandbox.launch(group="consul", boot=False)
    boot([fresh], expect=2)
    healthy(fresh)
    assert len(peers(fresh)) == 2


def test_a_run_that_is_killed_between_claim_and_start_founds_at_the_next(sandbox):
    (member,) = sandbox.launch_group(1, boot=False)
    # The second PutParameter would be the one of the healthy cluster.
    boot([member], expect=1)
    until(lambda: f"claim {PATH}/000001" in member.log, every=0.002)
    member.signal_run(signal.SIGKILL)
    ended(member)
    assert entries(sandbox)["000001"]["state"] == "forming"
    member.reboot(f"#!/bin/sh\nexec consul-bootstrap --expect 1 {OPTIONS}\n")
    healthy(member)
    found = until(lambda: (e := entries(sandbox)) and "000002" in e and e)
    assert found["000002"]["state"] == "formed" and found["000001"]["cluster"] == found["000002"]["cluster"]


def name_of(member):
    """The cluster's name in its key-value store."""
    return json.loads(member.run("consul", "kv", "get", "consul-bootstrap/cluster").stdout or "{}").get("cluster")


def test_the_record_and_the_cluster_have_one_name(sandbox):
    members = sandbox.launch_group(3, boot=False)
    boot(members, "--sidecar-interval 2s")
    healthy(*members)
    name = until(lambda: name_of(members[0]))
    assert name == entries(sandbox)["000001"]["cluster"]
    # A record that is added later takes the name of the cluster.
    later_options = OPTIONS.replace(PATH, f"{PATH}/later")
    for member in members:
        member.reboot(f"#!/bin/sh\nexec consul-bootstrap --expect 3 {later_options} --sidecar-interval 2s\n")
    healthy(*members)
    later = until(lambda: entries(sandbox, f"{PATH}/later"))
    assert [entry["cluster"] for entry in later.values()] == [name]
    # An entry of another cluster is reported. Each server has a copy of the name after its first look at the key.
    until(lambda: members[0].exists("/var/lib/consul-bootstrap/cluster.json"))
    number = f"{len(later) + 1:06}"
    put(sandbox, number, "formed", [(m.id, m.address) for m in members], path=f"{PATH}/later")
    text = f"{PATH}/later/{number} is of cluster {OTHER}, but the cluster names itself {name}"
    assert text in members[0].bootstrap("doctor", "--group", "consul", *later_options.split()).stdout


def test_a_founder_that_dies_before_the_first_bootstrap_is_left_out(sandbox):
    members = sandbox.launch_group(3, boot=False)
    *left, lost = members
    # The third counts, and its agent never starts.
    boot(left, expect=2)
    until(lambda: all("knows no leader" in m.log for m in left))
    assert names(entries(sandbox)["000001"]) == sorted(m.id for m in members)
    assert {m.configuration["bootstrap_expect"] for m in left} == {3}
    sandbox.terminate(lost)
    healthy(*left)
    found = entries(sandbox)
    assert found["000002"]["state"] == "forming" and names(found["000002"]) == sorted(m.id for m in left)
    assert {m.configuration["bootstrap_expect"] for m in left} == {2}
    assert len({tuple(peers(m)) for m in left}) == 1 and len(peers(left[0])) == 2
    assert until(lambda: name_of(left[0])) == found["000002"]["cluster"]


def test_two_groups_that_race_for_one_record_form_one_cluster(sandbox):
    first = sandbox.launch_group(3, group="blue", boot=False)
    second = sandbox.launch_group(3, group="green", boot=False)
    boot([m for pair in zip(first, second, strict=True) for m in pair], "--wait-timeout 15s")
    ended_or_healthy = lambda m: m.status is not None or " healthy leader=" in m.log
    until(lambda: all(ended_or_healthy(m) for m in [*first, *second]))
    winners, losers = (first, second) if " healthy leader=" in first[0].log else (second, first)
    assert all(" healthy leader=" in m.log for m in winners)
    assert all(m.status in (13, 18) for m in losers), losers[0].log
    assert not any(m.exists("/etc/consul.d/00-consul-bootstrap.json") for m in losers)
    assert all(winners[0].id in m.log for m in losers)


def test_each_zone_has_its_own_record(sandbox):
    members = [sandbox.launch_group(1, group=f"consul-{z}", boot=False, zone=f"eu-west-1{z}")[0] for z in "ab"]
    options = "--layout datacenter-per-az --expect 1 --group consul-a --group consul-b"
    for member in members:
        member.boot(f"#!/bin/sh\nexec consul-bootstrap {options} {OPTIONS}\n")
    healthy(*members)
    for member in members:
        until(lambda member=member: "000002" in entries(sandbox, f"{PATH}/{member.zone}"))
        assert names(entries(sandbox, f"{PATH}/{member.zone}")["000002"]) == [member.id]


def test_the_policy_of_the_record_is_enough_for_doctor_and_boot(sandbox):
    (member,) = sandbox.launch_group(1, boot=False)
    member.boot()
    options = ["--group", "consul", "--expect", "1", *OPTIONS.split()]
    policy = member.bootstrap("iam-policy", *options, environment={"AWS_REGION": "eu-west-1"})
    sandbox.aws.set_policy(json.loads(policy.stdout))
    member.reboot(f"#!/bin/sh\nexec consul-bootstrap {' '.join(options)}\n")
    healthy(member)
    until(lambda: "000002" in entries(sandbox))
    found = member.bootstrap("doctor", *options).stdout
    assert f"ok      record: {PATH}/000002 is formed: {member.id}" in found, found
    assert "ok      ssm:PutParameter: allowed" in found and "ok      ssm:GetParametersByPath: allowed" in found, found


@pytest.mark.parametrize("text", ["forming", '{"state":"abandoned"}'])
def test_an_entry_that_is_not_understood_stops_a_new_cluster(sandbox, text):
    sandbox.aws.client("ssm").put_parameter(Name=f"{PATH}/000001", Value=text, Type="String")
    (member,) = sandbox.launch_group(1, boot=False)
    boot([member], expect=1)
    ended(member)
    assert member.status == 14, member.log
    assert f"{PATH}/000001 is no entry of a cluster's record that this version understands" in member.log
