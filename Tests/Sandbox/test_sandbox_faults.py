"""Faults of machines, links, metadata and AWS: each does what it says, and ends when it shall."""

import json
import os
import time

import pytest

from .asking import ask, reaches
from .waiting import until

# Agents that need no datacenter: a file whose name the kernel takes for the process's.
AGENT = "#!/bin/sh\ncp /bin/sleep /var/tmp/{name}\n{become}exec /var/tmp/{name} 1000\n"


@pytest.fixture
def pair(sandbox):
    sandbox.aws.create_group("g")
    return [sandbox.launch(group="g", user_data=AGENT.format(name="consul", become="")) for _ in range(2)]


def stats(instance, name):
    return instance.run("ps", "-C", name, "-o", "stat=").stdout.split()


def gets(receiver, sender):
    """Whether a datagram arrives, without an answer."""
    code = "import socket as s;x=s.socket(2,2);x.bind(('',9999));x.settimeout(20);print('up',flush=True)"
    code += "\nwhile x.recv(9)!=b'end': print('got',flush=True)"
    run = receiver.start("/usr/bin/python3", "-uc", code)
    until(lambda: "up" in run.output)
    send = "import socket as s,sys;s.socket(2,2).sendto(sys.argv[2].encode(),(sys.argv[1],9999))"
    sender.run("/usr/bin/python3", "-c", send, receiver.address, "one")
    # To itself, after it: what was to arrive from elsewhere has arrived.
    time.sleep(0.2)
    receiver.run("/usr/bin/python3", "-c", send, "127.0.0.1", "end")
    return "got" in run.finish()


def test_an_agent_is_killed_and_paused(sandbox, pair):
    first, second = pair
    until(lambda: stats(first, "consul") and stats(second, "consul"))
    assert sandbox.faults.pause_agent(first) == 1
    until(lambda: stats(first, "consul") == ["T"])
    sandbox.faults.resume(first)
    until(lambda: stats(first, "consul") == ["S"])
    started = time.monotonic()
    sandbox.faults.pause_agent(first, 0.5)
    until(lambda: stats(first, "consul") == ["S"])
    assert time.monotonic() - started >= 0.5
    assert sandbox.faults.kill_agent(first) == 1
    until(lambda: stats(first, "consul") == [])
    assert sandbox.faults.kill_agent(first) == 0 and stats(second, "consul") == ["S"]
    # A paused one dies with its machine; its fault ends without it.
    sandbox.faults.pause_agent(second, 600)
    sandbox.terminate(second)
    sandbox.faults.clear()


def test_only_the_sidecar_is_killed(sandbox):
    sandbox.aws.create_group("g")
    both = "/var/tmp/consul 1000 &\n"
    script = "#!/bin/sh\ncp /bin/sleep /var/tmp/consul\n" + AGENT.format(name="consul-bootstrap", become=both)[10:]
    instance = sandbox.launch(group="g", user_data=script)
    until(lambda: stats(instance, "consul") and stats(instance, "consul-bootstrap"[:15]))
    assert sandbox.faults.pause_sidecar(instance, 0.2) == 1
    assert sandbox.faults.kill_sidecar(instance) == 1
    until(lambda: stats(instance, "consul-bootstrap"[:15]) == [])
    assert stats(instance, "consul") == ["S"]


@pytest.mark.parametrize(("incoming", "outgoing"), [(True, True), (True, False), (False, True)])
def test_a_link_is_cut_in_its_directions(sandbox, pair, incoming, outgoing):
    first, second = pair
    sandbox.faults.cut(first, incoming, outgoing)
    assert gets(first, second) is not incoming and gets(second, first) is not outgoing
    assert not reaches(first, second)
    # Its metadata service is its own.
    assert first.run("curl", "-sm5", "http://169.254.169.254/").returncode == 0
    sandbox.faults.heal()
    assert reaches(first, second) and gets(first, second)


def test_a_cut_link_may_leave_the_apis(sandbox, pair):
    first, second = pair
    sandbox.faults.cut(first, aws=True)
    assert first.id in ask(sandbox, first, "ec2", "DescribeInstances") and not reaches(first, second)


def test_a_partition_is_between_two_sets(sandbox, pair):
    first, second = pair
    third = sandbox.launch()
    sandbox.faults.partition([first], [second])
    assert not reaches(first, second) and reaches(first, third) and reaches(second, third)
    assert first.id in ask(sandbox, first, "ec2", "DescribeInstances")
    sandbox.faults.heal()
    sandbox.faults.partition([first, third], [second], one_way=True)
    assert not gets(second, first) and not gets(second, third) and gets(first, second) and reaches(first, third)
    # Healing does without those that are gone.
    sandbox.terminate(second)
    sandbox.faults.heal()


def test_a_panic_leaves_the_instance_running_for_ec2(sandbox, pair):
    first, second = pair
    sandbox.faults.panic(first)
    assert not reaches(second, first) and sandbox.lifecycle.ec2_state(first) == "running"
    assert sandbox.lifecycle.state(first) == "InService" and not first.process
    # A health check replaces it.
    sandbox.lifecycle.shutdown = (0, 0.1)
    sandbox.lifecycle.manage("g")
    sandbox.lifecycle.unhealthy(first)
    until(lambda: sandbox.lifecycle.settled("g") and sandbox.lifecycle.state(first) is None)
    assert len(sandbox.lifecycle.in_service("g")) == 2


