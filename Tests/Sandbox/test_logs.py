"""Log forwarding: every line arrives, in order, whatever happens to the file, the service and this program."""

import json
import random
import signal
import time

import pytest

from .aws import Fault
from .conftest import healthy, until

GROUP = "/consul/dc1"
# Writes numbered lines, and rotates the file in the way named, every so many lines.
WRITER = """
import os, shutil, sys, time
kind, lines, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
path = '/var/log/app.log'
for number in range(1, lines + 1):
    with open(path, 'a') as file: file.write(f'{number} ' + 'x' * 80 + '\\n')
    if number % every == 0:
        time.sleep(1.5)
        for old in range(4, 0, -1):
            for end in ('', '.gz'):
                if os.path.exists(f'{path}.{old}{end}'): os.rename(f'{path}.{old}{end}', f'{path}.{old + 1}{end}')
        if kind == 'copytruncate':
            shutil.copyfile(path, path + '.1'); os.truncate(path, 0)
        else:
            os.rename(path, path + '.1')
            if kind == 'compress': os.rename(path + '.1', path + '.1.gz')
"""


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul")
    return sandbox.launch(group="consul")


def numbers(sandbox, instance):
    return [int(message.split()[0]) for message in sandbox.aws.log_events(GROUP, f"{instance.id}/var/log/app.log")]


@pytest.mark.parametrize("kind", ["rename", "copytruncate", "compress"])
def test_every_line_arrives_in_order_through_rotation_throttling_and_kills(sandbox, instance, kind, capsys):
    sandbox.aws.faults += [Fault("throttle", action="PutLogEvents", probability=0.3), Fault("5xx", action="PutLogEvents", probability=0.1)]
    lines, generator = 10_000, random.Random(7)
    writer = instance.start("/usr/bin/python3", "-c", WRITER, kind, str(lines), "2000")
    kills = 0
    # Kills only where a file can be found again by its number: what was compressed, or copied and truncated more than once,
    # while nobody looked may be out of reach.
    for _ in range(2 if kind == "rename" else 0):
        run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log")
        time.sleep(generator.uniform(1.5, 2.5))
        instance.signal_run(signal.SIGKILL)
        run.communicate(timeout=10)
        kills += 1
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log")
    writer.wait(timeout=60)
    until(lambda: (numbers(sandbox, instance) or [0])[-1] == lines, 60, lambda: (numbers(sandbox, instance)[-3:], instance.run("sh", "-c", "ls -lai --time-style=full-iso /var/log/app*; cat /var/lib/consul-bootstrap/log-checkpoints.json /var/lib/consul-bootstrap/log-status.json").stdout))
    instance.signal_run(signal.SIGTERM)
    output = run.communicate(timeout=20)[0]
    assert run.returncode == 0, output
    got = numbers(sandbox, instance)
    assert sandbox.aws.broken_limits == []
    assert sorted(set(got)) == list(range(1, lines + 1)), [n for n in range(1, lines + 1) if n not in set(got)][:5]
    # In order: a step back is a repetition after a kill, and goes on from there.
    steps_back = sum(b <= a for a, b in zip(got, got[1:]))
    assert steps_back <= kills and all(b == a + 1 or b <= a for a, b in zip(got, got[1:])), [pair for pair in zip(got, got[1:]) if pair[1] != pair[0] + 1]
    with capsys.disabled():
        print(f"\n{kind}: {lines} lines, {kills} kills, {len(got) - lines} repeated")


def test_the_end_flushes_and_the_next_start_goes_on(sandbox, instance):
    instance.write("/var/log/app.log", "1 a\n2 b\n")
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/*.log", "--log-retention", "30")
    until(lambda: numbers(sandbox, instance) == [1, 2])
    instance.run("sh", "-c", "echo 3 c >> /var/log/app.log; echo 1 new > /var/log/new.log")
    instance.signal_run(signal.SIGTERM)
    run.communicate(timeout=15)
    assert run.returncode == 0 and numbers(sandbox, instance) == [1, 2, 3]
    instance.run("sh", "-c", "echo 4 d >> /var/log/app.log")
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/*.log")
    until(lambda: numbers(sandbox, instance) == [1, 2, 3, 4] and sandbox.aws.log_events(GROUP, f"{instance.id}/var/log/new.log") == ["1 new"])
    group = sandbox.aws.client("logs").describe_log_groups()["logGroups"][0]
    assert (group["logGroupName"], group["retentionInDays"]) == (GROUP, 30)
    status = until(lambda: (s := json.loads(instance.read("/var/lib/consul-bootstrap/log-status.json"))) and {x["source"]: x for x in s["streams"]}.get("file:/var/log/app.log", {}).get("sent_events") == 1 and s)
    stream = next(x for x in status["streams"] if x["source"] == "file:/var/log/app.log")
    assert stream["behind_bytes"] == 0 and stream["last_error"] is None and stream["last_acceptance"]
    instance.signal_run(signal.SIGTERM)
    run.communicate(timeout=15)


def test_a_permission_that_is_missing_parks_forwarding_and_not_the_agent(sandbox, instance):
    instance.write("/var/log/app.log", "1 a\n")
    sandbox.aws.faults.append(Fault("denied", action="PutLogEvents"))
    instance.reboot("#!/bin/sh\nexec consul-bootstrap --expect 1 --log file:/var/log/app.log\n")
    healthy(instance)
    until(lambda: "log forwarding of file:/var/log/app.log waits" in instance.log)
    assert "logs:PutLogEvents" in instance.log and instance.consul("/v1/status/leader")
    assert instance.log.count("log forwarding of file:/var/log/app.log waits") == 1


def test_the_agents_journal_under_systemd(sandbox):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    result = member.bootstrap("--expect", "1", "--log", "consul", timeout=90)
    assert result.returncode == 0, result.stderr
    events = until(lambda: (found := sandbox.aws.log_events(GROUP, f"{member.id}/consul")) and any("New leader elected" in e for e in found) and found, 30)
    member.run("systemctl", "restart", "consul-bootstrap", check=True)
    member.run("sh", "-c", "kill -HUP $(systemctl show --value --property=MainPID consul)", check=True)
    again = until(lambda: (found := sandbox.aws.log_events(GROUP, f"{member.id}/consul")) and any("signal=hangup" in e for e in found) and found, 30)
    assert again[: len(events)] == events and len([e for e in again if "New leader elected" in e]) == 1  # nothing twice


def test_long_and_many_journal_entries_arrive_whole(sandbox):
    """From the first entry on, not the last ones; and lines that journalctl leaves out unless it is asked for all."""
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    script = "i=1; while [ $i -le 1500 ]; do echo $i $(printf %0600d 0); i=$((i+1)); done; printf %020000d 7; echo; echo end"
    member.run("systemd-run", "--unit=burst", "--property=LogRateLimitIntervalSec=0", "--wait", "sh", "-c", script, check=True)
    run = member.start_bootstrap("sidecar", "--log", "journal:burst.service")
    stream = f"{member.id}/journal-burst.service"
    got = until(lambda: (found := sandbox.aws.log_events(GROUP, stream)) and "end" in found and found, 60, lambda: len(sandbox.aws.log_events(GROUP, stream)))
    member.signal_run(signal.SIGTERM)
    run.communicate(timeout=20)
    assert [int(m.split()[0]) for m in got if m[0] in "123456789" and " 000" in m] == list(range(1, 1501))
    assert [len(m) for m in got if m.endswith("07")] == [20000]
