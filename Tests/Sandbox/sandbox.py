"""The sandbox: an AWS region on one machine, started and removed in a second."""

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import threading
import time

from . import host, network
from .aws import AWS, REGION, ROLE
from .faults import Faults
from .instance import Instance
from .lifecycle import Lifecycle
from .metadata import MetadataService
from .names import NameServer
from .network import AWS_ADDRESS
from .waiting import until

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.join(ROOT, ".build")
STATE = os.path.join(BUILD, "sandbox")
BINARY = os.path.join(BUILD, "static", "consul-bootstrap")
CONSUL = os.path.join(BUILD, "consul", "usr", "bin", "consul")
DOCKER = os.path.join(BUILD, "docker")
ROOTFS = os.path.join(BUILD, "rootfs")
# Paths that must exist, each with the command that creates it.
FILES = {BINARY: "make static", CONSUL: "make deps-sandbox", DOCKER: "make deps-sandbox", ROOTFS: "make deps-sandbox"}
# Of the names of everything that is not below this checkout: namespaces, control groups, the control socket.
CHECKOUT = "cb-" + hashlib.sha256(os.path.realpath(STATE).encode()).hexdigest()[:8]
# What a plain instance has of this machine's root; every other directory there is empty, or holds only what is below.
SHARED = ("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr")
OWN = {"/opt": 0o755, "/root": 0o700, "/run": 0o755, "/tmp": 0o1777, "/var": 0o755}
OWN |= {f"/var/{name}": 0o755 for name in ("cache", "lib", "lib/cloud", "log", "spool")} | {"/var/tmp": 0o1777}
OWN |= dict.fromkeys(("/etc/consul.d", "/etc/systemd/system", "/usr/local/bin", "/usr/local/sbin"), 493)
# Files and directories of this machine that a plain instance must not see.
HIDDEN = (
    "/etc/consul-bootstrap",
    "/etc/awslogs",
    "/etc/dnsmasq.d",
    "/etc/logrotate.d/consul-bootstrap",
    "/etc/systemd/resolved.conf.d",
    "/usr/bin/consul-bootstrap",
)
ZONES = (REGION + "a", REGION + "b")
USER_DATA = "#!/bin/sh\nexec consul-bootstrap --expect {expect}\n"


