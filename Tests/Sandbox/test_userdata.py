"""Every example of userdata/, executed unchanged: by real cloud-init where systemd runs, by a shell beside a real
Docker engine."""

import os
import shlex

import pytest
import yaml

from .conftest import servers, wan
from .sandbox import ROOT, ZONES
from .test_docker import docker, host, make_registrator  # noqa: F401 - a fixture
from .waiting import until

DIRECTORY = os.path.join(ROOT, "userdata")
NAMES = sorted(name.removesuffix(".sh") for name in os.listdir(DIRECTORY) if name.endswith(".sh"))


def example(name):
    with open(os.path.join(DIRECTORY, name)) as file:
        return file.read()


def launch(sandbox, name, count, group, first=0, **keywords):
    """Half of them from the shell script, half from the cloud-config."""
    kinds = [".sh", ".yaml"]
    members = [sandbox.launch(group=group, systemd=True, boot=False, **keywords) for _ in range(count)]
    return [(member, example(name + kinds[(first + index) % 2])) for index, member in enumerate(members)]


def boot(pairs):
    """Boots them, and waits until cloud-init reports the end of every script."""
    for member, text in pairs:
        member.boot(text)
    for member, _ in pairs:
        result = member.cloud_init()
        assert result.returncode == 0 and "status: done" in result.stdout, (
            f"{member.id}\n{result.stdout}{member.log[-4000:]}"
        )
        # Healthy by then, not merely started; and the sidecar runs.
        assert "healthy leader=" in member.log, member.log[-4000:]
        until(lambda member=member: member.consul("/v1/status/leader"))
        assert member.run("systemctl", "is-active", "consul", "consul-bootstrap").stdout.split() == ["active", "active"]
    return [member for member, _ in pairs]


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_do_the_same_and_cloud_init_takes_them(name, tmp_path):
    config = yaml.safe_load(example(name + ".yaml"))
    lines = [line for line in example(name + ".sh").splitlines() if line and not line.startswith(("#", "echo "))]
    commands = [shlex.split(line.removeprefix("exec ")) for line in lines]
    assert commands == config["runcmd"]
    files = {f["path"]: f["content"].strip() for f in config.get("write_files", [])}
    echoed = [shlex.split(line) for line in example(name + ".sh").splitlines() if line.startswith("echo ")]
    assert {line[3]: line[1] for line in echoed} == files
    assert example(name + ".yaml").splitlines()[1] == example(name + ".sh").splitlines()[1], "their descriptions differ"


def test_readme_shows_each_example_unchanged():
    with open(os.path.join(ROOT, "README.md")) as file:
        rows = [row for row in file if row.startswith("| ")]
    for name in NAMES:
        [row] = [row for row in rows if f"(userdata/{name}.sh)" in row]
        assert f"(userdata/{name}.yaml)" in row
        shown = row.split("`")[1] if "`" in row else ""
        assert shown in example(name + ".sh").replace("'", "")


def test_cloud_init_finds_nothing_wrong_with_the_schema(sandbox):
    instance = sandbox.launch(systemd=True)
    for name in NAMES:
        instance.write(f"/root/{name}.yaml", example(name + ".yaml"))
        result = instance.run("cloud-init", "schema", "--config-file", f"/root/{name}.yaml")
        assert result.returncode == 0 and "Valid cloud-config" in result.stdout, result.stdout + result.stderr


def test_five_servers(sandbox):
    sandbox.aws.create_group("consul", desired=5)
    members = boot(launch(sandbox, "five-servers", 5, "consul"))
    until(lambda: len(servers(members[0])) == 5)
    lowest = min(members, key=lambda m: tuple(map(int, m.address.split("."))))
    assert {tuple(m.configuration.get("retry_join", [])) for m in members if m is not lowest} == {(lowest.address,)}
    page = members[0].run(
        "/usr/bin/python3", "-c", "import urllib.request as u;print(u.urlopen('http://127.0.0.1:8500/ui/').status)"
    )
    assert page.stdout.strip() == "200"


def test_a_failing_boot_fails_cloud_init(sandbox):
    """Its status is the outcome: a script that only starts a service would report done."""
    sandbox.aws.create_group("consul", desired=5)
    [(member, _)] = launch(sandbox, "five-servers", 1, "consul")
    member.boot("#!/bin/sh\nexec consul-bootstrap --expect 5 --wait-timeout 2s\n")
    result = member.cloud_init()
    assert result.returncode != 0 and "status: error" in result.stdout


