"""Log forwarding: every line arrives, in order, through rotations, faults of the service and kills of this program."""

import json
import os
import random
import shutil
import signal
import time
from itertools import pairwise

import pytest

from .aws import Fault
from .conftest import healthy
from .waiting import until

GROUP = "/consul/dc1"
# Writes numbered lines, a number of them at a time, and rotates the file in the way named, every so many lines, but not
# while /run/hold is there; appends the time to /run/rotated after each rotation.
#
# Files that were compressed, or truncated more than once, between two looks of the forwarder are out of its reach
# (README, Limits). So each look is waited for: /proc tells which files it holds open.
WRITER = """
import gzip, os, shutil, sys, time
kind, lines, at_once, every = sys.argv[1], *map(int, sys.argv[2:])
path, number = '/var/log/app.log', 0

def held(path):
    wanted = os.stat(path)
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if open(f'/proc/{pid}/comm').read() != 'consul-bootstra\\n': continue
            for file in os.scandir(f'/proc/{pid}/fd'):
                found = os.stat(file.path)
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino): return True
        except (FileNotFoundError, ProcessLookupError): pass
    return False

seen, truncated = False, False
while number < lines:
    more = range(number + 1, min(number + at_once, lines) + 1)
    with open(path, 'a') as file: file.writelines(f'{n} ' + 'x' * 80 + '\\n' for n in more)
    number = min(number + at_once, lines)
    # What was truncated has been noticed once its copy is held; what was renamed, once what has its name is.
    seen = seen or kind == 'rename' or held(path + '.1' if truncated else path)
    time.sleep(0.05)
    if number % every or number == lines: continue
    # A forwarder that was killed meanwhile may have been done with it before it was seen here.
    deadline = time.monotonic() + 20
    while not seen and time.monotonic() < deadline:
        time.sleep(0.02)
        seen = held(path + '.1' if truncated else path)
    # Between rotations as they are, not one within the look at another.
    time.sleep(1)
    while os.path.exists('/run/hold'): time.sleep(0.02)
    for old in range(40, 0, -1):
        for end in ('', '.gz'):
            if os.path.exists(f'{path}.{old}{end}'): os.rename(f'{path}.{old}{end}', f'{path}.{old + 1}{end}')
    if kind == 'copytruncate':
        shutil.copyfile(path, path + '.1'); os.truncate(path, 0)
    else:
        os.rename(path, path + '.1')
        if kind == 'compress':
            with open(path + '.1', 'rb') as source, gzip.open(path + '.1.gz', 'wb', 1) as target:
                shutil.copyfileobj(source, target)
            os.unlink(path + '.1')
    seen, truncated = False, kind == 'copytruncate'
    with open('/run/rotated', 'a') as file: file.write(f'{time.time()}\\n')
"""


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul")
    return sandbox.launch(group="consul")


def numbers(sandbox, instance):
    return [int(message.split()[0]) for message in sandbox.aws.log_events(GROUP, f"{instance.id}/var/log/app.log")]


@pytest.mark.parametrize("kind", ["rename", "copytruncate", "compress"])
def test_every_line_arrives_in_order_through_rotation_throttling_and_kills(sandbox, instance, kind, capsys):
    sandbox.aws.faults += [
        Fault("throttle", action="PutLogEvents", probability=0.3),
        Fault("5xx", action="PutLogEvents", probability=0.1),
    ]
    lines, generator = 10_000, random.Random(7)
    writer = instance.start("/usr/bin/python3", "-c", WRITER, kind, str(lines), "100", "2000")
    kills = 0
    # Kills only where a file can be found again by its number: what was compressed, or copied and truncated more than
    # once, while no forwarder ran may be out of reach.
    for _ in range(2 if kind == "rename" else 0):
        run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log")
        time.sleep(generator.uniform(1.5, 2.5))  # anywhere
        run.signal(signal.SIGKILL)
        run.finish()
        kills += 1
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log")
    assert writer.finish() == "" and writer.returncode == 0, writer.output
    script = (
        "ls -lai --time-style=full-iso /var/log/app*; cd /var/lib/consul-bootstrap; cat log-checkpoints.json "
        "log-status.json"
    )
    until(
        lambda: (numbers(sandbox, instance) or [0])[-1] == lines,
        lambda: (numbers(sandbox, instance)[-3:], instance.run("sh", "-c", script).stdout),
    )
    run.signal(signal.SIGTERM)
    output = run.finish()
    assert run.returncode == 0, output
    got = numbers(sandbox, instance)
    assert sandbox.aws.broken_limits == []
    assert sorted(set(got)) == list(range(1, lines + 1)), [n for n in range(1, lines + 1) if n not in set(got)][:5]
    # In order: a step back is a repetition after a kill, and goes on from there.
    steps_back = sum(b <= a for a, b in pairwise(got))
    assert steps_back <= kills and all(b == a + 1 or b <= a for a, b in pairwise(got)), [
        pair for pair in pairwise(got) if pair[1] != pair[0] + 1
    ]
    with capsys.disabled():
        print(f"\n{kind}: {lines} lines, {kills} kills, {len(got) - lines} repeated")


