"""Secrets: their sources, their creation, and that they appear nowhere else."""

import base64
import json
import os
import stat
import subprocess

import pytest

from .aws import Fault
from .conftest import healthy, peers
from .waiting import until

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()
TOKEN = "1dbd9e0c-7b5c-4f3c-9f5a-0123456789ab"


def ssm(sandbox, name, value):
    sandbox.aws.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


def everything_seen(member):
    """Logs, command lines, environments, plans, world-readable files and core files of an instance, as one text."""
    script = """
    cat /var/log/cloud-init-output.log
    cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'
    find /etc/consul.d /etc/systemd/system /var/lib/consul-bootstrap /opt/consul /run /tmp /var/log \\
      -xdev -type f -perm -004 -exec cat {} +
    find / /root -maxdepth 1 -name 'core*' -type f -exec cat {} +
    """
    return member.run("sh", "-c", script).stdout


def certificates(directory):
    """A CA, and a certificate that is good for servers and clients of dc1."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
        "req",
        "-x509",
        *curve,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "30",
        "-subj",
        "/CN=Consul CA",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
    )
    openssl("req", *curve, "-keyout", "agent.key", "-out", "agent.csr", "-subj", "/CN=server.dc1.consul")
    with open(os.path.join(directory, "agent.ext"), "w") as file:
        file.write(
            "subjectAltName=DNS:server.dc1.consul,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
    openssl(
        "x509",
        "-req",
        "-in",
        "agent.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "agent.pem",
        "-days",
        "30",
        "-extfile",
        "agent.ext",
    )
    return {
        name: open(os.path.join(directory, file)).read()
        for name, file in (("ca", "ca.pem"), ("cert", "agent.pem"), ("key", "agent.key"))
    }


def test_five_at_once_create_one_gossip_key_that_appears_nowhere_else(sandbox):
    members = sandbox.launch_group(5, boot=False)
    for member in members:
        # A process that crashes here leaves a core file in /, unless it disables that.
        member.boot(
            "#!/bin/sh\nulimit -c unlimited; cd /\nexec consul-bootstrap --expect 5 --gossip-key-create "
            "ssm:/consul/gossip "
            "--log-level "
            "debug "
            "--json\n"
        )
    healthy(*members)
    keys = {m.configuration["encrypt"] for m in members}
    assert len(keys) == 1
    key = keys.pop()
    assert len(base64.b64decode(key)) == 32
    parameter = sandbox.aws.client("ssm").get_parameter(Name="/consul/gossip", WithDecryption=True)["Parameter"]
    assert parameter["Value"] == key and parameter["Type"] == "SecureString" and parameter["Version"] == 1
    assert sum(" info created the gossip key" in m.log for m in members) == 1
    until(lambda: all(len(peers(m)) == 5 for m in members))
    member = members[0]
    dry = member.bootstrap("--dry-run", "--expect", "5", "--gossip-key", "ssm:/consul/gossip")
    plan = member.bootstrap("--dry-run", "--json", "--expect", "5", "--gossip-key-create", "ssm:/consul/gossip")
    assert (
        '"encrypt": "(redacted)"' in dry.stdout and json.loads(plan.stdout)["configuration"]["encrypt"] == "(redacted)"
    )
    # A crash leaves no core file of the process that held the key. (Of another process it does, so this can fail.)
    member.run(
        "sh",
        "-c",
        "ulimit -c unlimited; cd /tmp; sleep 60 & kill -ABRT $!; wait; ls /tmp/core*; rm /tmp/core*",
        check=True,
    )
    member.signal_run(6)
    until(lambda: member.status is not None)
    assert member.status == 134 and not [name for name in os.listdir(member.path("/")) if name.startswith("core")]
    for text in (
        everything_seen(member),
        dry.stdout + dry.stderr,
        plan.stdout + plan.stderr,
        *(m.log for m in members),
    ):
        assert key not in text
    mode = os.stat(member.path("/etc/consul.d/00-consul-bootstrap.json")).st_mode
    assert stat.S_IMODE(mode) == 0o640 and key in member.read("/etc/consul.d/00-consul-bootstrap.json")


def test_tls_acls_and_gossip_of_production_from_all_three_stores(sandbox, tmp_path):
    material = certificates(tmp_path)
    ssm(sandbox, "/consul/gossip", KEY + "\n")
    ssm(sandbox, "/consul/cert", material["cert"])
    manager = sandbox.aws.client("secretsmanager")
    manager.create_secret(Name="consul/key", SecretBinary=material["key"].encode())
    manager.create_secret(Name="consul/tokens", SecretString=json.dumps({"agent": TOKEN}))
    options = (
        "--production --gossip-key ssm:/consul/gossip --tls-ca file:/etc/ssl/consul-ca.pem --tls-cert ssm:/consul/cert "
        "--tls-key secretsmanager:consul/key --agent-token secretsmanager:consul/tokens#agent --group consul"
    )
    members = sandbox.launch_group(3, boot=False)
    for member in members:
        member.write("/etc/ssl/consul-ca.pem", material["ca"])
        member.boot(f"#!/bin/sh\nexec consul-bootstrap --expect 3 {options}\n")
    healthy(*members)
    for member in members:
        configuration = member.configuration
        assert configuration["encrypt"] == KEY and configuration["acl"] == {
            "enabled": True,
            "default_policy": "deny",
            "tokens": {"agent": TOKEN},
        }
        assert (
            configuration["ca_file"] == "/etc/ssl/consul-ca.pem"
            and configuration["cert_file"] == "/etc/consul.d/tls/cert.pem"
        )
        assert [configuration[k] for k in ("verify_incoming", "verify_outgoing", "verify_server_hostname")] == [
            True
        ] * 3
        status = os.stat(member.path("/etc/consul.d/tls/key.pem"))
        assert stat.S_IMODE(status.st_mode) == 0o640 and status.st_uid == 8500
        assert member.read("/etc/consul.d/tls/key.pem") == material["key"]
        seen = everything_seen(member)
        # It did look: the command line names the secrets.
        assert "secretsmanager:consul/key" in seen
        # The certificate is no secret; the key's second line is enough to tell it.
        for secret in (KEY, TOKEN, material["key"].splitlines()[1]):
            assert secret not in seen
    until(lambda: len(peers(members[0])) == 3)


@pytest.mark.parametrize(
    "option, setup, status, message",
    [
        ("--gossip-key ssm:/missing", None, 12, "there is no parameter /missing"),
        ("--gossip-key secretsmanager:missing", None, 12, "there is no secret missing"),
        ("--gossip-key file:/missing", None, 14, "there is no file /missing"),
        ("--gossip-key file:/etc/empty", None, 14, "file:/etc/empty, the gossip key, is empty"),
        ("--gossip-key ssm:/bad", "not-a-key-2f8c", 14, "ssm:/bad is not a gossip key"),
        ("--gossip-key ssm:/bad", "AAECAwQFBgc=", 14, "ssm:/bad is not a gossip key"),
        ("--tls-ca ssm:/bad", "not-a-key-2f8c", 14, "ssm:/bad is not the CA certificate in PEM form"),
        ("--gossip-key secretsmanager:json#other", None, 14, "there is no text under the key other"),
    ],
)
def test_a_secret_that_is_missing_empty_or_wrong_ends_the_run_before_anything_is_written(
    sandbox, option, setup, status, message
):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul")
    member.write("/etc/empty", "\n")
    if setup:
        ssm(sandbox, "/bad", setup)
    sandbox.aws.client("secretsmanager").create_secret(Name="json", SecretString=json.dumps({"key": "value-7a1d"}))
    result = member.bootstrap("--expect", "1", *option.split())
    assert result.returncode == status, result.stderr
    assert message in result.stderr and "hint:" in result.stderr
    assert not (setup and setup in result.stderr) and "value-7a1d" not in result.stderr
    assert not member.exists("/etc/consul.d/00-consul-bootstrap.json") and not os.listdir(member.path("/etc/consul.d"))


def test_a_secret_that_may_not_be_read_names_the_action_and_the_secret(sandbox):
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul")
    for service, action, option in (
        ("ssm", "GetParameter", "--gossip-key ssm:/k"),
        ("secretsmanager", "GetSecretValue", "--agent-token secretsmanager:t --acl-default-policy deny"),
        ("ssm", "PutParameter", "--gossip-key-create ssm:/k"),
    ):
        sandbox.aws.faults[:] = [Fault("denied", action=action)]
        result = member.bootstrap("--expect", "1", "--wait-timeout", "1s", *option.split())
        assert result.returncode == 12, result.stderr
        assert f"allow {service}:{action} for role consul-server" in result.stderr
        assert option.split()[1].removeprefix("--") in result.stderr
        assert not os.listdir(member.path("/etc/consul.d"))


def test_a_changed_key_is_reported(sandbox):
    ssm(sandbox, "/consul/gossip", KEY)
    options = "--expect 1 --gossip-key ssm:/consul/gossip --sidecar-interval 1s"
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul", user_data=f"#!/bin/sh\nexec consul-bootstrap {options}\n")
    healthy(member)
    ssm(sandbox, "/consul/gossip", OTHER_KEY)
    until(lambda: "ssm:/consul/gossip has changed since this agent was configured" in member.log)
    assert "consul keyring -install" in member.log and OTHER_KEY not in member.log
    result = member.bootstrap("--dry-run", *options.split())
    assert (
        "has changed since this agent was configured" in result.stdout
        and OTHER_KEY not in result.stdout
        and KEY not in result.stdout
    )


def test_a_reboot_without_aws_keeps_the_secrets(sandbox):
    ssm(sandbox, "/consul/gossip", KEY)
    members = sandbox.launch_group(3, options="--gossip-key ssm:/consul/gossip")
    healthy(*members)
    member = members[1]
    until(lambda: member.consul("/v1/agent/self")["Stats"]["raft"]["last_log_index"] != "0")
    sandbox.aws.faults.append(Fault("5xx", source=member.address))
    member.reboot("#!/bin/sh\nAWS_MAX_ATTEMPTS=1 exec consul-bootstrap --expect 3 --gossip-key ssm:/consul/gossip\n")
    healthy(member)
    assert member.configuration["encrypt"] == KEY


def test_clients_get_their_certificates_from_the_servers(sandbox, tmp_path):
    material = certificates(tmp_path)
    ssm(sandbox, "/ca", material["ca"])
    ssm(sandbox, "/cert", material["cert"])
    ssm(sandbox, "/key", material["key"])
    members = sandbox.launch_group(
        3,
        options="--tls-ca ssm:/ca --tls-cert ssm:/cert --tls-key ssm:/key --tls-auto-encrypt "
        "--verify-server-hostname "
        "true",
    )
    client = sandbox.launch(
        user_data="#!/bin/sh\nexec consul-bootstrap --role client --group consul --start-jitter 1ms --tls-ca "
        "ssm:/ca --tls-auto-encrypt "
        "--verify-server-hostname "
        "true\n"
    )
    healthy(*members, client)
    # Without a certificate the servers would reject its requests.
    until(lambda: client.consul("/v1/catalog/nodes"))
    assert "key_file" not in client.configuration
    assert client.configuration["auto_encrypt"] == {"tls": True} and not client.exists("/etc/consul.d/tls/key.pem")


def test_consul_accepts_every_option(sandbox, tmp_path):
    material = certificates(tmp_path)
    sandbox.aws.create_group("consul")
    member = sandbox.launch(group="consul")
    for name, text in material.items():
        member.write(f"/etc/tls/{name}.pem", text)
    member.write("/etc/gossip", KEY)
    member.write("/etc/token", TOKEN)
    options = [
        "--expect",
        "1",
        "--start",
        "none",
        "--ui",
        "--min-quorum",
        "3",
        "--cleanup-dead-servers",
        "true",
        "--last-contact-threshold",
        "250ms",
        "--syslog",
        "LOCAL3",
        "--telemetry",
        "statsd=127.0.0.1:8125",
        "--telemetry",
        "dogstatsd=127.0.0.1:8126",
        "--telemetry",
        "statsite=127.0.0.1:8127",
        "--telemetry",
        "prometheus=60s",
        "--recursor",
        "10.0.0.2",
        "--dns-address",
        "10.0.1.9",
        "--set",
        "ports.dns=53",
        "--production",
        "--gossip-key",
        "file:/etc/gossip",
        "--agent-token",
        "file:/etc/token",
        "--tls-ca",
        "file:/etc/tls/ca.pem",
        "--tls-cert",
        "file:/etc/tls/cert.pem",
        "--tls-key",
        "file:/etc/tls/key.pem",
        "--tls-auto-encrypt",
        "--layout",
        "datacenter-per-az",
        "--wan-wait",
        "1ms",
    ]
    result = member.bootstrap(*options)
    assert result.returncode == 0, result.stderr
    configuration = member.configuration
    assert configuration["telemetry"] == {
        "statsd_address": "127.0.0.1:8125",
        "dogstatsd_addr": "127.0.0.1:8126",
        "statsite_address": "127.0.0.1:8127",
        "prometheus_retention_time": "60s",
    }
    assert configuration["autopilot"] == {
        "cleanup_dead_servers": True,
        "last_contact_threshold": "250ms",
        "min_quorum": 3,
        "server_stabilization_time": "1s",
    }
    assert configuration["syslog_facility"] == "LOCAL3" and configuration["auto_encrypt"] == {"allow_tls": True}
