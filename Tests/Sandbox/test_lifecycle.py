"""The engine of Auto Scaling: states, timers, retention, the order of replacements. None of it needs the program."""

import os
import signal
import time

import pytest
from botocore.exceptions import ClientError

from .aws import lifecycle_actions
from .lifecycle import TARGET
from .lifecycle_api import LAUNCHING, active, changed
from .waiting import until

IDLE = "#!/bin/sh\nexec sleep 1000\n"


@pytest.fixture
def engine(sandbox):
    sandbox.lifecycle.shutdown = (0, 0.1)
    return sandbox.lifecycle


def group_of(sandbox, count, user_data=IDLE, **keywords):
    sandbox.aws.create_group("g", desired=count)
    sandbox.lifecycle.manage("g", user_data, **keywords)
    members = [sandbox.launch(group="g", boot=False) for _ in range(count)]
    sandbox.lifecycle.manage("g", user_data, **keywords)
    for member in members:
        member.boot(user_data)
    return members


def complete(sandbox, instance, result="CONTINUE", hook="hook", **keywords):
    sandbox.aws.client("autoscaling").complete_lifecycle_action(
        LifecycleHookName=hook,
        AutoScalingGroupName="g",
        LifecycleActionResult=result,
        **({} if keywords else {"InstanceId": instance.id}),
        **keywords,
    )


def heartbeat(sandbox, instance, hook="hook", group="g"):
    sandbox.aws.client("autoscaling").record_lifecycle_action_heartbeat(
        LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=instance.id
    )


def history(engine, instance):
    """Its states, in order."""
    events = [event["event"] for event in engine.events if event["instance"] == instance.id]
    return [event for event in events if event[0].isupper()]


def times(engine, instance):
    return {event["event"]: event["time"] for event in engine.events if event["instance"] == instance.id}


def listed(sandbox, **arguments):
    """What EC2 answers, by instance: the state."""
    reservations = sandbox.aws.client("ec2").describe_instances(**arguments)["Reservations"]
    return {i["InstanceId"]: i["State"]["Name"] for r in reservations for i in r["Instances"]}


def test_a_termination_waits_for_its_hook_and_ends_in_ec2(sandbox, engine):
    first, second = group_of(sandbox, 2)
    engine.put_hook("g", heartbeat=30)
    engine.shutdown, engine.forget_after = (0.5, 0.6), 1
    assert first.metadata.documents[TARGET] == "InService"
    engine.terminate_in_group(first, decrement=True)
    assert engine.state(first) == "Terminating:Wait" and first.metadata.documents[TARGET] == "Terminated"
    # The machine runs until the hook is completed.
    assert first.run("true").returncode == 0 and listed(sandbox)[first.id] == "running"
    heartbeat(sandbox, first)
    complete(sandbox, first)
    until(lambda: engine.ec2_state(first) == "shutting-down", every=0.01)
    until(lambda: engine.ec2_state(first) == "terminated" and engine.state(first) is None, every=0.01)
    ended = times(engine, first)
    assert ended["terminated"] - ended["shutting-down"] >= 0.5
    assert history(engine, first) == ["Terminating", "Terminating:Wait", "Terminating:Proceed"]
    assert lifecycle_actions[-1]["result"] == "CONTINUE" and first.id not in sandbox.instances
    assert sandbox.aws.group("g").desired_capacity == 1 and engine.settled("g")
    # EC2 shows it for a while, and then knows nothing of it.
    assert listed(sandbox, InstanceIds=[first.id]) == {first.id: "terminated"}
    until(lambda: first.id not in listed(sandbox))
    by_id = {"Name": "instance-id", "Values": [first.id, second.id]}
    assert listed(sandbox, Filters=[by_id]) == {second.id: "running"}
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        listed(sandbox, InstanceIds=[first.id])


def test_an_action_takes_what_aws_takes(sandbox, engine):
    first, second = group_of(sandbox, 2)
    engine.put_hook("g", heartbeat=30)
    refused = r"ValidationError.*No active Lifecycle Action found with instance ID " + first.id
    for call in (heartbeat, complete):
        with pytest.raises(ClientError, match=refused):
            call(sandbox, first)
    engine.terminate_in_group(first, decrement=True)
    for wrong in ({"hook": "other"}, {"group": "none"}):
        with pytest.raises(ClientError, match="ValidationError"):
            heartbeat(sandbox, first, **wrong)
    with pytest.raises(ClientError, match="No active Lifecycle Action found with token"):
        complete(sandbox, first, LifecycleActionToken="00000000-0000-0000-0000-000000000000")
    complete(sandbox, first, LifecycleActionToken=active[first.id][0].token)
    # Once only, and not for another instance.
    for instance in (first, second):
        with pytest.raises(ClientError, match="No active Lifecycle Action"):
            complete(sandbox, instance)
    until(lambda: engine.state(first) is None)