def test_the_end_flushes_and_the_next_start_continues(sandbox, instance):
    instance.write("/var/log/app.log", "1 a\n2 b\n")
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/*.log", "--log-retention", "30")
    until(lambda: numbers(sandbox, instance) == [1, 2])
    instance.run("sh", "-c", "echo 3 c >> /var/log/app.log; echo 1 new > /var/log/new.log")
    run.signal(signal.SIGTERM)
    run.finish()
    assert run.returncode == 0 and numbers(sandbox, instance) == [1, 2, 3]
    instance.run("sh", "-c", "echo 4 d >> /var/log/app.log")
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/*.log")
    until(
        lambda: (
            numbers(sandbox, instance) == [1, 2, 3, 4]
            and sandbox.aws.log_events(GROUP, f"{instance.id}/var/log/new.log") == ["1 new"]
        )
    )
    group = sandbox.aws.client("logs").describe_log_groups()["logGroups"][0]
    assert (group["logGroupName"], group["retentionInDays"]) == (GROUP, 30)
    status = until(
        lambda: (
            (s := json.loads(instance.read("/var/lib/consul-bootstrap/log-status.json")))
            and {x["source"]: x for x in s["streams"]}.get("file:/var/log/app.log", {}).get("sent_events") == 1
            and s
        )
    )
    stream = next(x for x in status["streams"] if x["source"] == "file:/var/log/app.log")
    assert stream["behind_bytes"] == 0 and stream["last_error"] is None and stream["last_acknowledged"]
    run.signal(signal.SIGTERM)
    run.finish()


def test_without_create_permissions_an_existing_stream_is_used(sandbox, instance):
    sandbox.aws.faults += [Fault("denied", action="CreateLogStream"), Fault("denied", action="CreateLogGroup")]
    instance.write("/var/log/app.log", "0001-01-01T00:00:00Z a time before all times\n2 b\n")
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log")
    reason = lambda: ((s := status(instance)["forwarding"]) and s["streams"] and s["streams"][0]["last_error"]) or ""
    until(lambda: "logs:CreateLogStream" in reason())
    assert instance.bootstrap("status", "--check").returncode == 1
    # An administrator creates them: the next start finds them (a running one within a minute).
    logs = sandbox.aws.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=f"{instance.id}/var/log/app.log")
    run.signal(signal.SIGKILL)
    output = run.finish()
    assert output.count("assuming that it exists") == 1
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log")
    until(lambda: len(events(sandbox, instance, "var/log/app.log")) == 2)
    run.signal(signal.SIGTERM)
    run.finish()
    assert sandbox.aws.broken_limits == []


def test_a_missing_permission_parks_forwarding_and_not_the_agent(sandbox, instance):
    instance.write("/var/log/app.log", "1 a\n")
    sandbox.aws.faults.append(Fault("denied", action="PutLogEvents"))
    instance.reboot("#!/bin/sh\nexec consul-bootstrap --expect 1 --log file:/var/log/app.log\n")
    healthy(instance)
    until(lambda: "log forwarding of file:/var/log/app.log is parked" in instance.log)
    assert "logs:PutLogEvents" in instance.log and instance.consul("/v1/status/leader")
    assert instance.log.count("log forwarding of file:/var/log/app.log is parked") == 1


def test_the_agents_journal_under_systemd(sandbox):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    result = member.bootstrap("--expect", "1", "--log", "consul")
    assert result.returncode == 0, result.stderr
    events = until(
        lambda: (
            (found := sandbox.aws.log_events(GROUP, f"{member.id}/consul"))
            and any("New leader elected" in e for e in found)
            and found
        )
    )
    member.run("systemctl", "restart", "consul-bootstrap", check=True)
    member.run("sh", "-c", "kill -HUP $(systemctl show --value --property=MainPID consul)", check=True)
    again = until(
        lambda: (
            (found := sandbox.aws.log_events(GROUP, f"{member.id}/consul"))
            and any("signal=hangup" in e for e in found)
            and found
        )
    )
    assert again[: len(events)] == events and len([e for e in again if "New leader elected" in e]) == 1  # nothing twice


def test_long_and_many_journal_entries_arrive_complete(sandbox):
    """From the first entry on, not the last ones; and entries that journalctl omits without --all."""
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    script = (
        "i=1; while [ $i -le 1500 ]; do echo $i $(printf %0600d 0); i=$((i+1)); done; printf %020000d 7; echo; echo end"
    )
    member.run(
        "systemd-run", "--unit=burst", "--property=LogRateLimitIntervalSec=0", "--wait", "sh", "-c", script, check=True
    )
    run = member.start_bootstrap("sidecar", "--log", "journal:burst.service")
    stream = f"{member.id}/journal-burst.service"
    got = until(
        lambda: (found := sandbox.aws.log_events(GROUP, stream)) and "end" in found and found,
        lambda: len(sandbox.aws.log_events(GROUP, stream)),
    )
    run.signal(signal.SIGTERM)
    run.finish()
    assert [int(m.split()[0]) for m in got if m[0] in "123456789" and " 000" in m] == list(range(1, 1501))
    assert [len(m) for m in got if m.endswith("07")] == [20000]


def events(sandbox, instance, source, group=GROUP):
    return sandbox.aws.log_events(group, f"{instance.id}/{source}")


def status(instance, *options):
    return json.loads(instance.bootstrap("status", "--json", *options).stdout)


def test_a_supervised_agent_and_this_program_from_their_first_lines(sandbox, instance):
    instance.reboot(
        "#!/bin/sh\nexec consul-bootstrap --expect 1 --log consul --log bootstrap --log-tag team=platform "
        "--log-group "
        "'/{group}/{az}'\n"
    )
    healthy(instance)
    group = "/consul/eu-west-1a"
    agent = until(
        lambda: (e := events(sandbox, instance, "consul", group)) and any("New leader elected" in m for m in e) and e
    )
    assert agent[0] == "==> Starting Consul agent..."
    own = until(
        lambda: (e := events(sandbox, instance, "bootstrap", group)) and any(" healthy leader=" in m for m in e) and e
    )
    assert (
        f"this is {instance.id}" in own[0]
        and sum(f"info this is {instance.id}" in m for m in own) == 1
        and any("decision: " in m for m in own)
    )
    # Nothing twice, where the run handed over to the sidecar.
    stamped = [m for m in agent if "Z [" in m]
    assert (
        len(stamped) == len(set(stamped))
        and [m for m in own if " decision: " in m] == [m for m in own if " decision: " in m][:1]
    )
    assert sandbox.aws.client("logs").list_tags_log_group(logGroupName=group)["tags"] == {"team": "platform"}
    # SIGHUP is the agent's and ours.
    instance.signal_run(signal.SIGHUP)
    until(
        lambda: (
            any("signal=hangup" in m for m in events(sandbox, instance, "consul", group))
            and "the options have not changed" in instance.log
        )
    )
    # The report may be two seconds old: of before the sidecar took over.
    wanted = {"consul": "ok", "bootstrap": "ok"}
    until(
        lambda: (
            {s["source"]: s["condition"] for s in status(instance, "--log", "consul")["forwarding"]["streams"]}
            == wanted
        )
    )
    found = status(instance, "--log", "consul")
    assert found["healthy"] and found["agent"]["leader"]
    assert instance.bootstrap("status", "--check", "--log", "consul").returncode == 0
    text = instance.bootstrap("status").stdout
    assert "no problems" in text and "leader" in text and "consul: ok -> " + group in text


def test_a_failed_boot_reports_its_error_to_cloudwatch(sandbox, instance):
    """A failed boot is when the logs matter most."""
    result = instance.bootstrap("--expect", "3", "--wait-timeout", "3s", "--log", "bootstrap")
    assert result.returncode == 13
    assert any("level=error" in m or " error " in m for m in events(sandbox, instance, "bootstrap")), events(
        sandbox, instance, "bootstrap"
    )


def test_records_of_many_lines_fields_of_their_own_and_times(sandbox, instance):
    instance.write(
        "/etc/consul-bootstrap/config.json",
        json.dumps(
            {
                "log": [
                    {
                        "source": "file:/var/log/app.log",
                        "group": "/app",
                        "stream": "{hostname}-{source}",
                        "retention": 14,
                        "multiline-start": "^[0-9]{4}-",
                    },
                    {"source": "file:/var/log/trace.log", "multiline-start": "indentation", "stream": "trace"},
                    {"source": "file:/var/log/json.log", "timestamp-key": "when", "stream": "json"},
                ],
            }
        ),
    )
    now = int(time.time())
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - 60))
    instance.write("/var/log/app.log", f"{stamp} first\nsecond\n  third\n{stamp} next\n")
    instance.write("/var/log/trace.log", "Error: x\n  at a\n\tat b\nError: y\n")
    instance.write(
        "/var/log/json.log",
        json.dumps({"ts": now, "when": now - 30, "text": 'a "b" \\ \u0001 é'}, ensure_ascii=False) + "\r\n\nlast",
    )
    run = instance.start_bootstrap("sidecar")
    host = f"ip-{instance.address.replace('.', '-')}"
    backend = lambda group, stream: (g := sandbox.aws.log_group(group)) and g.streams.get(stream)
    until(
        lambda: (
            backend("/app", f"{host}-var/log/app.log")
            and backend(GROUP, "trace")
            and backend(GROUP, "json")
            and len(sandbox.aws.log_events(GROUP, "trace")) == 2
            and len(sandbox.aws.log_events("/app", f"{host}-var/log/app.log")) == 2
        )
    )
    assert sandbox.aws.log_events("/app", f"{host}-var/log/app.log") == [
        f"{stamp} first\nsecond\n  third",
        f"{stamp} next",
    ]
    assert backend("/app", f"{host}-var/log/app.log").events[0].timestamp == (now - 60) * 1000
    assert sandbox.aws.log_events(GROUP, "trace") == ["Error: x\n  at a\n\tat b", "Error: y"]
    until(lambda: len(sandbox.aws.log_events(GROUP, "json")) == 2)
    assert (
        json.loads(sandbox.aws.log_events(GROUP, "json")[0])["text"] == 'a "b" \\ \u0001 é'
        and sandbox.aws.log_events(GROUP, "json")[1] == " "
    )
    assert backend(GROUP, "json").events[0].timestamp == (now - 30) * 1000
    # An invalid file changes nothing; a valid one adds a source at SIGHUP.
    instance.write("/etc/consul-bootstrap/config.json", '{"log": "nonsense"}')
    run.signal(signal.SIGHUP)
    until(lambda: "cannot read the options again" in run.output)
    instance.write("/var/log/more.log", "1 more\n")
    instance.write("/etc/consul-bootstrap/config.json", json.dumps({"log": ["file:/var/log/more.log", "syslog"]}))
    instance.write("/var/log/syslog", "Jan  2 03:04:05 host prog: hello\n")
    run.signal(signal.SIGHUP)
    until(lambda: events(sandbox, instance, "var/log/more.log") == ["1 more"] and events(sandbox, instance, "syslog"))
    run.signal(signal.SIGTERM)
    output = run.finish()
    assert (
        "cannot read the options again; keeping the present ones" in output
        and "must be one of consul, bootstrap" in output
    )
    assert (
        sandbox.aws.client("logs").describe_log_groups(logGroupNamePrefix="/app")["logGroups"][0]["retentionInDays"]
        == 14
    )
    assert sandbox.aws.broken_limits == []


def test_rejected_events_are_kept_and_stalled_streams_are_reported(sandbox, instance):
    old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 20 * 86400))
    ahead = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5 * 3600))
    instance.write("/var/log/app.log", f"{old} too old\n{ahead} a clock of another zone\n1 now\n")
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log", "--metrics", "unix:/run/numbers.sock")
    until(lambda: len(events(sandbox, instance, "var/log/app.log")) == 2)
    assert events(sandbox, instance, "var/log/app.log") == [f"{ahead} a clock of another zone", "1 now"]
    letters = [
        json.loads(line) for line in instance.read("/var/lib/consul-bootstrap/log-dead-letters.jsonl").splitlines()
    ]
    assert [(d["source"], [e["message"] for e in d["events"]]) for d in letters] == [
        ("file:/var/log/app.log", [f"{old} too old"])
    ]
    stream = until(lambda: (s := status(instance)["forwarding"]["streams"]) and s[0]["rejected_events"] == 1 and s[0])
    assert stream["sent_events"] == 2 and stream["lost_lines"] == 0
    scrape = (
        "import socket;s=socket.socket(socket.AF_UNIX);s.connect('/run/numbers.sock');s.sendall(b'GET "
        "/metrics "
        "HTTP/1.1\\r\\n\\r\\n');"
        "print(s.makefile().read())"
    )
    text = until(
        lambda: (
            (t := instance.run("/usr/bin/python3", "-c", scrape).stdout)
            and 'sent_events_total{source="file:/var/log/app.log"} 2' in t
            and t
        )
    )
    assert (
        "200 OK" in text
        and 'consul_bootstrap_log_healthy{source="file:/var/log/app.log"} 1' in text
        and "# TYPE consul_bootstrap_log_lag_seconds gauge" in text
    )
    # A missing permission: parked, reported, and visible to a monitor.
    sandbox.aws.faults.append(Fault("denied", action="PutLogEvents"))
    instance.run("sh", "-c", "echo 2 more >> /var/log/app.log")
    check = lambda: instance.bootstrap("status", "--check", "--log", "file:/var/log/app.log")
    until(lambda: (r := check()).returncode == 1 and "file:/var/log/app.log is parked" in r.stdout)
    assert (
        "logs:PutLogEvents" in check().stdout
        and 'healthy{source="file:/var/log/app.log"} 0' in instance.run("/usr/bin/python3", "-c", scrape).stdout
    )
    # Killed: the last report becomes stale.
    run.signal(signal.SIGKILL)
    output = run.finish()
    assert (
        "CloudWatch Logs rejected events" in output
        and output.count("log forwarding of file:/var/log/app.log is parked") == 1
    )
    report = json.loads(instance.read("/var/lib/consul-bootstrap/log-status.json"))
    report["time"] = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 61))
    instance.write("/var/lib/consul-bootstrap/log-status.json", json.dumps(report))
    assert "the sidecar has not reported since" in check().stdout


CHATTER = """#!/bin/sh
# Consul, whose agent writes numbered lines as fast as it can in place of its own output.
[ "$1" = agent ] || exec /usr/bin/consul "$@"
/usr/bin/consul "$@" > /dev/null 2>&1 &
exec python3 -c "
import os, time
number = 0
while not os.path.exists('/run/chatter'): time.sleep(0.05)
while number < 1_000_000:
    os.write(1, b''.join(b'%d chatter %s\\n' % (n, b'x' * 80) for n in range(number, number + 500)))
    number += 500
open('/tmp/chattered', 'w').write(str(number))
time.sleep(3600)"
"""


def test_a_child_that_writes_as_fast_as_it_can_while_the_service_is_unavailable(sandbox, instance, capsys):
    """Consul is not blocked, memory stays bounded, and every gap is reported at its place with its exact size."""
    sandbox.aws.faults.append(Fault("5xx", action="PutLogEvents"))
    instance.write("/usr/local/bin/consul", CHATTER, mode=0o755)
    # The run hands over to its sidecar at once, and the last batch of a forwarder that ends may arrive twice: not here.
    options = "--expect 1 --consul /usr/local/bin/consul --log consul --log-queue 8MiB --flush-timeout 1ms"
    instance.reboot(f"#!/bin/sh\nexec consul-bootstrap {options} > /dev/null\n")
    healthy(instance)
    instance.write("/run/chatter", "")
    until(
        lambda: instance.exists("/tmp/chattered") and instance.read("/tmp/chattered"),
        lambda: instance.run("sh", "-c", "ps aux | tail; ls -la /tmp /var/lib/consul-bootstrap").stdout,
    )
    until(lambda: instance.consul("/v1/status/leader"))
    written = int(instance.read("/tmp/chattered"))
    pid = next(
        line.split()[0]
        for line in instance.run(
            "sh", "-c", "grep -lx consul-bootstra /proc/[0-9]*/comm | cut -d/ -f3"
        ).stdout.splitlines()
    )
    peak = (
        int(
            next(
                line
                for line in instance.run("cat", f"/proc/{pid}/status").stdout.splitlines()
                if line.startswith("VmHWM")
            ).split()[1]
        )
        / 1024
    )
    queue = sum(
        int(n) for n in instance.run("sh", "-c", "stat -c %s /var/lib/consul-bootstrap/log-queue/*").stdout.split()
    )
    sandbox.aws.faults.clear()
    got = until(
        lambda: (
            (e := events(sandbox, instance, "consul")) and any(m.startswith(f"{written - 1} chatter") for m in e) and e
        )
    )
    numbers = [int(m.split()[0]) for m in got if " chatter " in m]
    notices = [int(m.split()[1]) for m in got if m.startswith("consul-bootstrap: ") and "were dropped" in m]
    # The report may be two seconds old.
    stream = lambda: (s := status(instance)["forwarding"]["streams"]) and (s[0]["behind_bytes"], s[0]["lost_lines"])
    until(lambda: stream() == (0, sum(notices)), stream)
    with capsys.disabled():
        print(
            f"\n{written:,} lines, {sum(notices):,} dropped in {len(notices)} places, peak {peak:.1f} MiB, queue "
            f"{queue / 1e6:.1f} MB"
        )
    # Every gap has a notice with its length.
    next_number = 0
    for message in got:
        if message.startswith("consul-bootstrap: "):
            next_number += int(message.split()[1])
        else:
            assert int(message.split()[0]) == next_number, message[:40]
            next_number += 1
    assert peak < 40 and queue < 9.5e6
    assert sum(notices) > 0
    assert sum(notices) + len(numbers) == written == next_number
    assert sandbox.aws.broken_limits == []


