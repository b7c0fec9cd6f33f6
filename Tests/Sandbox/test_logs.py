"""Log forwarding: every line arrives, in order, whatever happens to the file, the service and this program."""

import json
import os
import random
import shutil
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


def test_without_permission_to_make_anything_what_is_there_is_used(sandbox, instance):
    sandbox.aws.faults += [Fault("denied", action="CreateLogStream"), Fault("denied", action="CreateLogGroup")]
    instance.write("/var/log/app.log", "0001-01-01T00:00:00Z a time before all times\n2 b\n")
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log")
    reason = lambda: (s := status(instance)["forwarding"]) and s["streams"] and s["streams"][0]["last_error"] or ""
    until(lambda: "logs:CreateLogStream" in reason())
    assert instance.bootstrap("status", "--check").returncode == 1
    # Somebody makes them: the next start finds them (a running one within a minute).
    logs = sandbox.aws.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=f"{instance.id}/var/log/app.log")
    instance.signal_run(signal.SIGKILL)
    output = run.communicate(timeout=10)[0]
    assert output.count("may not make stream") == 1
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log")
    until(lambda: len(events(sandbox, instance, "var/log/app.log")) == 2)
    instance.signal_run(signal.SIGTERM)
    run.communicate(timeout=15)
    assert sandbox.aws.broken_limits == []


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


def events(sandbox, instance, source, group=GROUP):
    return sandbox.aws.log_events(group, f"{instance.id}/{source}")


def status(instance, *options):
    return json.loads(instance.bootstrap("status", "--json", *options).stdout)


def test_a_supervised_agent_and_this_program_from_their_first_lines(sandbox, instance):
    instance.reboot("#!/bin/sh\nexec consul-bootstrap --expect 1 --log consul --log bootstrap --log-tag team=platform --log-group '/{group}/{az}'\n")
    healthy(instance)
    group = "/consul/eu-west-1a"
    agent = until(lambda: (e := events(sandbox, instance, "consul", group)) and any("New leader elected" in m for m in e) and e)
    assert agent[0] == "==> Starting Consul agent..."
    own = until(lambda: (e := events(sandbox, instance, "bootstrap", group)) and any(" healthy leader=" in m for m in e) and e)
    assert f"this is {instance.id}" in own[0] and sum(f"info this is {instance.id}" in m for m in own) == 1 and any("decision: " in m for m in own)
    # Nothing twice, where the run handed over to the sidecar.
    stamped = [m for m in agent if "Z [" in m]
    assert len(stamped) == len(set(stamped)) and [m for m in own if " decision: " in m] == [m for m in own if " decision: " in m][:1]
    assert sandbox.aws.client("logs").list_tags_log_group(logGroupName=group)["tags"] == {"team": "platform"}
    # SIGHUP is the agent's and ours.
    instance.signal_run(signal.SIGHUP)
    until(lambda: any("signal=hangup" in m for m in events(sandbox, instance, "consul", group)) and "the options have not changed" in instance.log)
    # The report may be two seconds old: of before the sidecar took over.
    wanted = {"consul": "ok", "bootstrap": "ok"}
    until(lambda: {s["source"]: s["condition"] for s in status(instance, "--log", "consul")["forwarding"]["streams"]} == wanted)
    found = status(instance, "--log", "consul")
    assert found["healthy"] and found["agent"]["leader"]
    assert instance.bootstrap("status", "--check", "--log", "consul").returncode == 0
    text = instance.bootstrap("status").stdout
    assert "no problems" in text and "leader" in text and "consul: ok -> " + group in text


def test_a_boot_that_fails_has_told_cloudwatch_why(sandbox, instance):
    """The logs matter most where no cluster comes of it."""
    result = instance.bootstrap("--expect", "3", "--wait-timeout", "3s", "--log", "bootstrap")
    assert result.returncode == 13
    assert any("level=error" in m or " error " in m for m in events(sandbox, instance, "bootstrap")), events(sandbox, instance, "bootstrap")


