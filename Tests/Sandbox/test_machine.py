"""One machine: what is written and what is kept, on a first run, a second run, after a kill, and with foreign data."""

import json
import os
import random
import signal
import stat
import subprocess
import time

import pytest

from .aws import Fault
from .conftest import healthy
from .waiting import TIMEOUT, until

ONE = ["--expect", "1"]
CONFIGURATION = "/etc/consul.d/00-consul-bootstrap.json"


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul")
    return sandbox.launch(group="consul")


def snapshot(instance):
    """Every file that the instance has written, with its bytes' time, owner and mode."""
    found = {}
    upper = os.path.join(instance.directory, "upper")
    for directory, _, files in os.walk(upper):
        for name in files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            found[os.path.relpath(path, upper)] = (status.st_mtime_ns, status.st_mode, status.st_uid, status.st_size)
    return found


def processes(instance):
    return sorted(line for line in instance.run("ps", "-eo", "args=").stdout.splitlines() if "ps -eo" not in line)


def test_a_second_run_touches_nothing(instance):
    assert instance.bootstrap(*ONE, "--start", "none").returncode == 0
    before = snapshot(instance)
    result = instance.bootstrap(*ONE, "--start", "none")
    assert result.returncode == 0
    after = snapshot(instance)
    lock = "var/lib/consul-bootstrap/lock"
    before.pop(lock), after.pop(lock)
    assert after == before


@pytest.mark.parametrize("user", [None, 1000])
def test_a_dry_run_changes_nothing(sandbox, instance, user):
    before, running = snapshot(instance), processes(instance)
    sandbox.aws.calls.clear()
    result = instance.bootstrap("--dry-run", *ONE, user=user)
    assert result.returncode == 0, result.stderr
    assert snapshot(instance) == before
    assert processes(instance) == running
    assert {call["action"] for call in sandbox.aws.calls} == {
        "DescribeAutoScalingGroups",
        "DescribeAutoScalingInstances",
        "DescribeInstances",
    }
    assert "a new cluster, bootstrap_expect 1" in result.stdout and "Nothing was changed." in result.stdout
    data = json.loads(instance.bootstrap("--dry-run", "--json", *ONE, user=user).stdout)
    assert data["decision"]["name"] == "new cluster" and data["configuration"]["bootstrap_expect"] == 1
    assert data["group"]["instances"][0]["eligible"] is True


def test_a_dry_run_writes_no_file_and_starts_nothing_but_consul_version(instance):
    """By its system calls, not only by its files."""
    trace = "/tmp/trace"
    instance.run(
        "strace",
        "-f",
        "-qq",
        "-o",
        trace,
        "-e",
        "trace=openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,execve,sethostname,chmod,"
        "fchmod,chown,fchown",
        "/usr/local/bin/consul-bootstrap",
        "--dry-run",
        *ONE,
        check=True,
    )
    calls = instance.run("cat", trace).stdout.splitlines()
    ours = [line for line in calls if "ENOENT" not in line]
    writes = [
        line
        for line in ours
        if ("O_WRONLY" in line or "O_RDWR" in line or "O_CREAT" in line)
        and "/dev/null" not in line
        and "/proc/self" not in line
        and "/tmp/consul-test" not in line
    ]
    assert writes == []
    # `consul version` writes a test file to its temporary directory.
    ours = [line for line in ours if "/tmp/consul-test" not in line]
    assert not [
        line
        for line in ours
        if any(
            f" {call}(" in line
            for call in ("mkdir", "mkdirat", "rename", "renameat", "unlink", "sethostname", "chown", "fchown")
        )
    ]
    # A call that another thread's interrupts stands in two lines, the first without its result.
    programs = {line.split('"')[1] for line in ours if " execve(" in line and "= -1" not in line}
    # `consul version` runs getconf.
    assert programs - {"/usr/bin/getconf"} == {"/usr/local/bin/consul-bootstrap", "/usr/bin/consul"}
    assert not [line for line in ours if "agent" in line and "execve" in line]


