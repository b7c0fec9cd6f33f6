"""`status --check` and `doctor` report what is wrong with a node, its cluster and its sidecar, and nothing else.

Each condition is produced on real agents; both commands fail, name it and print what fixes it. What is healthy again
passes both."""

import json
import signal

from .conftest import healthy, servers
from .test_return import voters
from .waiting import until

OWN = "/etc/consul.d/00-consul-bootstrap.json"
# Three intervals without a report are 3 s.
OPTIONS = ["--expect", "3", "--sidecar-interval", "1s"]


def check(member):
    """The problems of `status --check`, each with its hint; exit status 1 means that there are any."""
    result = member.bootstrap("status", "--check")
    assert result.returncode == (1 if result.stdout else 0), result
    return result.stdout


def doctor(member, *options):
    """The problems that `doctor` finds."""
    result = member.bootstrap("doctor", "--json", *options)
    findings = json.loads(result.stdout)["findings"]
    wrong = [f"{f['subject']}: {f['message']}; {f['hint']}" for f in findings if f["severity"] == "problem"]
    assert result.returncode == (1 if wrong else 0), result
    return "\n".join(wrong)


def fails(member, *words):
    """Waits until `status --check` names all of this, and asserts that `doctor` does so, too."""
    report = lambda: f"{member.address}: {check(member)}\n{member.bootstrap('doctor').stdout}"
    until(lambda: all(word in check(member) for word in words), report)
    until(lambda: all(word in doctor(member) for word in words), report)


def fine(*members):
    for member in members:
        report = lambda member=member: f"{member.address}: {check(member)}\n{member.bootstrap('doctor').stdout}"
        until(lambda member=member: check(member) == "", report)
        until(lambda member=member: doctor(member) == "", report)


def pid(member, name="consul"):
    return member.run("pgrep", "-o", "-x", name[:15]).stdout.strip()


def kill(member, number, process):
    member.run("kill", f"-{int(number)}", process, check=True)


def systemctl(member, *arguments):
    member.run("systemctl", *arguments, check=True)


def three_servers(sandbox):
    """One under systemd, two that their user-data supervises, and a client."""
    sandbox.aws.create_group("consul", desired=3)
    first = sandbox.launch(group="consul", boot=False, systemd=True)
    others = [sandbox.launch(group="consul", boot=False) for _ in range(2)]
    for other in others:
        other.boot(f"#!/bin/sh\nexec consul-bootstrap {' '.join(OPTIONS)}\n")
    first.boot()
    result = first.bootstrap(*OPTIONS)
    assert result.returncode == 0, result.stderr
    # From the first moment on.
    assert check(first) == ""
    healthy(*others)
    for other in others:
        assert check(other) == ""
    return first, *others


def test_the_agent_and_its_sidecar(sandbox):
    first, second, third = three_servers(sandbox)
    client = sandbox.launch(boot=False)
    client.boot("#!/bin/sh\nexec consul-bootstrap --role client --group consul --sidecar-interval 1s\n")
    healthy(client)
    fine(first, second, third, client)

    # An agent that hangs: its unit is active, and its port accepts connections.
    for member in (first, second):
        agent = pid(member)
        kill(member, signal.SIGSTOP, agent)
        fails(member, "does not answer", f"process {agent} is stopped by a signal", f"kill -CONT {agent}")
        kill(member, signal.SIGCONT, agent)

    # A sidecar that hangs, by its report of three intervals ago; one that does not run, by its unit, too.
    for member in (first, second):
        sidecar = pid(member, "consul-bootstrap")
        kill(member, signal.SIGSTOP, sidecar)
        hint = "systemctl restart consul-bootstrap" if member is first else "run consul-bootstrap again"
        fails(member, "the sidecar has not reported for", hint)
        kill(member, signal.SIGCONT, sidecar)
    systemctl(first, "stop", "consul-bootstrap")
    fails(first, "the sidecar does not run: consul-bootstrap.service is inactive", "systemctl start consul-bootstrap")
    systemctl(first, "start", "consul-bootstrap")
    fine(first, second, third, client)

    # Crashes in a row.
    for member in (first, second):
        member.write("/etc/consul.d/zz-broken.json", "{")
        kill(member, signal.SIGKILL, pid(member))
        fails(member, "does not answer", "crash", "fix what the agent's log reports")
        member.run("rm", "/etc/consul.d/zz-broken.json", check=True)
    until(lambda: len(servers(client)) == len(voters(third)) == 3, lambda: (servers(client), voters(third)))


def test_the_cluster(sandbox):
    first, second, third = three_servers(sandbox)

    # A datacenter that another file names, and that the agent uses after a restart.
    first.write("/etc/consul.d/zz.json", '{"datacenter": "dc2"}')
    fails(first, "does not use its configuration: datacenter is dc1, not dc2", "restart the agent")
    first.run("rm", "/etc/consul.d/zz.json", check=True)

    # One server of three has left: nothing is dead, and one is missing.
    third.run("consul", "leave")
    until(lambda: third.status == 0)
    fails(first, "2 of 3 servers are in the raft configuration", "start the missing servers")
    run = third.start_bootstrap(*OPTIONS)
    until(lambda: " healthy leader=" in run.output or run.poll() is not None, lambda: run.output)
    until(lambda: len(voters(first)) == 3, lambda: voters(first))
    fine(first, second, third)

    # Two are dead at once: the majority is lost. (Of one, autopilot soon removes the vote.)
    for member in (second, third):
        member.kill()
    lost = "1 of 3 servers are alive, a quorum is 2; not alive: "
    fails(first, "the agent knows no leader", lost, "consul-bootstrap recover")
    assert all(f"({member.address})" in check(first) for member in (second, third))

    # Back with their data, all is well again.
    for member in (second, third):
        member.boot(f"#!/bin/sh\nexec consul-bootstrap {' '.join(OPTIONS)}\n")
    healthy(second, third)
    fine(first, second, third)


def test_servers_that_never_agree_and_two_clusters(sandbox):
    """As an older version of this program, or a hand, left them."""
    sandbox.aws.create_group("consul", desired=2)
    members = [sandbox.launch(group="consul") for _ in range(2)]
    addresses = [member.address for member in members]

    def configure(member, **keys):
        document = {"server": True, "datacenter": "dc1", "data_dir": "/opt/consul", "bind_addr": member.address}
        member.write(OWN, json.dumps({**document, **keys}))

    def start(member):
        member.start("consul", "agent", "-config-dir", "/etc/consul.d")

    for member, expect in zip(members, (2, 3), strict=True):
        configure(member, bootstrap_expect=expect, retry_join=addresses, retry_interval="1s")
        start(member)
    for member in members:
        until(lambda member=member: len(servers(member)) == 2)
        fails(member, "the agent knows no leader: the servers disagree on bootstrap_expect: 2 on", "the same --expect")
    for member in members:
        kill(member, signal.SIGKILL, pid(member))
        member.run("rm", "-r", "/opt/consul", check=True)

    for member in members:
        configure(member, bootstrap_expect=1)
        start(member)
    for member in members:
        until(lambda member=member: member.consul("/v1/status/leader"))
        configure(member, retry_join=addresses)
    for member, other in (members, members[::-1]):
        fails(
            member,
            f"there are two clusters: server {other.address} follows leader {other.address}:8300, this server follows "
            f"{member.address}:8300",
            "keep the cluster that is right",
        )
