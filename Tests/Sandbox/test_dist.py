"""The packages that `make dist` builds."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import tarfile

import pytest

from .sandbox import BINARY, BUILD, ROOT
from .waiting import until


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dist") / "out"
    subprocess.run(
        [os.path.join(ROOT, ".ci", "dist"), BUILD, "1.2.3+g0123456", directory], check=True, capture_output=True
    )
    return directory


def find(dist, end):
    [name] = [name for name in os.listdir(dist) if name.endswith(end)]
    return dist / name


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def test_the_same_bytes_twice(dist, tmp_path):
    subprocess.run(
        [os.path.join(ROOT, ".ci", "dist"), BUILD, "1.2.3+g0123456", tmp_path / "again"],
        check=True,
        capture_output=True,
    )
    names = sorted(os.listdir(dist))
    assert names == sorted(os.listdir(tmp_path / "again")) and len(names) == 5
    assert [digest(dist / n) for n in names] == [digest(tmp_path / "again" / n) for n in names]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], check=True, cwd=dist)


def test_the_tarball_is_complete(dist):
    with tarfile.open(find(dist, ".tar.gz")) as archive:
        names = {member.name.partition("/")[2]: member for member in archive.getmembers()}
        for name in (
            "consul-bootstrap",
            "consul-bootstrap.8",
            "README.md",
            "LICENSE",
            "completions/consul-bootstrap.zsh",
            "packer/provision.sh",
            "userdata/five-servers.sh",
            "userdata/terraform/iam.tf",
        ):
            assert name in names, name
        assert all(member.uid == member.gid == 0 for member in names.values())
        assert archive.extractfile(names["consul-bootstrap"]).read() == pathlib.Path(BINARY).read_bytes()
        # The links of the documents lead to files of the tarball.
        for document in [name for name in names if name.endswith(".md")]:
            text = archive.extractfile(names[document]).read().decode()
            for link in re.findall(r"\]\(([^)#]+)", text):
                target = os.path.normpath(os.path.join(os.path.dirname(document), link))
                assert "://" in link or target in names, f"{document}: {link}"


def test_what_is_in_the_binary_is_listed(dist):
    bom = json.loads(find(dist, ".cdx.json").read_text())
    assert bom["bomFormat"] == "CycloneDX" and bom["metadata"]["component"]["hashes"] == [
        {"alg": "SHA-256", "content": digest(BINARY)}
    ]
    found = {component["name"]: component for component in bom["components"]}
    # Everything that the Makefile links by name, and what Swift brings.
    assert {"curl", "openssl", "c-ares", "expat", "zlib", "libdeflate", "glibc", "swift"} <= set(found)
    assert all(c["version"] and c["purl"].startswith("pkg:") for c in found.values())


def test_the_debian_package_installs_and_boots(dist, sandbox):
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul", systemd=True)
    instance.run(
        "sh",
        "-c",
        "sed -i /^consul:/d /etc/passwd /etc/group && rm -rf /etc/consul.d /opt/consul /usr/local/bin/consul-bootstrap",
        check=True,
    )
    with open(find(dist, ".deb"), "rb") as package, open(instance.path("/root/package.deb"), "wb") as file:
        file.write(package.read())
    instance.run("dpkg", "--install", "/root/package.deb", check=True)
    assert instance.run("stat", "-c", "%U %a", "/opt/consul").stdout == "consul 750\n"
    result = instance.run("consul-bootstrap", "--expect", "1")
    assert result.returncode == 0, result.stderr
    assert "ExecStart=/usr/bin/consul-bootstrap sidecar" in instance.read(
        "/etc/systemd/system/consul-bootstrap.service"
    )
    # Removing the package stops no agent.
    instance.run("dpkg", "--remove", "consul-bootstrap", check=True)
    until(lambda: instance.consul("/v1/status/leader"))
    assert not instance.exists("/usr/bin/consul-bootstrap")


def test_the_rpm_has_the_same_binary(dist, tmp_path):
    package = find(dist, ".rpm")
    listed = subprocess.run(["rpm", "-qlp", package], check=True, capture_output=True, text=True).stdout.split()
    for path in (
        "/usr/bin/consul-bootstrap",
        "/usr/share/zsh/site-functions/_consul-bootstrap",
        "/usr/lib/sysusers.d/consul-bootstrap.conf",
    ):
        assert path in listed
    assert subprocess.run(["rpm", "-qcp", package], check=True, capture_output=True, text=True).stdout.split() == [
        "/etc/logrotate.d/consul-bootstrap"
    ]
    with open(tmp_path / "archive", "wb") as file:
        subprocess.run(["rpm2cpio", package], check=True, stdout=file)
    with open(tmp_path / "archive", "rb") as file:
        subprocess.run(
            ["cpio", "--extract", "--make-directories", "--quiet", "./usr/bin/consul-bootstrap"],
            check=True,
            stdin=file,
            cwd=tmp_path,
        )
    assert digest(tmp_path / "usr/bin/consul-bootstrap") == digest(BINARY)
