"""A datacenter for each zone (seed 001), and clients (seeds 000, 001, 003)."""

import json

from .aws import Fault
from .conftest import healthy, peers, servers, wan
from .waiting import until

A, B = "eu-west-1a", "eu-west-1b"
LAYOUT = "--layout datacenter-per-az --sidecar-interval 1s"


def user_data(options):
    return f"#!/bin/sh\nexec consul-bootstrap {options}\n"


def dual(sandbox, options, groups=("consul-a", "consul-b"), tags=None, count=3):
    """Three servers in each zone, all listed before the first one boots."""
    if groups:
        for zone, group in zip((A, B), groups, strict=True):
            if len(set(groups)) == 2:
                sandbox.aws.create_group(group, desired=count, zone=zone)
            elif zone == A:
                sandbox.aws.create_group(group, desired=2 * count)
    members = {
        zone: [
            sandbox.launch(zone=zone, group=groups and groups[zone == B], tags=tags, boot=False) for _ in range(count)
        ]
        for zone in (A, B)
    }
    for zone in members:
        for member in members[zone]:
            member.boot(user_data(f"{LAYOUT} {options}"))
    return members


def addresses(members):
    return sorted(m.address for m in members)


def test_two_zones_are_two_datacenters_and_the_loss_of_one_leaves_the_other(sandbox):
    groups = "--group consul-a --group consul-b --dns port-53"
    members = dual(sandbox, groups)
    everyone = members[A] + members[B]
    healthy(*everyone)
    for zone in (A, B):
        for member in members[zone]:
            configuration = member.configuration
            others = members[B if zone == A else A]
            assert configuration["datacenter"] == zone and configuration["node_name"] == member.id
            assert sorted(configuration["retry_join"]) == addresses(m for m in members[zone] if m is not member)
            assert sorted(configuration["retry_join_wan"]) == addresses(others)
            assert configuration["bootstrap_expect"] == 3 and configuration["ports"] == {"dns": 53}
            assert configuration["recursors"] == ["10.0.0.2"]
            wanted = sorted(f"{m.address}:8300" for m in members[zone])
            until(lambda member=member, wanted=wanted: peers(member) == wanted)
    until(lambda: all(wan(m) == addresses(everyone) for m in everyone))
    assert all('wan="6 of 6"' in m.log for m in everyone)
    # Names across zones, over DNS on port 53, as a program on the machine asks for them.
    for here, there in ((members[A][0], members[B][2]), (members[B][0], members[A][1])):
        until(lambda here=here, there=there: there.address in here.lookup(f"{there.id}.node.{there.zone}.consul"))

    # Zone b is gone: no process, no link, no address.
    for member in members[B]:
        sandbox.vanish(member)
    until(lambda: members[A][0].consul("/v1/status/leader"))
    # AWS has noticed, too: none of zone b's three is there any more.
    for member in members[B]:
        sandbox.terminate(member)
    lost = members[A].pop(0)
    sandbox.terminate(lost)
    replacement = sandbox.launch(zone=A, group="consul-a", user_data=user_data(f"{LAYOUT} {groups}"))
    healthy(replacement)
    assert "decision: join " in replacement.log and "waiting up to" not in replacement.log
    assert "bootstrap_expect" not in replacement.configuration
    members[A].append(replacement)
    until(lambda: all(f"{replacement.address}:8300" in peers(m) for m in members[A]))

    # And comes back, on new addresses.
    members[B] = [sandbox.launch(zone=B, group="consul-b", boot=False) for _ in range(3)]
    for member in members[B]:
        member.boot(user_data(f"{LAYOUT} {groups}"))
    healthy(*members[B])
    everyone = members[A] + members[B]
    # The WAN pool keeps failed members as alive for another minute or two.
    until(
        lambda: all(set(wan(m)) >= set(addresses(everyone)) for m in everyone),
        lambda: {m.address: wan(m) for m in everyone},
    )