def test_a_dry_run_on_an_instance_outside_any_group(sandbox):
    members = sandbox.launch_group(3, boot=False)
    outsider = sandbox.launch(tags={"Name": "by-hand"})
    result = outsider.bootstrap("--dry-run")
    assert (
        result.returncode == 13 and "belongs to no Auto Scaling group" in result.stderr and "--group" in result.stderr
    )
    result = outsider.bootstrap("--dry-run", "--group", "consul")
    assert result.returncode == 0
    for member in members:
        assert member.id in result.stdout
    assert "this instance is not listed" in result.stdout
    result = outsider.bootstrap("--dry-run", "--tag", "Name=consul", "--expect", "3")
    assert result.returncode == 0 and "3 of 3 are eligible" in result.stdout


def test_the_plan_is_what_a_run_does(instance):
    plan = json.loads(instance.bootstrap("--dry-run", "--json", *ONE, "--start", "none").stdout)
    assert instance.bootstrap(*ONE, "--start", "none").returncode == 0
    assert instance.configuration == plan["configuration"]
    again = instance.bootstrap("--dry-run", *ONE, "--start", "none").stdout
    assert "unchanged" in again
    changed = instance.bootstrap("--dry-run", *ONE, "--start", "none", "--raft-multiplier", "5").stdout
    assert '-     "raft_multiplier": 1' in changed and '+     "raft_multiplier": 5' in changed


def test_merge_and_set_lie_over_the_configuration_and_secrets_stay_hidden(instance):
    secret = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
    directory = instance.path("/root")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "more.json"), "w") as file:
        json.dump({"encrypt": secret, "ports": {"dns": 53}, "acl": {"tokens": {"agent": "top-secret-token"}}}, file)
    options = [
        *ONE,
        "--start",
        "none",
        "--merge",
        "/root/more.json",
        "--set",
        "ports.grpc=8502",
        "--set",
        "leave_on_terminate=null",
        "--log-level",
        "debug",
    ]
    dry = instance.bootstrap("--dry-run", *options)
    asjson = instance.bootstrap("--dry-run", "--json", *options)
    run = instance.bootstrap(*options)
    assert run.returncode == 0, run.stderr
    assert instance.configuration["ports"] == {"dns": 53, "grpc": 8502}
    assert instance.configuration["encrypt"] == secret and "leave_on_terminate" not in instance.configuration
    for text in (dry.stdout, dry.stderr, asjson.stdout, asjson.stderr, run.stdout, run.stderr):
        assert secret not in text and "top-secret-token" not in text
    assert "(redacted)" in dry.stdout
    # Also when it is the old content of the file.
    dry = instance.bootstrap("--dry-run", *ONE, "--start", "none")
    assert secret not in dry.stdout and "(redacted)" in dry.stdout
    assert not instance.exists("/var/lib/consul-bootstrap/staged.json")


def test_what_consul_rejects_replaces_nothing(instance):
    assert instance.bootstrap(*ONE, "--start", "none").returncode == 0
    before = instance.read(CONFIGURATION)
    result = instance.bootstrap(*ONE, "--start", "none", "--set", "no_such_key=1")
    assert result.returncode == 14
    assert "Consul rejects the configuration" in result.stderr and "no_such_key" in result.stderr
    assert instance.read(CONFIGURATION) == before
    # Together with the rest of the directory: an error in another file is found, too.
    with open(instance.path("/etc/consul.d/zz.json"), "w") as file:
        file.write('{"nonsense": true}')
    result = instance.bootstrap(*ONE, "--start", "none", "--raft-multiplier", "2")
    assert result.returncode == 14 and "nonsense" in result.stderr
    assert instance.read(CONFIGURATION) == before


def test_a_baked_bootstrap_expect_is_refused(instance):
    os.makedirs(instance.path("/etc/consul.d"), exist_ok=True)
    with open(instance.path("/etc/consul.d/server.hcl"), "w") as file:
        file.write("server = true\nbootstrap_expect = 3\n")
    result = instance.bootstrap(*ONE, "--start", "none")
    assert result.returncode == 14 and "server.hcl sets bootstrap" in result.stderr
    assert not instance.exists(CONFIGURATION)


def bake(instance, record="i-0baked"):
    """State of an image that was created after Consul had run."""
    os.makedirs(instance.path("/opt/consul/raft"), exist_ok=True)
    with open(instance.path("/opt/consul/node-id"), "w") as file:
        file.write("6b84aa7d-70d1-66c3-3863-311fe84accc5")
    if record:
        os.makedirs(instance.path("/var/lib/consul-bootstrap"), exist_ok=True)
        with open(instance.path("/var/lib/consul-bootstrap/instance.json"), "w") as file:
            json.dump({"instance_id": record}, file)


