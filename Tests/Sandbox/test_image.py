"""packer/: the template validates, and its provisioning script is run for real in a fresh root file system, which
then boots."""

import hashlib
import http.server
import os
import shutil
import ssl
import stat
import subprocess
import threading
import zipfile

import pytest

from .conftest import peers
from .sandbox import BINARY, BUILD, CONSUL, ROOT, ROOTFS
from .waiting import TIMEOUT, until

PACKER = os.path.join(BUILD, "packer", "usr", "bin", "packer")
VERSION = "1.8.7"
ZIP = f"consul_{VERSION}_linux_amd64.zip"
SUMS = f"consul_{VERSION}_SHA256SUMS"


def packer(*arguments):
    environment = {
        "CHECKPOINT_DISABLE": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PACKER_CONFIG_DIR": "/nonexistent",
    }
    return subprocess.run([PACKER, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment)


def test_the_template_validates_offline():
    result = packer(
        "validate", "-var", f"binary_amd64={BINARY}", "-var", f"binary_arm64={BINARY}", "packer/consul.pkr.hcl"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert packer("fmt", "-check", "packer").returncode == 0
    # It does check: an unknown variable is an error.
    result = packer("validate", "-var", "bogus=1", "packer/consul.pkr.hcl")
    assert result.returncode != 0 and "bogus" in result.stdout + result.stderr


def test_the_images_are_marked_for_version_2_of_the_metadata_service(tmp_path):
    (tmp_path / "manifest.json").write_text(
        '{"builds": [{"artifact_id": "eu-west-1:ami-0aa", "name": "a"}, {"artifact_id": "eu-west-1:ami-0bb,'
        'us-east-1:ami-0cc"}]}'
    )
    (tmp_path / "aws").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (tmp_path / "aws").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MANIFEST": str(tmp_path / "manifest.json")}
    subprocess.run(
        [os.path.join(ROOT, "packer", "require-imdsv2.sh")], check=True, env=environment, capture_output=True
    )
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"ec2 modify-image-attribute --region {region} --image-id {image} --imds-support v2.0"
        for region, image in (("eu-west-1", "ami-0aa"), ("eu-west-1", "ami-0bb"), ("us-east-1", "ami-0cc"))
    ]


class Publisher:
    """A stand-in for HashiCorp: a release with its sums, signed, over TLS."""

    def __init__(self, directory, certificate):
        self.directory = directory
        release = directory / "consul" / VERSION
        release.mkdir(parents=True)
        with zipfile.ZipFile(release / ZIP, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(CONSUL, "consul")
        self.home = directory / "gnupg"
        self.home.mkdir(mode=0o700)
        self.fingerprint = self.make_key("releases@example.test")
        self.sign(release, hashlib.sha256((release / ZIP).read_bytes()).hexdigest(), self.fingerprint)
        (directory / "key.asc").write_text(self.gpg("--armor", "--export", self.fingerprint))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(directory))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://localhost:{self.server.server_address[1]}"

    def gpg(self, *arguments):
        command = [
            "gpg",
            "--batch",
            "--quiet",
            "--homedir",
            str(self.home),
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            *arguments,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def make_key(self, name):
        self.gpg("--quick-generate-key", name, "ed25519", "sign", "1d")
        lines = self.gpg("--with-colons", "--list-keys", name).splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr"))

    def sign(self, release, digest, key):
        (release / SUMS).write_text(f"{'0' * 64}  consul_{VERSION}_darwin_amd64.zip\n{digest}  {ZIP}\n")
        (release / (SUMS + ".sig")).unlink(missing_ok=True)
        self.gpg("--local-user", key, "--output", str(release / (SUMS + ".sig")), "--detach-sign", str(release / SUMS))

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], capture_output=True)


@pytest.fixture(scope="module")
def publisher(region, tmp_path_factory):
    directory = tmp_path_factory.mktemp("publisher")
    openssl = lambda *a: subprocess.run(["openssl", *a], check=True, capture_output=True, cwd=directory)
    openssl(
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "request.pem",
        "-subj",
        "/CN=localhost",
    )
    (directory / "names").write_text("subjectAltName=DNS:localhost")
    authority = [os.path.join(region.directory, name) for name in ("ca.pem", "ca.key")]
    openssl(
        "x509",
        "-req",
        "-in",
        "request.pem",
        "-CA",
        authority[0],
        "-CAkey",
        authority[1],
        "-CAcreateserial",
        "-out",
        "certificate.pem",
        "-days",
        "2",
        "-extfile",
        "names",
    )
    (directory / "site").mkdir()
    publisher = Publisher(directory / "site", (directory / "certificate.pem", directory / "key.pem"))
    yield publisher
    publisher.close()


class Machine:
    """A root file system of its own, over the pristine one."""

    def __init__(self, region, name):
        self.region = region
        self.directory = os.path.join(region.directory, name)
        for part in ("upper", "work", "root"):
            os.makedirs(os.path.join(self.directory, part))
        self.put("/etc/ssl/certs/ca-certificates.crt", source=os.path.join(region.directory, "ca.pem"))

    def path(self, path):
        return os.path.join(self.directory, "upper", path.lstrip("/"))

    def put(self, path, text="x\n", source=None, mode=0o644):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        if source:
            shutil.copyfile(source, self.path(path))
        else:
            with open(self.path(path), "w") as file:
                file.write(text)
        os.chmod(self.path(path), mode)

    def run(self, *command, **environment):
        """In mount and process namespaces that end with it."""
        script = (
            'mount --make-rprivate / && mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$DIR/upper,'
            'workdir=$DIR/work" '
            '"$DIR/root" '
            "&& "
            "mount "
            "-t "
            "proc "
            "proc "
            '"$DIR/root/proc" '
            "&& "
            "mount "
            "--rbind /dev "
            '"$DIR/root/dev" '
            "&& "
            "exec "
            "chroot "
            '"$DIR/root" '
            '"$@"'
        )
        variables = {
            "LOWER": ROOTFS,
            "DIR": self.directory,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            **environment,
        }
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", *command],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env=variables,
        )

    def provision(self, publisher, **environment):
        self.put("/root/provision.sh", source=os.path.join(ROOT, "packer", "provision.sh"), mode=0o755)
        self.put("/tmp/consul-bootstrap", source=BINARY)
        return self.run(
            "/root/provision.sh",
            CONSUL_VERSION=VERSION,
            CONSUL_RELEASES=f"{publisher.url}/consul",
            HASHICORP_KEY_URL=f"{publisher.url}/key.asc",
            **{"HASHICORP_FINGERPRINT": publisher.fingerprint, **environment},
        )