class Sandbox:
    def __init__(self):
        """Throws `HostError` where this machine cannot run it."""
        host.require(FILES)
        remove_stale()
        self.prefix = f"{CHECKOUT}-{os.getpid()}"
        self.directory = os.path.join(STATE, self.prefix)
        os.makedirs(self.directory, exist_ok=True)
        # Recorded first: whatever interrupts it from here on, `down` finds it.
        with open(self.directory + ".new", "w") as file:
            json.dump({"pid": os.getpid(), "prefix": self.prefix, "started": host.process_start(os.getpid())}, file)
        # Other processes read the records meanwhile.
        os.rename(self.directory + ".new", self.directory + ".json")
        atexit.register(self.down)
        self.instances = {}
        self._used = set()
        self._launching = threading.Lock()
        # Directories of this machine that plain instances see at their own paths, read-only.
        self.visible = []
        self.is_up = True
        # A directory for the logs of machines that are removed.
        self.kept_logs = None
        # By name: the value before, and the value now.
        self.raised = host.Limits().hold()
        # Overlays cannot have their upper layer inside their lower one, the machine's own root.
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "mode=755", "consul-bootstrap-sandbox", self.directory], check=True
        )
        self._make_images()
        self.network = network.Network(self.prefix)
        self.namespace, _ = self.network.add_host("aws", AWS_ADDRESS)
        self.aws = AWS()
        self.aws.listen_in(self.namespace, AWS_ADDRESS, self.certificate)
        self.names = NameServer(self.namespace, AWS_ADDRESS, AWS_NAMES)
        self.lifecycle = Lifecycle(self)
        self.faults = Faults(self)

    # Images: the content of an AMI, as a layer over this machine's root, or over one with systemd.

    def _make_images(self):
        self._make_certificates()
        layer = os.path.join(self.directory, "image")
        self._hide_the_machine(layer)
        self._fill_image(layer, "/")
        self.image = f"{layer}:/"
        self._docker_image = None
        layer = os.path.join(self.directory, "systemd-image")
        self._fill_image(layer, ROOTFS)
        self.systemd_image = f"{layer}:{ROOTFS}"

    def _hide_the_machine(self, layer):
        """Of this machine's root only the programs and the configuration of the system show through."""
        os.makedirs(layer)
        for entry in os.scandir("/"):
            if entry.name in SHARED:
                continue
            if entry.is_dir(follow_symlinks=False):
                own_directory(layer, "/" + entry.name, stat.S_IMODE(entry.stat().st_mode))
            else:
                whiteout(layer, "/" + entry.name)
        for path, mode in OWN.items():
            own_directory(layer, path, mode)
        for path, target in (("/var/run", "/run"), ("/var/lock", "/run/lock")):
            os.symlink(target, layer + path)
        for path in HIDDEN:
            whiteout(layer, path)

    @property
    def docker_image(self):
        """With a Docker engine; copied, since no layer of an overlay may lie within another."""
        if not self._docker_image:
            layer = os.path.join(self.directory, "docker")
            shutil.copytree(os.path.join(DOCKER, "usr"), os.path.join(layer, "usr"), symlinks=True)
            self._docker_image = f"{layer}:{self.image}"
        return self._docker_image

    def surroundings(self, name):
        """A layer with names, certificates and nothing else, for an image that a test has built."""
        layer = os.path.join(self.directory, name)
        self._fill_image(layer, "/", programs=False)
        return layer

    def _fill_image(self, layer, lower, programs=True):
        def put(path, text=None, source=None, mode=0o644):
            target = layer + path
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if source:
                shutil.copyfile(source, target)
            else:
                with open(target, "w") as file:
                    file.write(text)
            os.chmod(target, mode)

        put("/etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{AWS_ADDRESS} {name}\n" for name in AWS_NAMES))
        put("/etc/resolv.conf", f"nameserver {AWS_ADDRESS}\noptions timeout:3 attempts:2\n")
        put("/etc/ssl/certs/ca-certificates.crt", source=os.path.join(self.directory, "ca.pem"))
        if not programs:
            return
        put("/usr/local/bin/consul-bootstrap", source=BINARY, mode=0o755)
        put("/usr/bin/consul", source=CONSUL, mode=0o755)
        for file, line in (
            ("/etc/passwd", "consul:x:8500:8500::/opt/consul:/usr/sbin/nologin"),
            ("/etc/group", "consul:x:8500:"),
        ):
            with open(os.path.join(lower, file.lstrip("/"))) as original:
                lines = [entry for entry in original.read().splitlines() if not entry.startswith("consul:")]
            put(file, "\n".join([*lines, line]) + "\n")
        for path in ("/etc/consul.d", "/opt", "/var/lib/cloud", "/var/log"):
            os.makedirs(layer + path, exist_ok=True)

    def _make_certificates(self):
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.directory)

        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=Sandbox CA")
        openssl("req", *curve, "-keyout", "aws.key", "-out", "aws.csr", "-subj", "/CN=sandbox")
        with open(os.path.join(self.directory, "aws.ext"), "w") as file:
            file.write("subjectAltName=" + ",".join(f"DNS:{name}" for name in AWS_NAMES))
        openssl(
            "x509",
            "-req",
            "-in",
            "aws.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "aws.pem",
            "-days",
            "30",
            "-extfile",
            "aws.ext",
        )
        self.certificate = (os.path.join(self.directory, "aws.pem"), os.path.join(self.directory, "aws.key"))

    # Instances.

    def launch(
        self,
        zone=None,
        address=None,
        group=None,
        user_data=None,
        tags=None,
        systemd=False,
        docker=False,
        boot=True,
        lifecycle=None,
        hidden_for=0,
        image=None,
    ):
        """Launches one instance, as an Auto Scaling group would."""
        zone = zone or ZONES[len(self.instances) % 2]
        # The lifecycle engine launches from threads of its own.
        with self._launching:
            address = address or self._free_address(zone)
            id = self.aws.run_instance(zone, address, group=group, tags=tags)
            if hidden_for:
                self.aws.hidden[id] = time.time() + hidden_for
            if lifecycle:
                self.aws.set_lifecycle(id, lifecycle)
            instance = self._add(id, zone, address, self.aws.vpc, ROLE, systemd, docker, image)
        if boot:
            instance.boot(user_data)
        return instance

    def _add(self, id, zone, address, vpc, role, systemd=False, docker=False, image=None):
        # Names of network namespaces are short; an id's end is as unique here as the whole.
        namespace, port = self.network.add_host(id[-8:], address)
        documents = Instance.documents(id, zone, address, vpc)
        metadata = MetadataService(namespace, documents, lambda: self.aws.role_credentials(role=role), role)
        instance = Instance(self, id, zone, address, namespace, port, metadata, systemd, docker, image)
        self.instances[id] = instance
        return instance

    def adopt(self, group, zone=None, **keywords):
        """Boots the instances that a group has launched by itself, with the user data, role and VPC of its launch
        template.

        - zone: moto launches all in the first one."""
        template = self.aws.launch_template(group)
        members = [
            self._add(id, zone or at, address, vpc, template["role"], **keywords)
            for id, at, address, vpc in self.aws.launched(group)
        ]
        for member in members:
            # moto does not hold an instance for its launch hook.
            if "--lifecycle-hook" in template["user_data"]:
                self.aws.set_lifecycle(member.id, "Pending:Wait")
            member.boot(template["user_data"])
        return members

    def launch_group(self, count, group="consul", expect=None, options="", boot=True, **keywords):
        """Creates a group and launches its instances; all are listed before the first one boots."""
        self.aws.create_group(group, desired=count)
        user_data = USER_DATA.format(expect=expect or count).rstrip("\n") + f" {options}\n"
        members = [self.launch(group=group, boot=False, **keywords) for _ in range(count)]
        replacements = {key: value for key, value in keywords.items() if key not in ("address", "lifecycle")}
        self.lifecycle.manage(group, user_data, **replacements)
        if boot:
            for member in members:
                member.boot(user_data)
        return members

    def _free_address(self, zone):
        subnet = "10.0.1." if zone.endswith("a") else "10.0.2."
        # Around 9 and 10, where text sorts wrongly.
        used = {instance.address for instance in self.instances.values()} | self._used
        address = next(subnet + str(n) for n in range(9, 250) if subnet + str(n) not in used)
        self._used.add(address)
        return address

    def terminate(self, instance):
        """Kills its processes, removes its address; AWS reports it as terminated."""
        self.remove_machine(instance)
        self.aws.terminate_instance(instance.id)
        del self.instances[instance.id]

    def remove_machine(self, instance):
        instance.kill()
        if self.kept_logs:
            instance.keep_log(self.kept_logs)
        instance.metadata.close()
        self.network.remove_host(instance.namespace, instance.port)
        shutil.rmtree(instance.directory, ignore_errors=True)

    def readdress(self, instance, address, user_data=None):
        """A reboot with another private address."""
        instance.kill()
        network.ip("-n", instance.namespace, "addr", "flush", "dev", "eth0", "scope", "global")
        network.ip("-n", instance.namespace, "link", "set", "eth0", "address", network.mac(address))
        network.ip("-n", instance.namespace, "addr", "add", f"{address}/16", "dev", "eth0")
        self.aws.set_address(instance.id, address)
        instance.address = address
        instance.metadata.documents.clear()
        instance.metadata.documents.update(Instance.documents(instance.id, instance.zone, address, self.aws.vpc))
        self._used.add(address)
        instance.boot(user_data)

    def vanish(self, instance):
        """An outage: its processes and its link are gone, while AWS still reports it as running."""
        instance.kill()
        self.network.set_link(instance.port, False)

    def clear(self):
        """Back to an empty region: no instances, groups, faults."""
        self.kept_logs = None
        try:
            self.lifecycle.clear()
        finally:
            self.faults.clear()
            # What EC2 does not list cannot be terminated.
            self.aws.hidden.clear()
            self.aws.forgotten.clear()
            for instance in list(self.instances.values()):
                self.terminate(instance)
            self.aws.clear()
            self._used.clear()
            self.names.broken = False

    def down(self):
        if not self.is_up:
            return
        self.is_up = False
        if hasattr(self, "lifecycle"):
            self.lifecycle.closing.set()
        for instance in list(self.instances.values()):
            instance.kill()
            instance.metadata.close()
        if hasattr(self, "aws"):
            self.aws.close()
            self.names.close()
        remove(self.prefix)
        host.Limits().release()