def test_one_group_over_both_zones_shares_its_desired_capacity(sandbox):
    members = dual(sandbox, "--group consul --require-wan", groups=("consul", "consul"), count=2)
    everyone = members[A] + members[B]
    healthy(*everyone)
    assert all(m.configuration["bootstrap_expect"] == 2 for m in everyone)
    assert all("2 servers survive no failure" in m.log and 'wan="4 of 4"' in m.log for m in everyone)
    sandbox.aws.set_desired("consul", 5)
    result = members[A][0].bootstrap("--dry-run", "--layout", "datacenter-per-az", "--group", "consul")
    assert result.returncode == 0  # this server has its data: it rejoins
    fresh = sandbox.launch(zone=A, group="consul")
    result = fresh.bootstrap("--dry-run", "--layout", "datacenter-per-az", "--group", "consul")
    assert result.returncode == 2 and "desired capacity of 5 is not a multiple of its 2 zones" in result.stderr, (
        result.stderr
    )


def test_servers_found_by_tag_with_zone_ids_for_names(sandbox):
    members = dual(
        sandbox, "--tag Name=consul --expect 1 --datacenter-from zone-id", groups=None, tags={"Name": "consul"}, count=1
    )
    everyone = members[A] + members[B]
    healthy(*everyone)
    assert [m.configuration["datacenter"] for m in everyone] == ["euw1-az1", "euw1-az2"]
    until(lambda: all(len(wan(m)) == 2 for m in everyone))


def test_servers_of_another_zone_that_appear_later_are_joined_by_the_sidecar(sandbox):
    sandbox.aws.create_group("consul-a", zone=A)
    sandbox.aws.create_group("consul-b", zone=B)
    first = sandbox.launch(zone=A, group="consul-a", boot=False)
    options = f"{LAYOUT} --group consul-a --group consul-b --expect 1 --wan-wait 1s"
    first.boot(user_data(options))
    healthy(first)
    assert "waiting up to 1.0 s for other zones" in first.log
    assert first.configuration["retry_join_wan"] == []
    # The second cannot see the first (its own view is filtered), so nothing but the first one's sidecar can join them.
    second = sandbox.launch(zone=B, group="consul-b", user_data=user_data(options.replace("--group consul-a ", "")))
    healthy(second)
    assert second.configuration["retry_join_wan"] == []
    until(lambda: wan(first) == wan(second) == addresses([first, second]))
    assert "joined a server of another zone over the WAN" in first.log
    until(lambda: "the WAN pool is complete" in first.log)


def test_a_required_wan_pool_that_is_not_there_fails_the_boot_and_is_named(sandbox):
    sandbox.aws.create_group("consul", desired=2)
    first = sandbox.launch(zone=A, group="consul", boot=False)
    sandbox.launch(zone=B, group="consul", boot=False)
    first.boot(user_data(f"{LAYOUT} --group consul --require-wan --verify-timeout 6s"))
    until(lambda: first.status is not None)
    assert first.status == 16 and "1 of 2 servers are in the WAN pool" in first.log and "8302 tcp and udp" in first.log


def client_data(options=""):
    return user_data(f"--role client --group consul --start-jitter 100ms --sidecar-interval 1s {options}")


def test_a_client_joins_any_servers_and_outlives_their_replacement(sandbox):
    """consul#5516: an agent that has lost every known server does not discover others."""
    members = sandbox.launch_group(3, options="--group consul")
    healthy(*members)
    client = sandbox.launch(tags={"Name": "web"}, user_data=client_data())
    healthy(client)
    configuration = client.configuration
    assert configuration["server"] is False and configuration["leave_on_terminate"] is True
    assert not {"bootstrap_expect", "autopilot", "performance", "retry_join_wan"} & set(configuration)
    assert sorted(configuration["retry_join"]) == addresses(members)
    assert sorted(call["action"] for call in sandbox.aws.calls_from(client.address)) == [
        "DescribeAutoScalingGroups",
        "DescribeInstances",
    ]
    for _ in range(3):
        old = members.pop(0)
        sandbox.terminate(old)
        new = sandbox.launch(group="consul", user_data=user_data("--expect 3 --group consul"))
        healthy(new)
        members.append(new)
        wanted = addresses(members)
        until(lambda wanted=wanted: peers(members[0]) == [f"{a}:8300" for a in wanted])
    until(lambda: servers(client) == addresses(members))

    # All at once: new addresses, a new cluster, and no server left that the client knows.
    for member in members:
        sandbox.terminate(member)
    until(lambda: servers(client) == [])
    members = [sandbox.launch(group="consul", boot=False) for _ in range(3)]
    for member in members:
        member.boot(user_data("--expect 3 --group consul"))
    healthy(*members)
    until(lambda: servers(client) == addresses(members), lambda: client.log[-2000:])
    assert "the agent knows no living server; joining it again" in client.log
    until(lambda: sorted(client.configuration["retry_join"]) == addresses(members))


