"""Bad input and faults: a clear error, the documented exit status, no loss."""

import json
import os
import time

import pytest

from .aws import Fault
from .waiting import until

ONE = ["--expect", "1", "--start", "none"]
# Of what is not there in the first minutes a run waits for a minute and a half, but no longer than for its group.
BRIEFLY = [*ONE, "--wait-timeout", "1s"]


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul")
    return sandbox.launch(group="consul")


def fails(result, status, *words):
    assert result.returncode == status, result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    assert "consul-bootstrap: error: " in result.stderr


def test_no_metadata(instance):
    instance.metadata.disabled = True
    fails(instance.bootstrap(*ONE), 10, "HTTP 403", "metadata options")
    instance.metadata.disabled = False
    instance.run("ip", "addr", "del", "169.254.169.254/32", "dev", "lo", check=True)
    fails(instance.bootstrap(*BRIEFLY), 10, "no instance metadata service answers", "hint:")


def test_metadata_that_hangs_names_the_hop_limit(instance):
    instance.metadata.hang_token = True
    # The service never answers: that the run ends at all is its own timeout.
    fails(instance.bootstrap(*ONE), 10, "hop limit", "HttpPutResponseHopLimit")


def test_metadata_over_ipv6_slow_failing_and_with_short_lived_tokens(instance):
    instance.metadata.fail = 2
    assert instance.bootstrap(*ONE).returncode == 0 and instance.metadata.fail == 0
    instance.metadata.slow = 0.3
    assert instance.bootstrap(*ONE).returncode == 0
    instance.metadata.slow = 0
    instance.metadata.expire_tokens = True
    result = instance.bootstrap(*ONE)
    assert result.returncode == 0, result.stderr
    instance.metadata.expire_tokens = False
    instance.run("ip", "addr", "del", "169.254.169.254/32", "dev", "lo", check=True)
    assert instance.bootstrap(*ONE, environment={"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}).returncode == 0


@pytest.mark.parametrize("fault", ["throttle", "fail"])
def test_metadata_that_refuses_in_the_first_minute_is_waited_for(instance, fault):
    # More than the attempts of one request.
    setattr(instance.metadata, fault, 20)
    run = instance.start_bootstrap(*ONE)
    output = run.finish()
    assert run.returncode == 0 and getattr(instance.metadata, fault) == 0, output
    assert output.count("cannot read this instance's metadata yet; retrying") == 1, output


def test_metadata_that_is_not_there_yet_is_waited_for(instance):
    instance.metadata.away = True
    run = instance.start_bootstrap(*ONE)
    until(lambda: "cannot read this instance's metadata yet; retrying" in run.output, lambda: run.output)
    instance.metadata.away = False
    output = run.finish()
    assert run.returncode == 0, output


def test_an_instance_without_an_ipv4_address(instance):
    path = "/latest/dynamic/instance-identity/document"
    document = json.loads(instance.metadata.documents[path])
    for address in ({}, {"privateIp": None}):
        instance.metadata.documents[path] = json.dumps(
            {k: v for k, v in document.items() if k != "privateIp"} | address
        )
        fails(instance.bootstrap(*ONE), 10, "IPv4", "hint:")


def test_metadata_of_version_1_only_with_permission(instance):
    instance.metadata.version1_only = True
    fails(instance.bootstrap(*ONE), 10, "no IMDSv2 token", "--imdsv1")
    result = instance.bootstrap(*ONE, "--imdsv1")
    assert result.returncode == 0 and "falling back to IMDSv1" in result.stderr


def test_no_role(instance):
    instance.metadata.no_role = True
    fails(instance.bootstrap(*BRIEFLY), 11, "this instance has no role", "instance profile")


def test_what_a_new_instance_does_not_have_yet_is_waited_for(sandbox, instance):
    instance.metadata.no_role = True
    run = instance.start_bootstrap(*ONE)
    until(lambda: "this instance has no role" in run.output)
    instance.metadata.no_role = False
    output = run.finish()
    assert run.returncode == 0 and output.count("warning cannot find the Auto Scaling group of this instance yet") == 1
    for action in ("DescribeAutoScalingInstances", "DescribeInstances"):
        sandbox.aws.faults[:] = [Fault("denied", action, times=2)]
        result = instance.bootstrap(*ONE)
        assert result.returncode == 0 and "access denied" not in result.stderr, result.stderr
        assert "yet; retrying" in result.stderr


def test_other_credentials(sandbox, instance):
    key, secret = sandbox.aws.admin
    instance.metadata.no_role = True
    assert (
        instance.bootstrap(*ONE, environment={"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}).returncode
        == 0
    )
    with open(instance.path("/tmp/credentials"), "w") as file:
        file.write(f"[web]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    profile = {"AWS_PROFILE": "web", "AWS_SHARED_CREDENTIALS_FILE": "/tmp/credentials"}
    assert instance.bootstrap(*ONE, environment=profile).returncode == 0
    # A wrong secret: moto checks signatures.
    wrong = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "x" + secret[1:]}
    result = instance.bootstrap(*ONE, environment=wrong)
    fails(result, 12, "the signature was refused")
    assert secret[1:] not in result.stderr


@pytest.mark.parametrize("action", ["DescribeAutoScalingInstances", "DescribeAutoScalingGroups", "DescribeInstances"])
def test_a_denied_action_is_named_with_the_role(sandbox, instance, action):
    """By moto's own check of the role's policy."""
    iam = sandbox.aws.client("iam")
    service = "ec2" if action == "DescribeInstances" else "autoscaling"
    deny = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": f"{service}:{action}", "Resource": "*"}]}
    )
    iam.put_role_policy(RoleName="consul-server", PolicyName="deny", PolicyDocument=deny)
    try:
        fails(instance.bootstrap(*BRIEFLY), 12, "access denied", f"allow {service}:{action} for role consul-server")
    finally:
        iam.delete_role_policy(RoleName="consul-server", PolicyName="deny")
    assert instance.bootstrap(*ONE).returncode == 0


def test_an_unknown_group_names_the_groups_there_are(sandbox, instance):
    sandbox.aws.create_group("vault")
    fails(
        instance.bootstrap(*ONE, "--group", "consu"),
        12,
        "there is no Auto Scaling group consu in eu-west-1",
        "consul, vault",
        "did you mean --group 'consul'?",
    )


def test_a_group_that_never_fills(sandbox, instance):
    sandbox.aws.set_desired("consul", 3)
    fails(
        instance.bootstrap("--wait-timeout", "3s"),
        13,
        "the group was not complete after",
        "1 of 3 servers",
        "2 not launched yet",
        "--wait-timeout",
    )


def measured(instance, *options, **keywords):
    """A run, and the most memory that it had, in MiB."""
    script = (
        "import resource, subprocess, sys; status = subprocess.run(sys.argv[1:]).returncode; "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
    )
    result = instance.run("/usr/bin/python3", "-c", script, "/usr/local/bin/consul-bootstrap", *options, **keywords)
    return result, int(result.stdout.split()[-1]) / 1024


@pytest.mark.parametrize("kind", ["malformed", "html", "truncated", "bomb", "endless"])
def test_malformed_answers(sandbox, instance, kind):
    sandbox.aws.faults.append(Fault(kind, "DescribeInstances"))
    result, peak = measured(instance, *ONE, "--wait-timeout", "2s", environment={"AWS_MAX_ATTEMPTS": "2"})
    fails(result, 12, "EC2 DescribeInstances")
    # A bomb of entities and an answer of 2 GB do not fill the memory. (Consul, asked for its version, takes 40 MiB.)
    assert peak < (160 if kind == "endless" else 80), peak
    # Once, and then valid answers: the run retries.
    sandbox.aws.faults.clear()
    sandbox.aws.faults.append(Fault(kind, "DescribeInstances", times=1))
    if kind != "endless":
        assert instance.bootstrap(*ONE).returncode == 0


@pytest.mark.parametrize("kind", ["throttle", "5xx"])
def test_throttling_and_5xx_only_slow_a_boot_down(sandbox, instance, kind):
    for action in ("DescribeAutoScalingInstances", "DescribeAutoScalingGroups", "DescribeInstances"):
        sandbox.aws.faults.append(Fault(kind, action, times=2))
    result = instance.bootstrap(*ONE, "--log-level", "debug")
    assert result.returncode == 0, result.stderr
    # Every failed attempt is visible.
    assert result.stderr.count("debug AWS call failed") >= 6
    assert all(fault.times == 0 for fault in sandbox.aws.faults)


def test_throttling_beyond_the_attempts_is_waited_out(sandbox, instance):
    sandbox.aws.faults.append(Fault("throttle", "DescribeInstances", times=4))
    result = instance.bootstrap(*ONE, environment={"AWS_MAX_ATTEMPTS": "2"})
    assert result.returncode == 0 and "cannot describe Auto Scaling group" in result.stderr


def test_credentials_that_expire_in_the_middle_of_a_wait(sandbox, instance):
    sandbox.aws.set_desired("consul", 2)
    run = instance.start_bootstrap("--expect", "2", "--start", "none", "--log-level", "debug")
    until(lambda: len(sandbox.aws.calls) >= 4)
    old = instance.metadata.current_credentials()["AccessKeyId"]
    instance.metadata.rotate()
    sandbox.aws.expired_keys.add(old)
    sandbox.launch(group="consul", boot=False)
    output = run.finish()
    assert run.returncode == 0, output
    assert "renewing the credentials" in output
    assert sandbox.aws.calls[-1]["key"] != old


@pytest.mark.parametrize("offset", [1800, -86400])
def test_a_wrong_clock_is_corrected_for(sandbox, instance, offset):
    sandbox.aws.clock_offset = offset
    result = instance.bootstrap(*ONE)
    assert result.returncode == 0, result.stderr
    assert "this machine's clock is wrong" in result.stderr


def test_new_instances_that_ec2_does_not_know_yet(sandbox):
    sandbox.aws.create_group("consul", desired=2)
    first = sandbox.launch(group="consul", hidden_for=3600)
    sandbox.launch(group="consul", hidden_for=3600, boot=False)
    run = first.start_bootstrap("--expect", "2", "--start", "none")
    until(lambda: "not known to EC2 yet" in run.output)
    assert run.poll() is None
    sandbox.aws.hidden.clear()
    assert run.finish() and run.returncode == 0, run.output


def test_a_partitioned_instance_reports_that_aws_is_unreachable(sandbox, instance):
    sandbox.network.set_link(instance.port, up=False)
    result = instance.bootstrap(*ONE, "--wait-timeout", "2s", environment={"AWS_MAX_ATTEMPTS": "1"})
    fails(result, 12, "no answer", "NAT gateway or a VPC endpoint")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--exepct", "5"], "did you mean --expect?"),
        (["--merge", "/nowhere.json"], "cannot read the file of --merge"),
        (["--user", "absent-user"], "there is no user absent-user"),
        (["--hostname", "bad_{instance_id}"], "is not a host name"),
    ],
)
def test_wrong_options(instance, options, words):
    fails(instance.bootstrap(*ONE, *options), 2, words)


def test_environment_variables_are_options_too(instance):
    result = instance.bootstrap(
        "--dry-run",
        environment={
            "CONSUL_BOOTSTRAP_EXPECT": "1",
            "CONSUL_BOOTSTRAP_DATACENTER": "dublin",
            "CONSUL_BOOTSTRAP_UI": "true",
        },
    )
    assert result.returncode == 0 and '"datacenter": "dublin"' in result.stdout and '"ui": true' in result.stdout
    os.makedirs(instance.path("/etc/consul-bootstrap"), exist_ok=True)
    with open(instance.path("/etc/consul-bootstrap/config.json"), "w") as file:
        file.write('{"expect": 1, "datacenter": "cork", "dry-run": true}')
    assert '"datacenter": "cork"' in instance.bootstrap().stdout


def test_unreachable_peers_do_not_delay_a_boot(sandbox):
    """An address that never answers counts as unknown, after a timeout."""
    members = sandbox.launch_group(3, boot=False)
    for member in members[:2]:
        member.boot()
    sandbox.network.set_link(members[2].port, up=False)
    started = time.monotonic()
    result = members[0].bootstrap("--dry-run")
    # Not as long as the kernel tries to connect, which is two minutes.
    assert result.returncode == 0 and time.monotonic() - started < 60
    silent = ("no connection in time", "host unreachable")
    assert any(f"unknown, port 8300: {words}" in result.stdout for words in silent), result.stdout