AWS_NAMES = [
    f"{service}.{REGION}.amazonaws.com" for service in ("autoscaling", "ec2", "sts", "logs", "ssm", "secretsmanager")
]


def own_directory(layer, path, mode):
    """An empty directory: nothing of a directory of the same name in a lower layer shows through."""
    os.makedirs(layer + path, exist_ok=True)
    os.chmod(layer + path, mode)
    os.setxattr(layer + path, "trusted.overlay.opaque", b"y")


def whiteout(layer, path):
    """Hides a file or directory of the lower layers."""
    os.makedirs(os.path.dirname(layer + path), exist_ok=True)
    os.mknod(layer + path, stat.S_IFCHR | 0o600, 0)


def remove(prefix):
    """Removes everything of a sandbox that outlives its process."""
    for namespace in namespaces():
        if namespace.startswith(prefix + "-"):
            network.delete_namespace(namespace)
    host.remove_cgroups(prefix + "-")
    directory = os.path.join(STATE, prefix)
    subprocess.run(["umount", "--lazy", directory], capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(directory + ".json")


def namespaces():
    return sorted(os.listdir("/run/netns")) if os.path.exists("/run/netns") else []


def remove_stale(all=False):
    """Removes the sandboxes of this checkout whose process is gone; with `all`, the others, too."""
    os.makedirs(STATE, exist_ok=True)
    recorded = set()
    for name in os.listdir(STATE):
        if not name.endswith(".json"):
            continue
        try:
            with open(os.path.join(STATE, name)) as file:
                record = json.load(file)
        except FileNotFoundError:
            continue  # removed by another process meanwhile
        recorded.add(record["prefix"])
        lives = host.process_start(record["pid"]) == record["started"]
        if lives and all and record["pid"] != os.getpid():
            os.kill(record["pid"], signal.SIGTERM)
            until(lambda record=record: host.process_start(record["pid"]) != record["started"])
            lives = False
        if not lives:
            remove(record["prefix"])
    # Sandboxes whose record was removed with the build directory.
    for namespace in namespaces():
        prefix = namespace.rpartition("-")[0]
        checkout, _, pid = prefix.rpartition("-")
        if checkout == CHECKOUT and prefix not in recorded and host.process_start(pid) is None:
            remove(prefix)