def test_dual_zone(sandbox):
    pairs = []
    for zone in ZONES:
        sandbox.aws.create_group(f"consul-{zone[-1]}", desired=2)
        pairs += launch(sandbox, "dual-zone", 2, f"consul-{zone[-1]}", zone=zone)
    members = boot(pairs)
    until(lambda: all(len(wan(m)) == 4 for m in members))
    assert {m.configuration["datacenter"] for m in members} == set(ZONES)
    for member in members:
        assert member.lookup(f"{member.id}.node.{member.zone}.consul") == [member.address]
        until(
            lambda member=member: any(
                "New leader elected" in e
                for e in sandbox.aws.log_events(f"/consul/{member.zone}", f"{member.id}/consul")
            )
        )


def test_rolling_upgrade(sandbox):
    """Seed 002: the new group's servers find the old ones by their tag and join them; the old ones leave; the data
    stays."""
    for group in ("blue", "green"):
        sandbox.aws.create_group(group, desired=3)
    old = boot(launch(sandbox, "rolling-upgrade", 3, "blue"))
    put = (
        "import urllib.request as u;print(u.urlopen(u.Request('http://127.0.0.1:8500/v1/kv/colour',b'blue',"
        "method='PUT')).status)"
    )
    assert old[0].run("/usr/bin/python3", "-c", put).stdout.strip() == "200"
    new = boot(launch(sandbox, "rolling-upgrade", 3, "green", first=1))
    assert all(m.run("hostname").stdout.strip() == "consul-" + m.id.removeprefix("i-") for m in new)
    for member in old:
        member.power_off()
        sandbox.terminate(member)
    until(lambda: all(servers(m) == sorted(n.address for n in new) and m.consul("/v1/status/leader") for m in new))
    read = "import urllib.request as u;print(u.urlopen('http://127.0.0.1:8500/v1/kv/colour?raw=1').read().decode())"
    assert new[0].run("/usr/bin/python3", "-c", read).stdout.strip() == "blue"


def test_servers_and_clients(sandbox):
    sandbox.aws.create_group("consul", desired=3)
    members = (
        launch(sandbox, "server", 3, "consul")
        + launch(sandbox, "client", 1, None)
        + launch(sandbox, "microservice", 2, None)
    )
    members = boot(members)
    found = members[0].consul("/v1/agent/members")
    assert sorted(m["Tags"]["role"] for m in found if m["Status"] == 1) == ["consul"] * 3 + ["node"] * 3
    # Seen from a server: two healthy instances of the service.
    passing = until(lambda: len(p := members[0].consul("/v1/health/service/quotes?passing=1")) == 2 and p)
    assert sorted(p["Node"]["Address"] for p in passing) == sorted(m.address for m in members[4:])
    code = "import json,sys,urllib.request as u;print(u.urlopen('http://'+sys.argv[1]+':5000/').status)"
    assert members[0].run("/usr/bin/python3", "-c", code, members[4].address).stdout.strip() == "200"


@pytest.mark.parametrize("form", [".sh", ".yaml"])
def test_docker(sandbox, host, tmp_path, form):  # noqa: F811
    """No systemd beside a Docker engine here: the cloud-config's commands are run one after another, as cloud-init
    does."""
    member = host()
    docker(member, "tag", "consul:test", "hashicorp/consul:1.20")
    make_registrator(member, tmp_path, "gliderlabs/registrator:v7")
    member.run(
        "sh",
        "-c",
        "ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up",
        check=True,
    )
    member.write("/root/user-data", example("docker.sh"), 0o755)
    commands = [["/root/user-data"]] if form == ".sh" else yaml.safe_load(example("docker.yaml"))["runcmd"]
    for command in commands:
        result = member.run(*command)
    assert result.returncode == 0 and " healthy leader=" in result.stderr, result.stderr
    assert sorted(docker(member, "ps", "--format", "{{.Names}}").split()) == ["consul", "registrator"]
    assert member.lookup("consul.service.consul") == [member.address]
    # The doctor asks the image's Consul about the configuration.
    options = yaml.safe_load(example("docker.yaml"))["runcmd"][0][1:]
    assert "ok    configuration: Consul accepts what a run would write" in member.bootstrap("doctor", *options).stdout