@pytest.mark.parametrize("record", ["i-0baked", None])
def test_data_baked_into_the_image_is_moved_aside(instance, record):
    bake(instance, record)
    result = instance.bootstrap(*ONE, "--start", "none")
    assert result.returncode == 0, result.stderr
    aside = [
        name for name in os.listdir(instance.path("/opt")) if name.startswith(f"consul.{record or 'unknown-instance'}.")
    ]
    assert len(aside) == 1 and "it is renamed to" in result.stderr
    assert os.path.exists(instance.path(f"/opt/{aside[0]}/node-id"))
    assert not instance.exists("/opt/consul/node-id")
    status = os.stat(instance.path("/opt/consul"))
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (8500, 0o750)
    # It belongs to this instance now.
    with open(instance.path("/opt/consul/node-id"), "w") as file:
        file.write("new")
    assert instance.bootstrap(*ONE, "--start", "none").returncode == 0
    assert instance.exists("/opt/consul/node-id")


def test_data_is_kept_on_request_and_on_a_mount_of_its_own(instance):
    bake(instance)
    assert instance.bootstrap(*ONE, "--start", "none", "--keep-data").returncode == 0
    assert instance.exists("/opt/consul/node-id")
    bake(instance)
    instance.run(
        "sh", "-c", "mkdir /tmp/data && cp -a /opt/consul/. /tmp/data && mount --bind /tmp/data /opt/consul", check=True
    )
    result = instance.bootstrap(*ONE, "--start", "none", "--dry-run", "--log-level", "debug")
    assert result.returncode == 0 and "rename /opt/consul to" not in result.stdout
    instance.run("umount", "/opt/consul")


def test_two_runs_at_once(sandbox, instance):
    sandbox.aws.set_desired("consul", 3)
    first = instance.start_bootstrap("--expect", "3")
    # Created, locked, and then written.
    until(lambda: instance.exists("/var/lib/consul-bootstrap/lock") and instance.read("/var/lib/consul-bootstrap/lock"))
    second = instance.bootstrap(*ONE, "--start", "none")
    assert second.returncode == 17, f"{second.stderr}the first: {first.poll()} {first.output}"
    assert "another consul-bootstrap is running" in second.stderr and "this run has changed nothing" in second.stderr
    assert not instance.exists(CONFIGURATION)
    assert first.signal(signal.SIGTERM)
    assert first.wait(TIMEOUT) == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_waiting_run_within_a_second(sandbox, instance, number):
    sandbox.aws.set_desired("consul", 3)
    run = instance.start_bootstrap("--expect", "3")
    until(lambda: "waiting for the group" in run.output)
    sent = time.monotonic()
    assert run.signal(number)
    assert run.wait(TIMEOUT) == 128 + number
    # A second, on an idle machine; this one may be busy. The wait itself would go on for minutes.
    assert time.monotonic() - sent < 10


def test_a_signal_ends_a_run_in_hanging_metadata_and_hanging_aws(sandbox, instance):
    instance.metadata.hang_token = True
    instance.metadata.requests.clear()
    run = instance.start_bootstrap(*ONE)
    until(lambda: instance.metadata.requests)
    assert run.signal(signal.SIGTERM) and run.wait(TIMEOUT) == 143
    instance.metadata.hang_token = False
    sandbox.aws.faults.append(Fault("hang"))
    run = instance.start_bootstrap(*ONE)
    until(lambda: sandbox.aws.calls)
    assert run.signal(signal.SIGTERM) and run.wait(TIMEOUT) == 143


