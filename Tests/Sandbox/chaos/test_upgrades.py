"""`make chaos`: groups that are refreshed, emptied, filled, and replaced by others, under load."""

import pytest

from . import refreshes, scaling
from .group import GroupChaos
from .test_chaos import chaos  # noqa: F401, a fixture

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize(("kind", "rollback"), [("no start", False), ("no vote", True)])
def test_s6_a_broken_version_touches_no_old_server(chaos, kind, rollback):  # noqa: F811
    with chaos(GroupChaos, options=refreshes.OPTIONS) as run:
        refreshes.s6_broken_version(run, kind, rollback)


def test_s6_a_checkpoint_holds_the_refresh(chaos):  # noqa: F811
    with chaos(GroupChaos, options=refreshes.OPTIONS) as run:
        refreshes.s6_checkpoint(run)


def test_s6_a_failure_half_way_rolls_back(chaos):  # noqa: F811
    with chaos(GroupChaos, options=refreshes.OPTIONS) as run:
        refreshes.s6_rollback(run)


@pytest.mark.parametrize("by", ["group", "tag"])
def test_s7_a_group_is_to_be_empty(chaos, by):  # noqa: F811
    with chaos(scaling.BlueGreen, by=by) as run:
        scaling.s7_teardown(run)


def test_s7_a_group_shrinks_and_grows(chaos):  # noqa: F811
    with chaos(GroupChaos) as run:
        scaling.s7_in_and_out(run)


def test_s7_the_only_server_is_replaced(chaos):  # noqa: F811
    with chaos(GroupChaos) as run:
        scaling.s7_the_only_one(run)


@pytest.mark.parametrize("by", ["group", "tag"])
def test_s7_a_second_group_replaces_the_first(chaos, by):  # noqa: F811
    with chaos(scaling.BlueGreen, by=by) as run:
        scaling.s7_blue_green(run)


@pytest.mark.parametrize("by", ["group", "tag"])
def test_s7_the_first_group_is_emptied_too_early(chaos, by):  # noqa: F811
    with chaos(scaling.BlueGreen, by=by) as run:
        scaling.s7_blue_goes_too_early(run)
