"""Consul alone in the same harness: what the program is compared with. Nothing but safety is required of it."""

import pytest

from . import departures
from .group import PlainGroup
from .test_chaos import chaos  # noqa: F401, a fixture

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("desired", [3, 1])
def test_consul_alone_when_several_are_to_go_at_once(chaos, desired):  # noqa: F811
    with chaos(PlainGroup) as run:
        departures.plain(run, "S7, Consul alone", lambda run: run.scale(desired))


def test_consul_alone_when_two_of_five_are_dead_and_not_removed(chaos):  # noqa: F811
    def act(run):
        dead = run.random.sample(run.followers(), 2)
        run.panic(*dead)
        departures.await_failed(run, dead)
        run.terminate_in_group(run.random.choice(run.followers()), decrement=True)

    with chaos(PlainGroup, options="--cleanup-dead-servers false") as run:
        departures.plain(run, "S8, Consul alone", act)
