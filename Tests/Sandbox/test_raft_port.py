"""Servers ask each other over raft's own port: real servers whose HTTP API is off and whose ACLs deny everything."""

import json

import pytest

from .test_doctor import examine, of_subject, problems
from .test_secrets import certificates
from .waiting import until

TLS = ["--tls-ca", "file:/etc/tls/ca.pem", "--tls-cert", "file:/etc/tls/cert.pem", "--tls-key", "file:/etc/tls/key.pem"]


def serve(member, expect, join=(), **more):
    """A server as another tool may have configured it."""
    configuration = {
        "server": True,
        "bootstrap_expect": expect,
        "node_name": member.id,
        "data_dir": "/opt/other",
        "bind_addr": member.address,
        "retry_join": list(join),
        "retry_interval": "1s",
        "ports": {"http": -1, "dns": -1},
        "acl": {"enabled": True, "default_policy": "deny"},
        "performance": {"raft_multiplier": 1},
        **more,
    }
    member.write("/etc/other/consul.json", json.dumps(configuration))
    return member.start("consul", "agent", "-config-dir=/etc/other")


def write(member, material):
    for name, text in material.items():
        member.write(f"/etc/tls/{name}.pem", text)


def decision(member, *options):
    result = member.bootstrap("--dry-run", "--json", "--expect", "2", *options)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["decision"]


@pytest.fixture
def pair(sandbox):
    """A server, and an instance that looks at it."""
    sandbox.aws.create_group("consul", desired=2)
    return [sandbox.launch(group="consul") for _ in range(2)]


def test_an_empty_server_a_leader_and_a_survivor_are_told_apart(sandbox, pair):
    server, here = pair
    found = decision(here)
    assert found["name"] == "new cluster" and "no agent runs" in " ".join(found["evidence"]), found
    log = serve(server, 3)
    # An election that waits for others: the server is up.
    until(lambda: "open: 8300 tcp" in " ".join(m for _, m in of_subject(examine(here), f"peer {server.address}")))
    found = decision(here)
    assert found["name"] == "new cluster" and "unknown" not in " ".join(found["evidence"]), found
    assert log.signal(9) and log.wait() is not None
    until(lambda: server.run("pgrep", "-x", "consul").returncode)
    server.run("rm", "-r", "/opt/other")
    # Two voters, then one.
    other = sandbox.launch()
    serve(server, 2)
    second = serve(other, 2, [server.address])
    until(lambda: decision(here)["name"] == "join", lambda: second.output)
    leader = " ".join(decision(here)["evidence"])
    assert f"{server.address}:8300" in leader or f"{other.address}:8300" in leader
    sandbox.terminate(other)
    until(lambda: decision(here)["name"] == "wait", lambda: decision(here))
    assert "no agent runs" not in " ".join(decision(here)["evidence"])
    # Nothing of this used HTTP or a token.
    assert server.consul("/v1/status/leader") is None


def test_a_server_that_verifies_incoming_connections_is_asked_by_tls(pair, tmp_path):
    server, here = pair
    (tmp_path / "other").mkdir()
    material, foreign = certificates(tmp_path), certificates(tmp_path / "other")
    write(server, material)
    serve(
        server,
        1,
        ca_file="/etc/tls/ca.pem",
        cert_file="/etc/tls/cert.pem",
        key_file="/etc/tls/key.pem",
        verify_incoming=True,
        verify_outgoing=True,
        verify_server_hostname=True,
    )
    write(here, material)
    until(lambda: decision(here, *TLS, "--verify-server-hostname", "true")["name"] == "join")
    assert ("ok", "open: 8300 tcp, 8301 tcp, 8301 udp") in of_subject(examine(here, *TLS), f"peer {server.address}")
    # Without a certificate, or with that of another authority, the state of the server is unknown.
    subject = f"peer {server.address}"
    for options, cause in ((), "connection closed without an answer"), (TLS, "TLS: "):
        if options:
            write(here, foreign)
        found = decision(here, *options)
        assert "unknown, port 8300: " + cause in " ".join(found["evidence"]), found
        assert cause in problems(examine(here, *options))[subject]
