"""The chaos suite: `make chaos [SEED=n] [MINUTES=60] [SERVERS=5]`. The same seed kills the same servers in the same
order.

Each run writes `report.json` and `timeline.svg` below `.build/chaos`.
"""

import os
import random
import shutil

import pytest

from ..sandbox import BUILD
from . import clients, departures, kills, outages, scenarios
from .cluster import Chaos
from .group import GroupChaos
from .nemesis import OPTIONS, NemesisChaos, s18

SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
MINUTES = float(os.environ.get("CHAOS_MINUTES") or 60)
SERVERS = int(os.environ.get("CHAOS_SERVERS") or 5)

pytestmark = pytest.mark.chaos


@pytest.fixture
def chaos(sandbox, request):
    """Starts a cluster; its reports are in a directory named after the test and the seed."""
    directory = os.path.join(BUILD, "chaos", f"{request.node.name.removeprefix('test_')}-{SEED}")
    shutil.rmtree(directory, ignore_errors=True)

    def start(kind=Chaos, **options):
        print(f"\nseed {SEED}: {directory}", flush=True)
        return kind(sandbox, directory, SEED, servers=SERVERS, **options)

    return start


@pytest.mark.parametrize("through", ["clients", "servers"])
def test_s1_a_follower_is_killed(chaos, through):
    with chaos(through=through) as run:
        scenarios.s1_followers(run)


@pytest.mark.parametrize("through", ["clients", "servers"])
def test_s2_the_leader_is_killed(chaos, through):
    with chaos(through=through) as run:
        scenarios.s2_leaders(run)


def test_s3a_all_but_one_are_killed_and_return(chaos):
    with chaos() as run:
        scenarios.s3a_most_with_their_data(run)


def test_s4_random_servers_are_killed(chaos):
    with chaos() as run:
        scenarios.s4_random(run, MINUTES)


def test_s5_all_are_killed_and_return(chaos):
    with chaos() as run:
        scenarios.s5_all_with_their_data(run)


def test_s6_an_instance_refresh_replaces_the_group(chaos):
    with chaos(GroupChaos) as run:
        departures.s6_refresh(run)


@pytest.mark.parametrize("desired", [SERVERS - 2, 1])
def test_s7_several_are_to_go_at_once(chaos, desired):
    with chaos(GroupChaos) as run:
        departures.s7_scale_in(run, desired)


def test_s7_two_are_replaced_in_the_same_second(chaos):
    with chaos(GroupChaos) as run:
        departures.s7_replaced(run, 2)


@pytest.mark.parametrize("proof", ["gone", "running", "away"])
def test_s8_two_of_five_are_dead_and_not_removed(chaos, proof):
    with chaos(GroupChaos, options="--cleanup-dead-servers false") as run:
        departures.s8_the_dead_are_counted(run, proof)


def test_s8_a_server_is_told_to_go_in_the_second_in_which_two_others_die(chaos):
    with chaos(GroupChaos, options="--cleanup-dead-servers false") as run:
        departures.s8_the_dead_are_counted(run, "gone", at_once=True)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_s9_spot_instances_are_taken_back(chaos, count):
    with chaos(GroupChaos) as run:
        departures.s9_spot(run, count)


@pytest.mark.parametrize("leader_in", ["majority", "minority"])
def test_s10_the_network_is_cut(chaos, leader_in):
    with chaos() as run:
        scenarios.s10_partition(run, leader_in)


def test_s12_the_sidecar_is_killed_at_every_line_of_a_departure(chaos):
    with chaos(kills.SystemdGroup) as run:
        kills.s12_departure(run)


@pytest.mark.parametrize("depart", [kills.by_hand, kills.by_stop])
def test_s12_leave_is_killed_at_every_line(chaos, depart):
    with chaos(kills.SystemdGroup) as run:
        kills.s12_leave(run, depart)


def test_s12_the_sidecar_of_a_retained_server_is_killed_at_every_line(chaos):
    with chaos(kills.SystemdGroup, options="--cleanup-dead-servers false") as run:
        outages.s12_retained(run)


def test_s12_the_sidecar_of_a_client_is_killed_at_every_line(chaos):
    with chaos(GroupChaos) as run:
        clients.s12_client(run)


def test_s13_half_of_a_fleet_of_clients_is_to_go_and_the_other_half_is_killed(chaos):
    with chaos(GroupChaos) as run:
        clients.s13_clients(run)


def test_s14_a_load_balancer_calls_the_survivors_of_an_outage_unhealthy(chaos):
    with chaos(GroupChaos) as run:
        outages.s14_health_check(run)


def test_s15_aws_lies(chaos):
    with chaos(GroupChaos, options="--cleanup-dead-servers false") as run:
        outages.s15_lies(run)


@pytest.mark.parametrize("limited", [True, False], ids=["of-a-minority", "of-any"])
def test_s18_a_nemesis_breaks_random_parts(chaos, limited):
    """For 20 minutes of 60, and for 10 those of a majority, too."""
    with chaos(NemesisChaos, options=OPTIONS) as run:
        s18(run, MINUTES / 3 if limited else MINUTES / 6, limited)


@pytest.mark.parametrize("limited", [True, False], ids=["of-a-minority", "of-any"])
def test_s18_on_machines_with_systemd(chaos, limited):
    """Where the sidecar and the agent are units, which live and die on their own. For 10 minutes of 60."""
    with chaos(NemesisChaos, options=OPTIONS, systemd=True) as run:
        s18(run, MINUTES / 6, limited)