def test_the_unit_is_ready_at_once_has_a_watchdog_and_reloads(sandbox):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    member.write("/etc/consul-bootstrap/config.json", '{"log": ["consul"]}')
    result = member.bootstrap("--expect", "1")
    assert result.returncode == 0, result.stderr
    show = lambda name: member.run(
        "systemctl", "show", "--value", f"--property={name}", "consul-bootstrap"
    ).stdout.strip()
    assert (show("Type"), show("WatchdogUSec"), show("ActiveState"), show("NotifyAccess")) == (
        "notify",
        "2min",
        "active",
        "main",
    )
    until(lambda: show("StatusText") == "monitoring the agent")
    pid = show("MainPID")
    until(lambda: any("New leader elected" in m for m in events(sandbox, member, "consul")))
    # The configuration file is the machine's: it was not copied, and a reload reads it.
    assert "log" not in json.loads(member.read("/var/lib/consul-bootstrap/options.json"))
    member.write("/etc/consul-bootstrap/config.json", '{"log": ["consul", "file:/var/log/app.log"]}')
    member.write("/var/log/app.log", "1 a\n")
    member.run("systemctl", "reload", "consul-bootstrap", check=True)
    until(lambda: events(sandbox, member, "var/log/app.log") == ["1 a"])
    assert (
        show("MainPID") == pid and len([m for m in events(sandbox, member, "consul") if "New leader elected" in m]) == 1
    )
    # A process that hangs is started again; one that reports is not.
    member.run(
        "sh",
        "-c",
        "mkdir -p /run/systemd/system/consul-bootstrap.service.d; printf '[Service]\nWatchdogSec=6\nRestartSec=0\n"
        "' "
        "> /run/systemd/system/consul-bootstrap.service.d/w.conf;"
        " "
        "systemctl "
        "daemon-reload;"
        " systemctl restart "
        "consul-bootstrap",
        check=True,
    )
    pid, reports = show("MainPID"), set()
    until(lambda: reports.add(show("WatchdogTimestampMonotonic")) or len(reports) >= 4)
    assert show("MainPID") == pid
    member.run("sh", "-c", f"kill -STOP {pid}", check=True)
    until(lambda: show("MainPID") not in ("0", pid) and show("ActiveState") == "active")
    # With metadata away it is ready all the same, long before systemd would give up its start.
    member.metadata.fail = 10_000
    started = time.monotonic()
    member.run("systemctl", "restart", "consul-bootstrap", check=True)
    assert time.monotonic() - started < 30 and show("ActiveState") == "active"