@pytest.mark.parametrize(
    ("default", "retains", "end"),
    [("CONTINUE", True, None), ("ABANDON", False, None), ("ABANDON", True, "Terminating:Retained")],
)
def test_a_hook_times_out_with_its_default_result(sandbox, engine, default, retains, end):
    [first] = group_of(sandbox, 1)
    engine.put_hook("g", heartbeat=0.4, default=default)
    if retains:
        engine.retain("g")
    engine.terminate_in_group(first, decrement=True)
    until(lambda: engine.state(first) == end)
    seen = times(engine, first)
    assert seen["timed-out"] - seen["Terminating:Wait"] >= 0.4
    assert lifecycle_actions == []


def test_heartbeats_reset_the_timer_up_to_the_global_timeout(sandbox, engine):
    [first] = group_of(sandbox, 1)
    assert engine.put_hook("g", heartbeat=300).global_timeout == 30_000
    assert engine.put_hook("g", heartbeat=7200).global_timeout == 48 * 3600
    client = sandbox.aws.client("autoscaling")
    client.put_lifecycle_hook(
        LifecycleHookName="hook",
        AutoScalingGroupName="g",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=60,
        DefaultResult="CONTINUE",
    )
    [hook] = client.describe_lifecycle_hooks(AutoScalingGroupName="g")["LifecycleHooks"]
    assert (hook["GlobalTimeout"], hook["HeartbeatTimeout"], hook["DefaultResult"]) == (6000, 60, "CONTINUE")
    engine.put_hook("g", heartbeat=0.6, global_timeout=1.5)
    engine.terminate_in_group(first, decrement=True)
    started, beats = time.monotonic(), 0
    while engine.state(first) == "Terminating:Wait":
        try:
            heartbeat(sandbox, first)
            beats += 1
        except ClientError as error:
            assert "No active Lifecycle Action" in str(error)
        time.sleep(0.2)
    assert time.monotonic() - started >= 1.5 and beats >= 4
    seen = times(engine, first)
    assert seen["timed-out"] - seen["Terminating:Wait"] >= 1.5


def test_an_abandoned_termination_is_retained_and_replaced(sandbox, engine):
    first, second = group_of(sandbox, 2)
    engine.put_hook("g", heartbeat=30)
    sandbox.aws.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName="g",
        InstanceLifecyclePolicy={"RetentionTriggers": {"TerminateHookAbandon": "retain"}},
        InstanceMaintenancePolicy={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 120},
    )
    [described] = sandbox.aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert described["InstanceLifecyclePolicy"] == {"RetentionTriggers": {"TerminateHookAbandon": "retain"}}
    assert described["InstanceMaintenancePolicy"]["MaxHealthyPercentage"] == 120
    engine.terminate_in_group(first)
    complete(sandbox, first, "ABANDON")
    until(lambda: engine.state(first) == "Terminating:Retained" and engine.settled("g"))
    # It is not counted, and runs on.
    assert first.run("true").returncode == 0 and engine.ec2_state(first) == "running"
    assert sandbox.aws.group("g").desired_capacity == 2 and len(engine.in_service("g")) == 2
    with pytest.raises(ClientError, match="No active Lifecycle Action"):
        heartbeat(sandbox, first)
    # Only another termination ends it, and no hook holds it again.
    engine.terminate_in_group(first)
    until(lambda: engine.state(first) is None and engine.ec2_state(first) == "terminated")
    assert engine.settled("g") and engine.state(second) == "InService"


def test_a_replacement_boots_the_same_user_data(sandbox, engine):
    [first] = group_of(sandbox, 1, "#!/bin/sh\necho booted > /var/tmp/booted\nexec sleep 1000\n")
    engine.terminate_in_group(first)
    until(lambda: engine.settled("g") and engine.state(first) is None)
    [second] = engine.in_service("g")
    assert second.id != first.id and second.metadata.documents[TARGET] == "InService"
    until(lambda: second.exists("/var/tmp/booted"))
    tags = sandbox.aws.client("ec2").describe_instances(InstanceIds=[second.id])
    assert {"Key": "aws:autoscaling:groupName", "Value": "g"} in tags["Reservations"][0]["Instances"][0]["Tags"]