def test_records_of_many_lines_fields_of_their_own_and_times(sandbox, instance):
    instance.write("/etc/consul-bootstrap/config.json", json.dumps({
        "log": [
            {"source": "file:/var/log/app.log", "group": "/app", "stream": "{hostname}-{source}", "retention": 14, "multiline-start": "^[0-9]{4}-"},
            {"source": "file:/var/log/trace.log", "multiline-start": "indentation", "stream": "trace"},
            {"source": "file:/var/log/json.log", "timestamp-key": "when", "stream": "json"},
        ],
    }))  # fmt: skip
    now = int(time.time())
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - 60))
    instance.write("/var/log/app.log", f"{stamp} first\nsecond\n  third\n{stamp} next\n")
    instance.write("/var/log/trace.log", "Error: x\n  at a\n\tat b\nError: y\n")
    instance.write("/var/log/json.log", json.dumps({"ts": now, "when": now - 30, "text": 'a "b" \\ \u0001 é'}, ensure_ascii=False) + "\r\n\nlast")
    run = instance.start_bootstrap("sidecar")
    host = f"ip-{instance.address.replace('.', '-')}"
    backend = lambda group, stream: (g := sandbox.aws.log_group(group)) and g.streams.get(stream)
    until(lambda: backend("/app", f"{host}-var/log/app.log") and backend(GROUP, "trace") and backend(GROUP, "json") and len(sandbox.aws.log_events(GROUP, "trace")) == 2 and len(sandbox.aws.log_events("/app", f"{host}-var/log/app.log")) == 2)
    assert sandbox.aws.log_events("/app", f"{host}-var/log/app.log") == [f"{stamp} first\nsecond\n  third", f"{stamp} next"]
    assert backend("/app", f"{host}-var/log/app.log").events[0].timestamp == (now - 60) * 1000
    assert sandbox.aws.log_events(GROUP, "trace") == ["Error: x\n  at a\n\tat b", "Error: y"]
    until(lambda: len(sandbox.aws.log_events(GROUP, "json")) == 2)
    assert json.loads(sandbox.aws.log_events(GROUP, "json")[0])["text"] == 'a "b" \\ \u0001 é' and sandbox.aws.log_events(GROUP, "json")[1] == " "
    assert backend(GROUP, "json").events[0].timestamp == (now - 30) * 1000
    # What is wrong by now changes nothing; then a source more, by SIGHUP.
    instance.write("/etc/consul-bootstrap/config.json", '{"log": "nonsense"}')
    instance.signal_run(signal.SIGHUP)
    time.sleep(0.5)
    instance.write("/var/log/more.log", "1 more\n")
    instance.write("/etc/consul-bootstrap/config.json", json.dumps({"log": ["file:/var/log/more.log", "syslog"]}))
    instance.write("/var/log/syslog", "Jan  2 03:04:05 host prog: hello\n")
    instance.signal_run(signal.SIGHUP)
    until(lambda: events(sandbox, instance, "var/log/more.log") == ["1 more"] and events(sandbox, instance, "syslog"))
    instance.signal_run(signal.SIGTERM)
    output = run.communicate(timeout=15)[0]
    assert "cannot read the options again; going on with the ones before" in output and "must be consul, bootstrap" in output
    assert sandbox.aws.client("logs").describe_log_groups(logGroupNamePrefix="/app")["logGroups"][0]["retentionInDays"] == 14
    assert sandbox.aws.broken_limits == []