@pytest.mark.parametrize("kind", ["rename", "copytruncate", "compress"])
def test_a_million_lines_through_rotation_faults_kills_and_an_absence(sandbox, instance, kind, capsys):
    """A third of them for each kind. Every line arrives, in order, and twice only where a kill fell between
    acceptance and checkpoint."""
    lines = 333_334
    shutil.copyfile(os.path.join(os.path.dirname(__file__), "log_sink.py"), instance.path("/run/log_sink.py"))
    sink = instance.start("/usr/bin/python3", "/run/log_sink.py", "9999", "/run/sink", "0.3", "0.1")
    until(lambda: instance.exists("/run/sink.progress"))
    options = ("sidecar", "--log-level", "debug", "--log", "file:/var/log/app.log", "--flush-timeout", "1s")
    endpoint = {"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://127.0.0.1:9999"}
    runs = []

    def start():
        runs.append(instance.start_bootstrap(*options, environment=endpoint))

    def end(number):
        assert runs[-1].signal(number)
        runs[-1].finish()

    def checkpoint():
        kept = json.loads(instance.read("/var/lib/consul-bootstrap/log-checkpoints.json"))["file:/var/log/app.log"]
        return kept["inode"], kept["offset"]

    def streams():
        return json.loads(instance.read("/var/lib/consul-bootstrap/log-status.json"))["streams"]

    def rotations():
        return instance.read("/run/rotated").count("\n") if instance.exists("/run/rotated") else 0

    def rotation():
        before = rotations()
        until(
            lambda: rotations() > before or writer.poll() is not None,
            lambda: (before, writer.poll(), runs[-1].output[-2000:]),
        )
        assert rotations() > before, writer.output

    start()
    writer = instance.start("/usr/bin/python3", "-c", WRITER, kind, str(lines), "1000", "30000")
    for _ in range(2):
        rotation()
        time.sleep(0.7)  # anywhere
        # What is compressed before it was read to its end, while no forwarder runs, is out of reach (README, Limits).
        if kind == "compress":
            instance.write("/run/hold", "")
            until(
                lambda: checkpoint()[0] == str(os.stat(instance.path("/var/log/app.log")).st_ino),
                lambda: runs[-1].output[-2000:],
            )
        end(signal.SIGKILL)
        os.unlink(instance.path("/var/lib/consul-bootstrap/log-status.json"))
        start()
        if kind == "compress":
            until(lambda: instance.exists("/var/lib/consul-bootstrap/log-status.json") and streams())
            os.unlink(instance.path("/run/hold"))
    # Away for longer than a rotation takes; what can be found again by its name survives a restart meanwhile, too.
    instance.write("/run/sink.away", "")
    rotation()
    if kind != "compress":
        end(signal.SIGTERM)
        start()
    rotation()
    os.unlink(instance.path("/run/sink.away"))
    assert writer.finish() == "" and writer.returncode == 0, writer.output
    # Everything is accepted once the checkpoint is the end of the file.
    last = os.stat(instance.path("/var/log/app.log"))
    until(
        lambda: checkpoint() == (str(last.st_ino), last.st_size),
        lambda: (checkpoint(), last, streams(), runs[-1].output[-5000:]),
    )
    end(signal.SIGTERM)
    output = "".join(run.output for run in runs)
    sink.signal(signal.SIGTERM)
    sink.finish()
    result = json.loads(instance.read("/run/sink"))
    got = result["numbers"][f"{instance.id}/var/log/app.log"]
    steps_back = [(a, b) for a, b in pairwise(got) if b != a + 1]
    with capsys.disabled():
        print(
            f"\n{kind}: {lines:,} lines, {result['calls']} calls, {result['throttled']} throttled, "
            f"{result['failed']} failed;"
            " "
            f"{len(got) - lines} "
            "lines "
            "twice,"
            " "
            "at "
            f"{len(steps_back)} "
            "of 2 kills"
        )
    assert result["refused"] == [] and "lost" not in output, (result["refused"], output[-2000:])
    assert set(got) == set(range(1, lines + 1)), sorted(set(range(1, lines + 1)) - set(got))[:5]
    # In order: a step back is a repetition after a kill, and goes on from there.
    assert len(steps_back) <= 2 and all(b < a for a, b in steps_back), steps_back


