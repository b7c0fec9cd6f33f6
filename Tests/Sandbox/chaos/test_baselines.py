"""Consul alone in the same harness, and with `BASELINE=FILE` an older release of this program: what it is compared
with. Nothing but safety is required of them."""

import os

import pytest

from .. import sandbox
from . import departures
from .group import FormerGroup, PlainGroup
from .test_chaos import chaos  # noqa: F401, a fixture

BASELINE = os.environ.get("CHAOS_BASELINE")
KINDS = [PlainGroup, *([FormerGroup] if BASELINE else [])]

pytestmark = pytest.mark.chaos


@pytest.fixture(autouse=True, params=KINDS, ids=lambda kind: kind.__name__)
def kind(request, monkeypatch):
    if request.param is FormerGroup:
        monkeypatch.setattr(sandbox, "BINARY", BASELINE)
    return request.param


@pytest.mark.parametrize("desired", [3, 1])
def test_several_are_to_go_at_once(chaos, kind, desired):  # noqa: F811
    with chaos(kind) as run:
        departures.plain(run, f"S7, {kind.__name__}", lambda run: run.scale(desired))


def test_two_of_five_are_dead_and_not_removed(chaos, kind):  # noqa: F811
    def act(run):
        dead = run.random.sample(run.followers(), 2)
        run.panic(*dead)
        departures.await_failed(run, dead)
        run.terminate_in_group(run.random.choice(run.followers()), decrement=True)

    with chaos(kind, options="--cleanup-dead-servers false") as run:
        departures.plain(run, f"S8, {kind.__name__}", act)
