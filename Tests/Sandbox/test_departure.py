"""A machine that is to go leaves its cluster first: one at a time, and only while the others keep their quorum."""

import json

from .aws import lifecycle_actions
from .conftest import healthy, peers
from .test_one_cluster import one_cluster, put, replace
from .test_return import systemd_group, voters
from .waiting import until

OPTIONS = ("--termination-hook", "terminating")
TARGET = "/latest/meta-data/autoscaling/target-lifecycle-state"
REPORT = "/var/lib/consul-bootstrap/departure.json"


def hooked_group(sandbox, count, *options, heartbeat=300):
    """A group with a termination hook, under systemd."""
    sandbox.aws.create_group("consul", desired=count)
    add_hook(sandbox, heartbeat)
    members = [sandbox.launch(group="consul", boot=False, systemd=True) for _ in range(count)]
    for member in members:
        member.boot()
    runs = [m.start("/usr/local/bin/consul-bootstrap", "--expect", str(count), *OPTIONS, *options) for m in members]
    for run in runs:
        output = run.finish()
        assert run.returncode == 0, output
    put(members[0])
    return members


def add_hook(sandbox, heartbeat=300, group="consul"):
    sandbox.aws.client("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName=group,
        LifecycleHookName="terminating",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=heartbeat,
        DefaultResult="ABANDON",
    )


def notice(sandbox, member):
    """Auto Scaling terminates the instance, and its hook holds it."""
    sandbox.aws.set_lifecycle(member.id, "Terminating:Wait")
    member.metadata.documents[TARGET] = "Terminated"


def completed(sandbox, *members):
    """The results of the hooks of these instances, in order."""
    ids = [m.id for m in members]
    return [a["result"] for a in lifecycle_actions if a["instance"] in ids]


def journal(*members):
    return "\n".join(
        f"--- {m.id} {m.address}\n" + m.run("journalctl", "--no-pager", "-u", "consul-bootstrap").stdout[-4000:]
        for m in members
    )


def report(member):
    return json.loads(member.read(REPORT)) if member.exists(REPORT) else None


def test_a_server_leaves_before_its_hook_is_completed(sandbox):
    members = hooked_group(sandbox, 3)
    member, *others = members
    sandbox.aws.set_desired("consul", 2)
    notice(sandbox, member)
    until(lambda: completed(sandbox, member), lambda: journal(*members))
    assert completed(sandbox, member) == ["CONTINUE"]
    wanted = sorted(f"{m.address}:8300" for m in others)
    assert voters(others[0]) == wanted
    until(lambda: member.run("systemctl", "is-active", "consul").stdout.strip() == "inactive")
    assert report(member)["phase"] == "left"
    one_cluster(*others)