def test_a_run_killed_at_any_point_ends_in_the_same_place(sandbox, instance):
    """kill -9 after a random time, again and again; then a run that is left alone."""
    generator = random.Random(5)
    for _ in range(25):
        run = instance.start_bootstrap(*ONE, "--hostname", "consul-{instance_suffix}")
        time.sleep(generator.uniform(0.01, 0.5))
        run.signal(signal.SIGKILL)
        run.wait(TIMEOUT)
        # No partial file, and no orphan: the agent ends with its supervisor.
        if instance.exists(CONFIGURATION):
            assert instance.configuration["server"] is True
        until(lambda: not any("consul agent" in line for line in processes(instance)))
    instance.reboot(f"#!/bin/sh\nexec consul-bootstrap {' '.join(ONE)} --hostname consul-{{instance_suffix}}\n")
    healthy(instance)
    leftovers = [name for name in os.listdir(instance.path("/etc/consul.d")) if name.endswith(".tmp")]
    assert leftovers == [] and not instance.exists("/var/lib/consul-bootstrap/staged.json")


def test_a_full_disk_and_a_read_only_directory(instance):
    assert instance.bootstrap(*ONE, "--start", "none").returncode == 0
    before = instance.read(CONFIGURATION)
    # A directory that is full for everything but what is in it already.
    instance.run(
        "sh",
        "-c",
        "mkdir -p /tmp/full && mount -t tmpfs -o size=16k tmpfs /tmp/full && head -c 12288 /dev/zero > /tmp/full/zero",
        check=True,
    )
    result = instance.bootstrap(
        *ONE,
        "--start",
        "none",
        "--config-dir",
        "/tmp/full",
        "--set",
        f'http_config.response_headers.X-Filler="{"x" * 8000}"',
    )
    assert (
        result.returncode == 14
        and "No space left" in result.stderr
        and "free space on the file system" in result.stderr
    )
    assert instance.run("ls", "-A", "/tmp/full").stdout.split() == ["zero"]
    instance.run("sh", "-c", "mkdir -p /tmp/ro && mount -t tmpfs -o ro tmpfs /tmp/ro", check=True)
    result = instance.bootstrap(*ONE, "--start", "none", "--config-dir", "/tmp/ro")
    assert result.returncode == 14 and "read-only" in result.stderr.lower()
    assert instance.read(CONFIGURATION) == before


def test_a_consul_that_is_missing_not_executable_or_crashes(instance):
    for options, words in (
        (["--consul", "/nowhere/consul"], "there is no Consul at /nowhere/consul"),
        (["--consul", "/etc/passwd"], "is not executable"),
    ):
        result = instance.bootstrap(*ONE, *options)
        assert result.returncode == 15 and words in result.stderr
        assert not instance.exists(CONFIGURATION)
    break_consul(instance)
    result = instance.bootstrap(*ONE, "--consul", "/usr/local/bin/broken-consul")
    assert result.returncode == 15
    assert (
        "the Consul agent does not start: it crashed 3 times" in result.stderr
        and "the disk is on fire" in result.stderr
    )


def test_a_signal_ends_the_pause_between_a_crash_and_the_next_start(instance):
    break_consul(instance)
    run = instance.start_bootstrap(*ONE, "--consul", "/usr/local/bin/broken-consul")
    # The second pause takes two seconds; after it the agent would be started once more, and the run end with status 15.
    until(lambda: run.output.count("the agent crashed") == 2, lambda: run.output, every=0.01)
    assert run.signal(signal.SIGTERM)
    output = run.finish()
    assert run.returncode == 1, output  # the agent's own status
    assert output.count("the agent crashed") == 2


def break_consul(instance):
    """A Consul that prints its version and accepts every configuration, but does not run."""
    script = instance.path("/usr/local/bin/broken-consul")
    os.makedirs(os.path.dirname(script), exist_ok=True)
    with open(script, "w") as file:
        file.write(
            '#!/bin/sh\n[ "$1" = version ] && exec echo "Consul v1.8.7"\n[ "$1" = validate ] && exit 0\necho "==> '
            "Error: the disk is on "
            'fire"\n'
            "exit "
            "1\n"
        )
    os.chmod(script, 0o755)


def test_an_agent_that_never_becomes_healthy_is_reported_with_what_is_missing(sandbox, instance):
    # Two expected, the second one never comes up.
    sandbox.launch(group="consul", boot=False)
    result = instance.bootstrap("--expect", "2", "--verify-timeout", "3s")
    assert result.returncode == 16
    assert "the agent knows no leader" in result.stderr and "[INFO]" in result.stderr and "hint:" in result.stderr
    assert not any("consul agent" in line for line in processes(instance))