def test_capacity_changes_launch_and_terminate_across_the_zones(sandbox, engine):
    group_of(sandbox, 0)
    engine.set_desired("g", 5)
    until(lambda: engine.settled("g"))
    zones = [instance.zone for instance in engine.in_service("g")]
    assert {zones.count(zone) for zone in set(zones)} == {2, 3}
    oldest = next(instance for instance in engine.in_service("g") if zones.count(instance.zone) == 3)
    engine.put_hook("g", heartbeat=30)
    engine.set_desired("g", 4)
    assert engine.state(oldest) == "Terminating:Wait"
    engine.set_desired("g", 0)
    waiting = engine.members("g", "Terminating:Wait")
    assert len(waiting) == 5
    for instance in waiting:
        complete(sandbox, instance)
    until(lambda: engine.settled("g"))
    assert not sandbox.instances


def test_a_launch_that_is_not_wanted_any_more_ends_itself(sandbox, engine):
    members = group_of(sandbox, 2)
    with changed:
        # The group does not list it yet.
        engine.set_desired("g", 3)
        engine.set_desired("g", 2)
    until(lambda: any(event["event"] == "left-group" for event in engine.events) and engine.settled("g"))
    assert set(engine.in_service("g")) == set(members) and len(sandbox.instances) == 2


def test_an_unhealthy_instance_is_replaced_in_the_order_of_the_policy(sandbox, engine):
    members = group_of(sandbox, 2)
    engine.put_hook("g", LAUNCHING, heartbeat=30, name="launch")
    engine.unhealthy(members[0])
    # Without a policy the instance goes first.
    assert engine.state(members[0]).startswith("Terminating")
    until(lambda: len(engine.members("g", "Pending:Wait")) == 1)
    complete(sandbox, engine.members("g", "Pending:Wait")[0], hook="launch")
    until(lambda: engine.settled("g"))
    engine.maintain("g", 100, 120)
    engine.unhealthy(members[1])
    until(lambda: len(engine.members("g", "Pending:Wait")) == 1)
    assert engine.state(members[1]) == "InService"
    complete(sandbox, engine.members("g", "Pending:Wait")[0], hook="launch")
    until(lambda: engine.settled("g") and engine.state(members[1]) is None)
    new = next(
        e for e in engine.events if e["event"] == "InService" and e["time"] > times(engine, members[1])["unhealthy"]
    )
    assert new["time"] <= times(engine, members[1])["Terminating"]


def test_two_unhealthy_ones_are_replaced_one_after_the_other(sandbox, engine):
    members = group_of(sandbox, 3)
    engine.maintain("g", 100, 120)
    with changed:
        # Nothing is launched before both are.
        for member in members[:2]:
            engine.unhealthy(member)
    until(lambda: engine.settled("g") and not set(engine.in_service("g")) & set(members[:2]))
    counted, most, least = 3, 3, 3
    for event in engine.events:
        counted += (event["event"] == "launch") - (event["event"] == "Terminating")
        most, least = max(most, counted), min(least, counted)
    assert (least, most) == (3, 4)


def test_an_abandoned_launch_is_terminated_and_launched_again(sandbox, engine):
    group_of(sandbox, 0)
    engine.put_hook("g", LAUNCHING, heartbeat=30)
    engine.set_desired("g", 1)
    until(lambda: len(engine.members("g", "Pending:Wait")) == 1)
    [first] = engine.members("g", "Pending:Wait")
    complete(sandbox, first, "ABANDON")
    until(lambda: engine.state(first) is None and len(engine.members("g", "Pending:Wait")) == 1)
    [second] = engine.members("g", "Pending:Wait")
    complete(sandbox, second)
    until(lambda: engine.settled("g"))
    assert history(engine, second)[-2:] == ["Pending:Proceed", "InService"]


def test_two_hooks_hold_until_both_are_completed_or_one_is_abandoned(sandbox, engine):
    first, second = group_of(sandbox, 2)
    for name in ("one", "two"):
        engine.put_hook("g", heartbeat=30, name=name)
    for member in (first, second):
        engine.terminate_in_group(member, decrement=True)
    complete(sandbox, first, hook="one")
    assert engine.state(first) == "Terminating:Wait"
    complete(sandbox, first, hook="two")
    complete(sandbox, second, "ABANDON", hook="one")
    until(lambda: engine.settled("g"))