def test_what_the_service_refuses_is_kept_and_what_is_stalled_is_said(sandbox, instance):
    old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 20 * 86400))
    ahead = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5 * 3600))
    instance.write("/var/log/app.log", f"{old} too old\n{ahead} a clock of another zone\n1 now\n")
    run = instance.start_bootstrap("sidecar", "--log", "file:/var/log/app.log", "--metrics", "unix:/run/numbers.sock")
    until(lambda: len(events(sandbox, instance, "var/log/app.log")) == 2)
    assert events(sandbox, instance, "var/log/app.log") == [f"{ahead} a clock of another zone", "1 now"]
    letters = [json.loads(line) for line in instance.read("/var/lib/consul-bootstrap/log-dead-letters.jsonl").splitlines()]
    assert [(d["source"], [e["message"] for e in d["events"]]) for d in letters] == [("file:/var/log/app.log", [f"{old} too old"])]
    stream = until(lambda: (s := status(instance)["forwarding"]["streams"]) and s[0]["rejected_events"] == 1 and s[0])
    assert stream["sent_events"] == 2 and stream["lost_lines"] == 0
    scrape = "import socket;s=socket.socket(socket.AF_UNIX);s.connect('/run/numbers.sock');s.sendall(b'GET /metrics HTTP/1.1\\r\\n\\r\\n');print(s.makefile().read())"
    text = until(lambda: (t := instance.run("/usr/bin/python3", "-c", scrape).stdout) and 'sent_events_total{source="file:/var/log/app.log"} 2' in t and t)
    assert "200 OK" in text and 'consul_bootstrap_log_healthy{source="file:/var/log/app.log"} 1' in text and "# TYPE consul_bootstrap_log_lag_seconds gauge" in text
    # A missing permission: parked, said, and seen by a monitor.
    sandbox.aws.faults.append(Fault("denied", action="PutLogEvents"))
    instance.run("sh", "-c", "echo 2 more >> /var/log/app.log")
    check = lambda: instance.bootstrap("status", "--check", "--log", "file:/var/log/app.log")
    until(lambda: (r := check()).returncode == 1 and "file:/var/log/app.log is parked" in r.stdout)
    assert "logs:PutLogEvents" in check().stdout and 'healthy{source="file:/var/log/app.log"} 0' in instance.run("/usr/bin/python3", "-c", scrape).stdout
    # Killed: nobody reports any more.
    instance.signal_run(signal.SIGKILL)
    output = run.communicate(timeout=10)[0]
    assert "CloudWatch Logs refused events" in output and output.count("log forwarding of file:/var/log/app.log waits") == 1
    report = json.loads(instance.read("/var/lib/consul-bootstrap/log-status.json"))
    report["time"] = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 61))
    instance.write("/var/lib/consul-bootstrap/log-status.json", json.dumps(report))
    assert "the sidecar has not reported since" in check().stdout


CHATTER = """#!/bin/sh
# Consul, whose agent writes as fast as it can (and not what it has to say, so that lines can be counted).
[ "$1" = agent ] || exec /usr/bin/consul "$@"
/usr/bin/consul "$@" > /dev/null 2>&1 &
agent=$!
trap 'kill $agent; wait $agent; exit' TERM
[ -e /run/chatter ] && exec python3 -c "
import os, time
number, end = 0, time.time() + 8
while time.time() < end:
    os.write(1, b''.join(b'%d chatter %s\\n' % (n, b'x' * 80) for n in range(number, number + 500)))
    number += 500
open('/run/chattered', 'w').write(str(number))
time.sleep(3600)"
wait $agent
"""


def test_a_child_that_writes_as_fast_as_it_can_while_the_service_is_away(sandbox, instance, capsys):
    """Neither is Consul kept waiting nor does memory grow, and what did not fit is told exactly, where it was."""
    sandbox.aws.faults.append(Fault("5xx", action="PutLogEvents"))
    instance.write("/usr/local/bin/consul", CHATTER, mode=0o755)
    instance.write("/run/chatter", "")
    instance.reboot("#!/bin/sh\nmkdir -p /run; touch /run/chatter\nexec consul-bootstrap --expect 1 --consul /usr/local/bin/consul --log consul --log-queue 8MiB > /dev/null 2>&1\n")
    until(lambda: instance.exists("/run/chattered"), 60, lambda: instance.run("sh", "-c", "ps aux | tail; ls -la /run /var/lib/consul-bootstrap").stdout)
    assert instance.consul("/v1/status/leader")
    written = int(instance.read("/run/chattered"))
    pid = next(line.split()[0] for line in instance.run("sh", "-c", "grep -lx consul-bootstra /proc/[0-9]*/comm | cut -d/ -f3").stdout.splitlines())
    peak = int(next(l for l in instance.run("cat", f"/proc/{pid}/status").stdout.splitlines() if l.startswith("VmHWM")).split()[1]) / 1024
    queue = sum(int(n) for n in instance.run("sh", "-c", "stat -c %s /var/lib/consul-bootstrap/log-queue/*").stdout.split())
    sandbox.aws.faults.clear()
    got = until(lambda: (e := events(sandbox, instance, "consul")) and any(m.startswith(f"{written - 1} chatter") for m in e) and e, 90)
    numbers = [int(m.split()[0]) for m in got if " chatter " in m]
    notices = [int(m.split()[1]) for m in got if m.startswith("consul-bootstrap: ") and "given up" in m]
    stream = until(lambda: (s := status(instance)["forwarding"]["streams"]) and s[0]["behind_bytes"] == 0 and s[0])
    with capsys.disabled():
        print(f"\n{written:,} lines in 8 s ({written / 8:,.0f} a second), {sum(notices):,} given up in {len(notices)} places, peak {peak:.1f} MiB, queue {queue / 1e6:.1f} MB")
    # Every gap is a notice's, and as long as it says.
    next_number = 0
    for message in got:
        if message.startswith("consul-bootstrap: "):
            next_number += int(message.split()[1])
        else:
            assert int(message.split()[0]) == next_number, message[:40]
            next_number += 1
    assert written > 100_000 and peak < 40 and queue < 9.5e6
    assert sum(notices) > 0 and stream["lost_lines"] == sum(notices)
    assert sum(notices) + len(numbers) == written == next_number
    assert sandbox.aws.broken_limits == []