def gone(machine, path):
    return machine.run("test", "-e", path).returncode != 0


def test_an_image_is_baked_and_boots(region, publisher, sandbox):
    machine = Machine(region, "baked")
    once = [
        "/etc/ssh/ssh_host_ed25519_key",
        "/var/lib/systemd/random-seed",
        "/opt/consul/node-id",
        "/var/lib/consul-bootstrap/instance.json",
        "/root/.ssh/authorized_keys",
        "/root/.bash_history",
    ]
    for path in once:
        machine.put(path)
    os.chmod(machine.path("/opt/consul"), 0o750)
    machine.put("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    for _ in range(2):  # idempotent
        result = machine.provision(publisher)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "Consul v1.8.7" in result.stdout and "==> done: consul-bootstrap " in result.stdout
    for path in [*once, "/tmp/consul-bootstrap", "/etc/consul.d/00-consul-bootstrap.json"]:
        assert gone(machine, path), path
    assert machine.run("cat", "/etc/machine-id").stdout == ""
    owners = machine.run(
        "stat",
        "-c",
        "%U:%G %a %n",
        "/opt/consul",
        "/etc/consul.d",
        "/usr/local/bin/consul",
        "/usr/local/bin/consul-bootstrap",
    ).stdout.splitlines()
    assert owners == [
        "consul:consul 750 /opt/consul",
        "root:root 755 /etc/consul.d",
        "root:root 755 /usr/local/bin/consul",
        "root:root 755 /usr/local/bin/consul-bootstrap",
    ]
    # Two instances of the image boot with user-data.
    image = f"{region.surroundings('baked-surroundings')}:{machine.path('/').rstrip('/')}:{ROOTFS}"
    sandbox.aws.create_group("consul", desired=2)
    members = [sandbox.launch(group="consul", systemd=True, boot=False, image=image) for _ in range(2)]
    for member in members:
        member.boot("#!/bin/sh\nexec consul-bootstrap\n")
    for member in members:
        assert member.cloud_init().returncode == 0, member.log
    identities = [(m.read("/opt/consul/node-id"), m.read("/etc/machine-id")) for m in members]
    assert identities[0][0] != identities[1][0]
    until(lambda: len(peers(members[0])) == 2)


def test_provisioning_as_on_amazon_linux(region, publisher):
    """A stand-in, since Amazon Linux is not available here: Debian without apt-get and unzip, and a dnf that
    restores unzip."""
    machine = Machine(region, "baked-dnf")
    machine.put("/root/unzip", source=os.path.join(ROOTFS, "usr/bin/unzip"), mode=0o755)
    machine.put(
        "/usr/bin/dnf",
        '#!/bin/sh\necho "$@" >> /root/dnf\ncase "$*" in *install*) cp /root/unzip /usr/bin/unzip ;; esac\n',
        mode=0o755,
    )
    for tool in ("apt-get", "unzip"):
        os.mknod(machine.path(f"/usr/bin/{tool}"), stat.S_IFCHR | 0o600, 0)  # a whiteout
    result = machine.provision(publisher)
    assert result.returncode == 0 and "==> installing unzip\n" in result.stdout, result.stdout + result.stderr
    with open(machine.path("/root/dnf")) as file:
        assert file.read().splitlines() == ["-q -y install unzip gnupg2-minimal shadow-utils", "-q clean all"]
    assert not gone(machine, "/usr/local/bin/consul")


@pytest.mark.parametrize("what", ["content", "signature", "unsigned"])
def test_a_consul_without_a_valid_signature_is_not_installed(region, publisher, what, tmp_path):
    release = publisher.directory / "consul" / VERSION
    kept = {name: (release / name).read_bytes() for name in (ZIP, SUMS, SUMS + ".sig")}
    try:
        if what == "content":
            (release / ZIP).write_bytes(kept[ZIP] + b"\0")
        elif what == "signature":
            # Another key, which the site publishes as well.
            other = publisher.make_key(f"{what}@example.test")
            publisher.sign(release, hashlib.sha256(kept[ZIP]).hexdigest(), other)
            (publisher.directory / "key.asc").write_text(publisher.gpg("--armor", "--export"))
        else:
            (release / SUMS).write_bytes(kept[SUMS] + b"\n")
        machine = Machine(region, f"baked-{what}")
        result = machine.provision(publisher)
        assert result.returncode == 1 and "nothing is installed" in result.stderr, result.stdout + result.stderr
        assert gone(machine, "/usr/local/bin/consul") and gone(machine, "/usr/local/bin/consul-bootstrap")
    finally:
        for name, content in kept.items():
            (release / name).write_bytes(content)
        (publisher.directory / "key.asc").write_text(publisher.gpg("--armor", "--export", publisher.fingerprint))
