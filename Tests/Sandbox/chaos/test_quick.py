"""The quick scenarios of `make test`: under load, servers are killed and return, and leave although they are killed."""

from . import kills
from .cluster import Chaos
from .scenarios import clean


def test_a_follower_and_the_leader_are_killed_under_load(sandbox, tmp_path):
    with Chaos(sandbox, tmp_path, seed=1, servers=3, clients=1) as run:
        for choose in (lambda: run.followers()[0], run.leader):
            member = choose()
            run.kill_agent(member)
            # Its supervisor has started it again, and it follows the leader.
            run.measure("settled", run.is_settled, run.events[-1].ended)
        run.panic(run.followers()[0])
        run.replace()
        run.measure("settled", run.is_settled, run.events[-1].ended)
        clean(run, run.finish("quick"))


def test_the_sidecar_is_killed_from_the_notice_to_the_end_of_the_leave(sandbox, tmp_path):
    """It has the lock, it has told its agent to leave, and its agent has left, while the leader waits for the lock."""
    with kills.SystemdGroup(sandbox, tmp_path, seed=1, servers=3, clients=1) as run:
        kills.depart(run, "follower", *kills.SAMPLE)
        assert len([event for event in run.events if event.kind.startswith("kill -9")]) == len(kills.SAMPLE)
        kills.conclude(run)