def test_the_unit_is_ready_at_once_watched_confined_and_reloads(sandbox):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    member.write("/etc/consul-bootstrap/config.json", '{"log": ["consul"]}')
    result = member.bootstrap("--expect", "1", timeout=90)
    assert result.returncode == 0, result.stderr
    show = lambda name: member.run("systemctl", "show", "--value", f"--property={name}", "consul-bootstrap").stdout.strip()
    assert (show("Type"), show("WatchdogUSec"), show("ActiveState"), show("NotifyAccess")) == ("notify", "2min", "active", "main")
    until(lambda: show("StatusText") == "monitoring the agent")
    pid = show("MainPID")
    until(lambda: any("New leader elected" in m for m in events(sandbox, member, "consul")))
    # The configuration file is the machine's: it was not copied, and a reload reads it.
    assert "log" not in json.loads(member.read("/var/lib/consul-bootstrap/options.json"))
    member.write("/etc/consul-bootstrap/config.json", '{"log": ["consul", "file:/var/log/app.log"]}')
    member.write("/var/log/app.log", "1 a\n")
    member.run("systemctl", "reload", "consul-bootstrap", check=True)
    until(lambda: events(sandbox, member, "var/log/app.log") == ["1 a"])
    assert show("MainPID") == pid and len([m for m in events(sandbox, member, "consul") if "New leader elected" in m]) == 1
    # A process that hangs is started again.
    member.run("sh", "-c", "mkdir -p /run/systemd/system/consul-bootstrap.service.d; printf '[Service]\nWatchdogSec=2\nRestartSec=0\n' > /run/systemd/system/consul-bootstrap.service.d/w.conf; systemctl daemon-reload; systemctl restart consul-bootstrap", check=True)
    pid = show("MainPID")
    time.sleep(5)
    assert show("MainPID") == pid
    member.run("sh", "-c", f"kill -STOP {pid}", check=True)
    until(lambda: show("MainPID") not in ("0", pid) and show("ActiveState") == "active", 30)
    # With metadata away it is ready all the same: nobody who starts it hangs.
    member.metadata.fail = 10_000
    started = time.time()
    member.run("systemctl", "restart", "consul-bootstrap", check=True)
    assert time.time() - started < 5 and show("ActiveState") == "active"



# A million lines, a third of them for each kind of rotation, one every two and a half seconds, but not while /run/hold is there; /run/rotated is touched after each.
FAST_WRITER = """
import gzip, os, shutil, sys, time
kind, lines = sys.argv[1], int(sys.argv[2])
path, number, last = '/var/log/app.log', 0, time.time()
while number < lines:
    with open(path, 'a') as file: file.writelines(f'{n} ' + 'x' * 80 + '\\n' for n in range(number + 1, min(number + 1000, lines) + 1))
    number = min(number + 1000, lines)
    time.sleep(0.08)
    if time.time() - last > 2.5 and number < lines:
        while os.path.exists('/run/hold'): time.sleep(0.02)
        for old in range(30, 0, -1):
            for end in ('', '.gz'):
                if os.path.exists(f'{path}.{old}{end}'): os.rename(f'{path}.{old}{end}', f'{path}.{old + 1}{end}')
        if kind == 'copytruncate':
            shutil.copyfile(path, path + '.1'); os.truncate(path, 0)
        else:
            os.rename(path, path + '.1')
            if kind == 'compress':
                with open(path + '.1', 'rb') as source, gzip.open(path + '.1.gz', 'wb', 1) as target: shutil.copyfileobj(source, target)
                os.unlink(path + '.1')
        last = time.time()
        open('/run/rotated', 'w').write(str(last))
"""


