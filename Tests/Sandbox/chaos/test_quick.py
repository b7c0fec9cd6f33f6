"""The quick scenario of `make test`: under load, a follower and then the leader are killed and return."""

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