def test_a_small_disk_is_full_and_free_again(sandbox, pair):
    first = pair[0]
    first.run("install", "-d", "-o", "consul", "-m", "750", "/opt/consul", check=True)
    sandbox.faults.small_disk(first, 4)
    assert oct(os.stat(first.path("/opt/consul")).st_mode)[-3:] == "750"
    write = ("sh", "-c", "dd if=/dev/zero of=/opt/consul/raft bs=64k count=1 conv=fsync")
    assert first.run(*write).returncode == 0
    first.run("rm", "/opt/consul/raft")
    sandbox.faults.fill_disk(first)
    assert "No space left" in first.run(*write).stderr
    sandbox.faults.free_disk(first)
    assert first.run(*write).returncode == 0
    with pytest.raises(ValueError):
        sandbox.faults.fill_disk(first, "/var/tmp")


def test_aws_fails_by_action_and_source(sandbox, pair):
    first, second = pair
    for kind, text in (("5xx", "service unavailable"), ("throttle", "Throttling"), ("denied", "AccessDenied")):
        fault = sandbox.faults.aws(kind, "DescribeAutoScalingGroups", source=first)
        assert text in ask(sandbox, first, "autoscaling", "DescribeAutoScalingGroups")
        assert first.id in ask(sandbox, second, "autoscaling", "DescribeAutoScalingGroups")
        assert first.id in ask(sandbox, first, "autoscaling", "DescribeAutoScalingInstances")
        sandbox.faults.end_aws(fault)
        assert first.id in ask(sandbox, first, "autoscaling", "DescribeAutoScalingGroups")
    sandbox.faults.aws("slow", times=1, value=0.5)
    started = time.monotonic()
    ask(sandbox, first, "ec2", "DescribeInstances")
    assert time.monotonic() - started >= 0.5


def test_an_answer_is_lost_after_the_act(sandbox, pair):
    first, second = pair
    sandbox.lifecycle.shutdown = (0, 0.1)
    sandbox.lifecycle.put_hook("g", heartbeat=60)
    sandbox.lifecycle.terminate_in_group(first, decrement=True)
    sandbox.faults.aws("lost-answer", "CompleteLifecycleAction", times=1)
    named = {"LifecycleHookName": "hook", "AutoScalingGroupName": "g", "InstanceId": first.id}
    with pytest.raises(AssertionError, match=r"RemoteDisconnected|EOF|reset"):
        ask(sandbox, second, "autoscaling", "CompleteLifecycleAction", LifecycleActionResult="CONTINUE", **named)
    until(lambda: sandbox.lifecycle.state(first) is None)


# The metadata service.

SCRIPT = """
t=$(curl -sSm5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) || exit
exec curl -sSm5 -w '\\n%{http_code}' -H "X-aws-ec2-metadata-token: $t" http://169.254.169.254/latest/meta-data/$1
"""


def document(instance, path):
    """Its text and the status; None without an answer."""
    result = instance.run("sh", "-c", SCRIPT, "sh", path)
    text, _, status = result.stdout.rpartition("\n")
    return None if result.returncode else (text, int(status))


def test_notices_as_ec2_writes_them(sandbox, pair):
    first = pair[0]
    for path in ("spot/instance-action", "events/recommendations/rebalance", "events/maintenance/scheduled"):
        assert document(first, path)[1] == 404
    first.metadata.spot("terminate", 120)
    first.metadata.rebalance()
    first.metadata.scheduled("instance-retirement", 600)
    first.metadata.scheduled("system-reboot", 86400, state="canceled")
    notice = json.loads(document(first, "spot/instance-action")[0])
    assert notice["action"] == "terminate" and document(first, "spot/termination-time")[0] == notice["time"]
    left = time.strptime(notice["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert 0 < time.mktime(left) - time.mktime(time.gmtime()) <= 120
    time.strptime(
        json.loads(document(first, "events/recommendations/rebalance")[0])["noticeTime"], "%Y-%m-%dT%H:%M:%SZ"
    )
    events = json.loads(document(first, "events/maintenance/scheduled")[0])
    assert [event["Code"] for event in events] == ["instance-retirement", "system-reboot"]
    assert [event["State"] for event in events] == ["active", "canceled"]
    time.strptime(events[0]["NotBefore"], "%d %b %Y %H:%M:%S GMT")
    first.metadata.withdraw()
    assert document(first, "spot/instance-action")[1] == 404
    assert document(first, "events/maintenance/scheduled") == ("[]", 200)


def test_metadata_fails_in_its_ways(sandbox, pair):
    first, path = pair[0], "autoscaling/target-lifecycle-state"
    service = first.metadata
    service.set(path, "InService")
    service.freeze()
    service.set(path, "Terminated")
    assert document(first, path) == ("InService", 200)
    service.thaw()
    assert document(first, path) == ("Terminated", 200)
    service.garbage = "/latest/meta-data/autoscaling/"
    assert "<html>" in document(first, path)[0] and document(first, "instance-id") == (first.id, 200)
    service.garbage = True
    assert document(first, "instance-id")[0] != first.id
    service.garbage = False
    service.away = True
    assert document(first, path) is None
    service.away = False
    for fault, status in (("throttle", 429), ("fail", 503)):
        setattr(service, fault, float("inf"))
        assert document(first, path)[1] == status
        setattr(service, fault, 0)
    service.slow = 0.4
    started = time.monotonic()
    assert document(first, path) == ("Terminated", 200) and time.monotonic() - started >= 0.8
    service.slow = 0
    service.set(path, None)
    assert document(first, path)[1] == 404