# Stand-ins for AWS's agents, which are not available here: units that run, and a program that records its arguments.
AGENT_UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


def test_an_external_agent_is_configured_started_and_monitored(sandbox):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    options = (
        "--expect",
        "1",
        "--log",
        "file:/var/log/app.log",
        "--log-group",
        "/app",
        "--log-agent-patience",
        "8s",
        "--log-agent",
    )
    # Not installed: reported, without effect on the agent.
    result = member.bootstrap(*options, "awslogs")
    assert result.returncode == 0 and "awslogs is not installed" in result.stderr, result.stderr
    member.write("/etc/systemd/system/awslogsd.service", AGENT_UNIT)
    member.run("systemctl", "daemon-reload", check=True)
    result = member.bootstrap(*options, "awslogs", "--dry-run")
    assert "[/var/log/app.log]" in result.stdout and "/etc/awslogs/config/consul-bootstrap.conf" in result.stdout
    result = member.bootstrap(*options, "awslogs")
    assert result.returncode == 0, result.stderr
    stream = f"{member.id}/var/log/app.log"
    written = member.read("/etc/awslogs/config/consul-bootstrap.conf")
    assert f"file = /var/log/app.log\nlog_group_name = /app\nlog_stream_name = {stream}\n" in written
    assert member.run("systemctl", "is-active", "awslogsd").stdout.strip() == "active"
    # It forwards: healthy. (The test sends its events.)
    stamps = [0]
    logs = sandbox.aws.client("logs")
    logs.create_log_group(logGroupName="/app")
    logs.create_log_stream(logGroupName="/app", logStreamName=stream)

    def line(arrives):
        # Times of log lines are in seconds: the next line has a later one.
        until(lambda: int(time.time()) > stamps[-1])
        now = time.time()
        stamps.append(int(now))
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ line", time.gmtime(now))
        member.run("sh", "-c", f"echo '{text}' >> /var/log/app.log", check=True)
        if arrives:
            logs.put_log_events(
                logGroupName="/app", logStreamName=stream, logEvents=[{"timestamp": int(now) * 1000, "message": text}]
            )

    line(arrives=True)
    agent = lambda: status(member)["forwarding"]["agent"]
    until(
        lambda: (
            (a := agent())
            and a["running"]
            and a["streams"][0]["last_event"] == a["streams"][0]["last_line"] is not None
        ),
        agent,
    )
    check = lambda: member.bootstrap("status", "--check")
    until(lambda: check().returncode == 0, lambda: check().stdout)
    # Its lines do not arrive any more.
    line(arrives=False)
    until(
        lambda: (r := check()).returncode == 1 and "file:/var/log/app.log is stalled: /app" in r.stdout,
        lambda: check().stdout + str(agent()),
    )
    assert (
        "log forwarding: file:/var/log/app.log is stalled"
        in member.run("journalctl", "-u", "consul-bootstrap", "--no-pager").stdout
    )
    line(arrives=True)
    until(lambda: check().returncode == 0)
    member.run("systemctl", "stop", "awslogsd", check=True)
    until(lambda: "awslogs is not running" in check().stdout)
    # The other one.
    control = "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"
    member.write(control, '#!/bin/sh\necho "$@" > /run/called; systemctl start amazon-cloudwatch-agent\n', mode=0o755)
    member.write("/etc/systemd/system/amazon-cloudwatch-agent.service", AGENT_UNIT)
    member.run("systemctl", "daemon-reload", check=True)
    result = member.bootstrap(
        *options, "amazon-cloudwatch-agent", "--log-retention", "7", "--multiline-start", "^[0-9]"
    )
    assert result.returncode == 0, result.stderr
    assert (
        member.read("/run/called").strip()
        == "-a append-config -m ec2 -s -c file:/var/lib/consul-bootstrap/amazon-cloudwatch-agent.json"
    )
    entry = json.loads(member.read("/var/lib/consul-bootstrap/amazon-cloudwatch-agent.json"))["logs"]["logs_collected"][
        "files"
    ]["collect_list"][0]
    assert entry == {
        "file_path": "/var/log/app.log",
        "log_group_name": "/app",
        "log_stream_name": stream,
        "retention_in_days": 7,
        "multi_line_start_pattern": "^[0-9]",
    }
    until(lambda: check().returncode == 0, lambda: check().stdout)