def test_a_client_joins_the_datacenter_of_its_own_zone(sandbox):
    members = dual(sandbox, "--group consul-a --group consul-b", count=1)
    healthy(*members[A], *members[B])
    client = sandbox.launch(
        zone=B,
        tags={"Name": "web"},
        user_data=client_data("--layout datacenter-per-az --group consul-a --group consul-b").replace(
            "--group consul ", ""
        ),
    )
    healthy(client)
    # Found by tag, with one call.
    sandbox.aws.calls.clear()
    plan = json.loads(
        client.bootstrap(
            "--dry-run", "--json", "--role", "client", "--layout", "datacenter-per-az", "--tag", "Name=consul"
        ).stdout
    )
    assert plan["decision"]["name"] == "join as a client" and plan["peers"] == addresses(members[B])
    assert [call["action"] for call in sandbox.aws.calls_from(client.address)] == ["DescribeInstances"]
    assert client.configuration["datacenter"] == B and client.configuration["retry_join"] == addresses(members[B])


def test_a_client_waits_for_a_server_and_reports_it(sandbox):
    sandbox.aws.create_group("consul")
    client = sandbox.launch()
    result = client.bootstrap("--role", "client", "--group", "consul", "--wait-timeout", "2s", "--start-jitter", "1ms")
    assert result.returncode == 13 and "no server was running" in result.stderr


def test_a_fleet_of_clients_makes_two_calls_each_and_throttling_only_slows_it(sandbox):
    """200 clients, eight machines' worth of them at a time here; no agent is started."""
    sandbox.aws.create_group("consul")
    server = sandbox.launch(group="consul", boot=False)
    host = sandbox.launch(tags={"Name": "fleet"})
    fleet = """
    i=0; while [ $i -lt 200 ]; do
      (consul-bootstrap --role client --group consul --start none --start-jitter 5s \\
        --consul /usr/local/bin/consul-stub \\
        --config-dir /tmp/c$i --state-dir /tmp/s$i --data-dir /tmp/d$i > /tmp/log$i 2>&1; echo $? > /tmp/status$i) &
      i=$((i + 1))
    done; wait; cat /tmp/status* | sort | uniq -c
    """
    host.write(
        "/usr/local/bin/consul-stub", '#!/bin/sh\n[ "$1" = version ] && echo Consul v1.8.7\nexit 0\n', mode=0o755
    )
    sandbox.aws.faults.append(Fault("throttle", probability=0.2))
    sandbox.aws.calls.clear()
    result = host.run("sh", "-c", fleet)
    assert result.stdout.split() == ["200", "0"], result.stdout + host.run("sh", "-c", "cat /tmp/log*").stdout[-2000:]
    calls = sandbox.aws.calls_from(host.address)
    answered = [call["action"] for call in calls if call["status"] == 200]
    # Each is answered once; one that is throttled five times in a row makes its client repeat both.
    assert all(200 <= answered.count(action) <= 220 for action in ("DescribeAutoScalingGroups", "DescribeInstances"))
    assert set(answered) == {"DescribeAutoScalingGroups", "DescribeInstances"} and len(calls) > 400
    assert json.loads(host.read("/tmp/c7/00-consul-bootstrap.json"))["retry_join"] == [server.address]