def test_ec2_terminates_without_a_notice_and_the_group_notices_later(sandbox, engine):
    first, second = group_of(sandbox, 2)
    engine.terminate(first, noticed_after=0.5)
    until(lambda: engine.ec2_state(first) == "terminated")
    assert engine.state(first) == "InService" and first.metadata.documents[TARGET] == "InService"
    until(lambda: engine.settled("g") and engine.state(first) is None)
    assert len(engine.in_service("g")) == 2 and second in engine.in_service("g")


def at_power_off(sandbox, look):
    """Looks at an instance between the end of its processes and that of its files."""
    remove = sandbox.remove_machine
    sandbox.remove_machine = lambda gone: (look(gone), remove(gone))


@pytest.fixture(autouse=True)
def original(region):
    yield
    region.__dict__.pop("remove_machine", None)


ORDERLY = "#!/bin/sh\ntrap 'touch /var/tmp/stopped; exit' TERM\nsleep 1000 & wait\n"


STUBBORN = "#!/bin/sh\ntrap '' TERM\nsleep 1000\nsleep 1000\n"


def test_a_plain_machine_gets_sigterm_and_after_its_grace_the_power(sandbox, engine):
    orderly, stubborn = group_of(sandbox, 2)
    for member, script in ((orderly, ORDERLY), (stubborn, STUBBORN)):
        member.reboot(script)
        until(lambda member=member: "sleep 1000" in member.run("ps", "-eo", "args").stdout)
    engine.grace, seen = 1, []
    at_power_off(sandbox, lambda gone: seen.append((gone.id, gone.exists("/var/tmp/stopped"))))
    for member in (orderly, stubborn):
        engine.terminate_in_group(member, decrement=True)
    until(lambda: engine.settled("g"))
    assert sorted(seen) == sorted([(orderly.id, True), (stubborn.id, False)])
    took = {m: times(engine, m)["powered-off"] - times(engine, m)["shutting-down"] for m in (orderly, stubborn)}
    assert took[orderly] < took[stubborn] and took[stubborn] >= 1


UNIT = "[Service]\nExecStart=/bin/sleep infinity\nExecStop=/bin/touch /var/tmp/stopped\n"


def test_systemd_stops_its_units_when_ec2_terminates(sandbox, engine):
    sandbox.aws.create_group("g")
    instance = sandbox.launch(group="g", systemd=True)
    instance.write("/etc/systemd/system/s.service", UNIT)
    instance.run("systemctl", "start", "s", check=True)
    seen = []
    at_power_off(sandbox, lambda gone: seen.append(gone.exists("/var/tmp/stopped")))
    engine.terminate_in_group(instance, decrement=True)
    until(lambda: engine.state(instance) is None)
    assert seen == [True]


def test_a_retained_instance_that_powers_itself_off_is_terminated(sandbox, engine):
    sandbox.aws.create_group("g")
    retained = sandbox.launch(group="g", systemd=True)
    rebooted = sandbox.launch(group="g", systemd=True)
    engine.put_hook("g", heartbeat=30)
    engine.retain("g")
    engine.terminate_in_group(retained, decrement=True)
    complete(sandbox, retained, "ABANDON")
    until(lambda: engine.state(retained) == "Terminating:Retained")
    engine.watch(rebooted)
    rebooted.restart()
    retained.run("systemctl", "poweroff")
    until(lambda: engine.state(retained) is None and engine.ec2_state(retained) == "terminated")
    assert engine.ec2_state(rebooted) == "running" and engine.state(rebooted) == "InService"
    # By its own kernel, too.
    engine.watch(rebooted)
    os.kill(rebooted.pid, signal.SIGKILL)
    until(lambda: engine.ec2_state(rebooted) == "terminated")


def test_clearing_ends_what_is_under_way(sandbox, engine):
    members = group_of(sandbox, 3)
    engine.put_hook("g", heartbeat=300)
    for member in members:
        engine.terminate_in_group(member)
    sandbox.clear()
    assert not sandbox.instances and not active
    engine.errors.append("a failure of a thread")
    with pytest.raises(AssertionError, match="a failure of a thread"):
        sandbox.clear()
