"""False answers of EC2 and Auto Scaling: each says what its name says, to which caller it shall, until it ends."""

import pytest

from .asking import ask, reaches, states
from .lies import KINDS, reuse
from .test_lifecycle import group_of, listed
from .waiting import until


@pytest.fixture
def three(sandbox):
    """Two that run, and one that is dead."""
    sandbox.lifecycle.shutdown = (0, 0.1)
    first, second, dead = group_of(sandbox, 3)
    sandbox.lifecycle.terminate_in_group(dead, decrement=True)
    until(lambda: sandbox.lifecycle.state(dead) is None)
    return first, second, dead


def test_ec2_says_the_truth_and_nothing_of_the_addresses_of_the_dead(sandbox, three):
    first, second, dead = three
    truth = {first.id: "running", second.id: "running", dead.id: "terminated"}
    assert states(sandbox, first) == truth == states(sandbox, first, *truth)
    answer = ask(sandbox, first, "ec2", "DescribeInstances", **{"InstanceId.1": dead.id})
    assert dead.id in answer and dead.address not in answer and sandbox.aws.vpc not in answer
    assert second.address in ask(sandbox, first, "ec2", "DescribeInstances")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("reused", "in-service")])
def test_a_lie_about_ec2(sandbox, three, kind):
    first, second, dead = three
    truth = {first.id: "running", second.id: "running", dead.id: "terminated"}
    about = {"terminated": second, "running": dead, "not-found": second, "forgotten": dead}.get(kind)
    lie = sandbox.aws.lies.tell(kind, about)
    expected = {
        "terminated": truth | {second.id: "terminated"},
        "running": truth | {dead.id: "running"},
        "empty": {},
        "other-region": {},
        "not-found": {first.id: "running", dead.id: "terminated"},
        "forgotten": {first.id: "running", second.id: "running"},
        "own-missing": {second.id: "running", dead.id: "terminated"},
    }[kind]
    assert states(sandbox, first, *truth) == expected
    if kind == "other-region":
        assert len(states(sandbox, first)) == 3 and not set(states(sandbox, first)) & set(truth)
        assert "us-east-1" in ask(sandbox, first, "ec2", "DescribeInstances")
    if kind in ("not-found", "forgotten"):
        answer = ask(sandbox, first, "ec2", "DescribeInstances", **{"InstanceId.1": about.id})
        assert "InvalidInstanceID.NotFound" in answer
    # The engine and the test know better.
    assert listed(sandbox) == truth
    assert sandbox.lifecycle.ec2_state(second) == "running" and sandbox.lifecycle.ec2_state(dead) == "terminated"
    sandbox.aws.lies.withdraw(lie)
    assert states(sandbox, first, *truth) == truth


def test_a_group_lists_a_dead_one_as_in_service(sandbox, three):
    first, second, dead = three
    sandbox.aws.lies.tell("in-service", dead)
    for action in ("DescribeAutoScalingGroups", "DescribeAutoScalingInstances"):
        answer = ask(sandbox, first, "autoscaling", action)
        assert dead.id in answer and second.id in answer and answer.count("InService") == 3
    assert len(sandbox.aws.group("g").instance_states) == 2
    sandbox.aws.lies.clear()
    assert dead.id not in ask(sandbox, first, "autoscaling", "DescribeAutoScalingGroups")


def test_a_lie_is_told_to_one_instance(sandbox, three):
    first, second, _ = three
    sandbox.aws.lies.tell("empty", source=first.address)
    assert states(sandbox, first) == {} and len(states(sandbox, second)) == 3


def test_what_ec2_has_forgotten_may_run_again(sandbox, three):
    first, _, dead = three
    sandbox.aws.forgotten[dead.id] = 0
    assert dead.id not in states(sandbox, first)
    sandbox.aws.lies.tell("running", dead)
    assert states(sandbox, first)[dead.id] == "running"


def test_a_new_instance_has_the_address_of_a_dead_one(sandbox, three):
    first, _, dead = three
    new = reuse(sandbox, dead, group="g")
    assert new.address == dead.address and new.id != dead.id
    assert states(sandbox, first)[new.id] == "running" and reaches(first, new, 20)


def test_a_lie_has_its_subject(sandbox, three):
    for kind, about in (("terminated", None), ("empty", three[0]), ("reused", three[0]), ("other", None)):
        with pytest.raises(ValueError):
            sandbox.aws.lies.tell(kind, about)