@pytest.mark.parametrize("kind", ["rename", "copytruncate", "compress"])
def test_a_million_lines_through_rotation_faults_kills_and_an_absence(sandbox, instance, kind, capsys):
    """A third of them for each kind. Every line arrives, in order, and twice only where a kill fell between acceptance and checkpoint."""
    lines = 333_334
    shutil.copyfile(os.path.join(os.path.dirname(__file__), "log_sink.py"), instance.path("/run/log_sink.py"))
    sink = instance.start("/bin/sh", "-c", "echo $$ > /run/sink.pid; exec python3 /run/log_sink.py 9999 /run/sink 0.3 0.1")
    until(lambda: instance.exists("/run/sink.progress"))
    options = ("sidecar", "--log-level", "debug", "--log", "file:/var/log/app.log", "--flush-timeout", "1s")
    start = lambda: instance.start("/usr/bin/env", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=http://127.0.0.1:9999", "/bin/sh", "-c", 'echo $$ > /run/bootstrap.pid; exec "$@" 2>> /run/forwarder.log', "sh", "/usr/local/bin/consul-bootstrap", *options)
    kept = lambda: json.loads(instance.read("/var/lib/consul-bootstrap/log-checkpoints.json"))["file:/var/log/app.log"]
    place = lambda: (kept()["inode"], kept()["offset"])
    status = lambda: json.loads(instance.read("/var/lib/consul-bootstrap/log-status.json"))["streams"]

    def rotation():
        before = instance.read("/run/rotated") if instance.exists("/run/rotated") else ""
        until(lambda: instance.exists("/run/rotated") and instance.read("/run/rotated") not in ("", before))

    run = start()
    writer = instance.start("/usr/bin/python3", "-c", FAST_WRITER, kind, str(lines))
    for _ in range(2):
        rotation()
        time.sleep(0.7)
        # What is compressed before it was read to its end, while nobody looks, is out of reach (README, Limits): not in that moment.
        if kind == "compress":
            instance.write("/run/hold", "")
            until(lambda: place()[0] == str(os.stat(instance.path("/var/log/app.log")).st_ino))
        instance.signal_run(signal.SIGKILL)
        run.communicate(timeout=10)
        os.unlink(instance.path("/var/lib/consul-bootstrap/log-status.json"))
        run = start()
        if kind == "compress":
            until(lambda: instance.exists("/var/lib/consul-bootstrap/log-status.json") and status())
            os.unlink(instance.path("/run/hold"))
    # Away for longer than a rotation takes; what can be found again by its name survives a restart meanwhile, too.
    instance.write("/run/sink.away", "")
    rotation()
    if kind != "compress":
        instance.signal_run(signal.SIGTERM)
        run.communicate(timeout=10)
        run = start()
    rotation()
    os.unlink(instance.path("/run/sink.away"))
    writer.wait(timeout=120)
    # Everything is accepted once the place that is kept is the end of the file.
    end = os.stat(instance.path("/var/log/app.log"))
    until(lambda: place() == (str(end.st_ino), end.st_size), 90, lambda: (place(), end, status(), instance.read("/run/forwarder.log")))
    instance.signal_run(signal.SIGTERM)
    run.communicate(timeout=20)
    output = instance.read("/run/forwarder.log")
    instance.run("sh", "-c", "kill $(cat /run/sink.pid)")
    result = until(lambda: instance.exists("/run/sink") and json.loads(instance.read("/run/sink")))
    sink.wait(timeout=10)
    got = result["numbers"][f"{instance.id}/var/log/app.log"]
    steps_back = [(a, b) for a, b in zip(got, got[1:]) if b != a + 1]
    with capsys.disabled():
        print(f"\n{kind}: {lines:,} lines, {result['calls']} calls, {result['throttled']} throttled, {result['failed']} failed; {len(got) - lines} lines twice, at {len(steps_back)} of 2 kills")
    assert result["refused"] == [] and "lost" not in output, (result["refused"], output[-2000:])
    assert set(got) == set(range(1, lines + 1)), sorted(set(range(1, lines + 1)) - set(got))[:5]
    # In order: a step back is a repetition after a kill, and goes on from there.
    assert len(steps_back) <= 2 and all(b < a for a, b in steps_back), steps_back


# What stands for AWS's agents, which cannot be had here: units that run, and a program that says how it was called.
AGENT_UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


def test_an_external_agent_is_told_started_and_watched(sandbox):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    options = ("--expect", "1", "--log", "file:/var/log/app.log", "--log-group", "/app", "--log-agent-patience", "8s", "--log-agent")
    # Not installed: said, and not the agent's trouble.
    result = member.bootstrap(*options, "awslogs", timeout=90)
    assert result.returncode == 0 and "awslogs is not installed" in result.stderr, result.stderr
    member.write("/etc/systemd/system/awslogsd.service", AGENT_UNIT)
    member.run("systemctl", "daemon-reload", check=True)
    result = member.bootstrap(*options, "awslogs", "--dry-run", timeout=90)
    assert "[/var/log/app.log]" in result.stdout and "/etc/awslogs/config/consul-bootstrap.conf" in result.stdout
    result = member.bootstrap(*options, "awslogs", timeout=90)
    assert result.returncode == 0, result.stderr
    stream = f"{member.id}/var/log/app.log"
    written = member.read("/etc/awslogs/config/consul-bootstrap.conf")
    assert f"file = /var/log/app.log\nlog_group_name = /app\nlog_stream_name = {stream}\n" in written
    assert member.run("systemctl", "is-active", "awslogsd").stdout.strip() == "active"
    # It forwards: all is well. (What it would send is sent for it.)
    logs = sandbox.aws.client("logs")
    logs.create_log_group(logGroupName="/app")
    logs.create_log_stream(logGroupName="/app", logStreamName=stream)

    def line(arrives):
        now = time.time()
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ line", time.gmtime(now))
        member.run("sh", "-c", f"echo '{text}' >> /var/log/app.log", check=True)
        if arrives:
            logs.put_log_events(logGroupName="/app", logStreamName=stream, logEvents=[{"timestamp": int(now) * 1000, "message": text}])

    line(arrives=True)
    agent = lambda: status(member)["forwarding"]["agent"]
    until(lambda: (a := agent()) and a["running"] and a["streams"][0]["last_event"] == a["streams"][0]["last_line"] is not None, 30, agent)
    assert member.bootstrap("status", "--check").returncode == 0
    # Its lines do not arrive any more.
    time.sleep(1.1)
    line(arrives=False)
    check = lambda: member.bootstrap("status", "--check")
    until(lambda: (r := check()).returncode == 1 and "file:/var/log/app.log is stalled: /app" in r.stdout, 40, lambda: check().stdout + str(agent()))
    assert "log forwarding: file:/var/log/app.log is stalled" in member.run("journalctl", "-u", "consul-bootstrap", "--no-pager").stdout
    time.sleep(1.1)
    line(arrives=True)
    until(lambda: check().returncode == 0, 30)
    member.run("systemctl", "stop", "awslogsd", check=True)
    until(lambda: "awslogs does not run" in check().stdout, 30)
    # The other one.
    control = "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"
    member.write(control, '#!/bin/sh\necho "$@" > /run/called; systemctl start amazon-cloudwatch-agent\n', mode=0o755)
    member.write("/etc/systemd/system/amazon-cloudwatch-agent.service", AGENT_UNIT)
    member.run("systemctl", "daemon-reload", check=True)
    result = member.bootstrap(*options, "amazon-cloudwatch-agent", "--log-retention", "7", "--multiline-start", "^[0-9]", timeout=90)
    assert result.returncode == 0, result.stderr
    assert member.read("/run/called").strip() == "-a append-config -m ec2 -s -c file:/var/lib/consul-bootstrap/amazon-cloudwatch-agent.json"
    entry = json.loads(member.read("/var/lib/consul-bootstrap/amazon-cloudwatch-agent.json"))["logs"]["logs_collected"]["files"]["collect_list"][0]
    assert entry == {"file_path": "/var/log/app.log", "log_group_name": "/app", "log_stream_name": stream, "retention_in_days": 7, "multi_line_start_pattern": "^[0-9]"}
    until(lambda: check().returncode == 0, 30, lambda: check().stdout)