def test_the_supervised_agent_is_restarted_after_a_crash_and_its_leave_is_final(instance):
    instance.reboot("#!/bin/sh\nexec consul-bootstrap --expect 1\n")
    healthy(instance)
    # A dry run beside it explains what a run would reload.
    look = instance.bootstrap("--dry-run")
    assert (
        look.returncode == 0
        and "rejoin with the state on this machine" in look.stdout
        and "reload the agent and its supervisor, process " in look.stdout
    )
    first = instance.run("pgrep", "-x", "consul").stdout.strip()
    instance.run("sh", "-c", f"kill -9 {first}", check=True)
    until(lambda: (pid := instance.run("pgrep", "-x", "consul").stdout.strip()) and pid != first and pid)
    assert "the agent crashed; restarting it" in instance.log
    until(lambda: instance.consul("/v1/status/leader"))
    instance.run("consul", "leave")
    until(lambda: instance.status is not None)
    assert instance.status == 0 and instance.run("pgrep", "-x", "consul").stdout == ""


def test_systemd_runs_reboots_and_stops_the_agent(sandbox):
    """Real systemd, booted inside the instance's network."""
    sandbox.aws.create_group("consul")
    members = [sandbox.launch(group="consul", boot=False, systemd=True) for _ in range(3)]
    for member in members:
        member.boot()
    runs = [member.start("/usr/local/bin/consul-bootstrap", "--expect", "3") for member in members]
    for run in runs:
        output = run.finish()
        assert run.returncode == 0, output
        assert "healthy leader=" in output
    member = members[0]

    def show(name):
        return member.run("systemctl", "show", "--value", f"--property={name}", "consul").stdout.strip()

    def voters(member):
        text = member.run("consul", "operator", "raft", "list-peers").stdout
        return sum("true" in line for line in text.splitlines()[1:])

    assert (
        show("ActiveState") == "active" and member.run("systemctl", "is-enabled", "consul").stdout.strip() == "enabled"
    )
    verified = member.run("systemd-analyze", "verify", "--recursive-errors=no", "/etc/systemd/system/consul.service")
    assert verified.returncode == 0 and "consul.service" not in verified.stderr, verified.stderr
    # Again: nothing to do, the agent is not touched.
    pid = show("MainPID")
    again = member.bootstrap("--expect", "3")
    assert again.returncode == 0 and show("MainPID") == pid, again.stderr
    # A kill is a crash: started again after a moment.
    member.run("sh", "-c", f"kill -9 {pid}", check=True)
    until(lambda: show("ActiveState") == "active" and show("MainPID") not in ("0", pid))
    until(lambda: voters(members[1]) == 3)
    # A stop is a graceful leave, not cut off, and not undone.
    assert member.run("systemctl", "stop", "consul").returncode == 0
    assert show("Result") == "success" and show("ExecMainStatus") == "0"
    until(lambda: voters(members[1]) == 2)
    # Neither a pause before a start, nor a start that is queued.
    assert (show("ActiveState"), show("SubState"), show("Job")) == ("inactive", "dead", "")
    assert member.run("systemctl", "start", "consul").returncode == 0
    until(lambda: voters(members[1]) == 3)
    # A reboot: systemd starts the agent, which rejoins; a run of ours finds all done.
    member.power_off()
    member.boot()
    until(lambda: voters(members[1]) == 3)
    result = member.bootstrap("--expect", "3")
    assert result.returncode == 0 and "decision: rejoin" in result.stderr, result.stderr


def test_a_bad_start_under_systemd_is_not_final(sandbox):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", systemd=True)
    # The port of the agent's raft is taken, so that it dies at once.
    taken = subprocess.Popen(
        [
            "nsenter",
            "--net=/run/netns/" + member.namespace,
            "python3",
            "-c",
            f"import socket,time;s=socket.socket();s.bind(('{member.address}',8300));s.listen();print('up',"
            "flush=True);"
            "time.sleep(3600)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert taken.stdout.readline() == "up\n"
        result = member.bootstrap("--expect", "1", "--verify-timeout", "40s")
        assert result.returncode == 15, result.stderr
        assert "does not start" in result.stderr and "address already in use" in result.stderr
        taken.kill()
        until(lambda: member.bootstrap("--expect", "1").returncode == 0)
    finally:
        taken.kill()
        taken.wait()
        taken.stdout.close()
