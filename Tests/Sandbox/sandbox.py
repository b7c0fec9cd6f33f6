"""The sandbox: an AWS region on one machine, raised and taken down in a second."""

import atexit
import json
import os
import shutil
import subprocess
import time

from . import network
from .aws import AWS, REGION, ROLE
from .instance import Instance
from .metadata import MetadataService
from .names import NameServer

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.join(ROOT, ".build")
STATE = os.path.join(BUILD, "sandbox")
BINARY = os.path.join(BUILD, "static", "consul-bootstrap")
CONSUL = os.path.join(BUILD, "consul", "usr", "bin", "consul")
DOCKER = os.path.join(BUILD, "docker")
ROOTFS = os.path.join(BUILD, "rootfs")
AWS_ADDRESS = "10.0.0.2"
ZONES = (REGION + "a", REGION + "b")
USER_DATA = "#!/bin/sh\nexec consul-bootstrap --expect {expect}\n"


class Sandbox:
    def __init__(self):
        remove_stale()
        self.prefix = f"cb{os.getpid()}"
        self.directory = os.path.join(STATE, self.prefix)
        os.makedirs(self.directory, exist_ok=True)
        # Recorded first: whatever interrupts us from here on, `down` finds it.
        with open(self.directory + ".new", "w") as file:
            json.dump({"pid": os.getpid(), "prefix": self.prefix, "started": process_start(os.getpid())}, file)
        # Others look at the records while we write ours.
        os.rename(self.directory + ".new", self.directory + ".json")
        atexit.register(self.down)
        self.instances = {}
        self.is_up = True
        # Overlays cannot have their upper layer inside their lower one, the machine's own root.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "consul-bootstrap-sandbox", self.directory], check=True)
        self._make_images()
        self.network = network.Network(self.prefix)
        namespace, _ = self.network.add_host("aws", AWS_ADDRESS)
        self.aws = AWS()
        self.aws.listen_in(namespace, AWS_ADDRESS, self.certificate)
        self.names = NameServer(namespace, AWS_ADDRESS, AWS_NAMES)

    # Images: what an AMI would hold, laid over this machine's root, or over one with systemd.

    def _make_images(self):
        self._make_certificates()
        layer = os.path.join(self.directory, "image")
        self._fill_image(layer, "/")
        self.image = f"{layer}:/"
        self._docker_image = None
        self.systemd_image = None
        if os.path.exists(ROOTFS):
            layer = os.path.join(self.directory, "systemd-image")
            self._fill_image(layer, ROOTFS)
            self.systemd_image = f"{layer}:{ROOTFS}"

    @property
    def docker_image(self):
        """With a Docker engine; copied, since no layer of an overlay may lie within another."""
        if not self._docker_image:
            layer = os.path.join(self.directory, "docker")
            shutil.copytree(os.path.join(DOCKER, "usr"), os.path.join(layer, "usr"), symlinks=True)
            self._docker_image = f"{layer}:{self.image}"
        return self._docker_image

    def surroundings(self, name):
        """A layer that brings names, certificates and nothing else: for an image that somebody else has baked."""
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
        put("/etc/resolv.conf", f"nameserver {AWS_ADDRESS}\noptions timeout:1 attempts:1\n")
        put("/etc/ssl/certs/ca-certificates.crt", source=os.path.join(self.directory, "ca.pem"))
        if not programs:
            return
        put("/usr/local/bin/consul-bootstrap", source=BINARY, mode=0o755)
        put("/usr/bin/consul", source=CONSUL, mode=0o755)
        for file, line in (("/etc/passwd", "consul:x:8500:8500::/opt/consul:/usr/sbin/nologin"), ("/etc/group", "consul:x:8500:")):
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
        openssl("x509", "-req", "-in", "aws.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "aws.pem", "-days", "30", "-extfile", "aws.ext")
        self.certificate = (os.path.join(self.directory, "aws.pem"), os.path.join(self.directory, "aws.key"))

    # Instances.

    def launch(self, zone=None, address=None, group=None, user_data=None, tags=None, systemd=False, docker=False, boot=True, lifecycle=None, hidden_for=0, image=None):
        """Launches one instance, as an Auto Scaling group would."""
        zone = zone or ZONES[len(self.instances) % 2]
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
        """Boots what a group has launched by itself, as its launch template says: its user data, its role, its VPC.

        - zone: moto launches all in the first one."""
        template = self.aws.launch_template(group)
        members = [self._add(id, zone or at, address, vpc, template["role"], **keywords) for id, at, address, vpc in self.aws.launched(group)]
        for member in members:
            member.boot(template["user_data"])
        return members

    def launch_group(self, count, group="consul", expect=None, options="", boot=True, **keywords):
        """Creates a group and launches its instances; all are listed before the first one boots."""
        self.aws.create_group(group, desired=count)
        user_data = USER_DATA.format(expect=expect or count).rstrip("\n") + f" {options}\n"
        members = [self.launch(group=group, boot=False, **keywords) for _ in range(count)]
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

    _used = set()

    def terminate(self, instance):
        """Its processes die, its address goes, AWS says terminated."""
        instance.kill()
        instance.metadata.close()
        self.network.remove_host(instance.namespace, instance.port)
        shutil.rmtree(instance.directory, ignore_errors=True)
        self.aws.terminate_instance(instance.id)
        del self.instances[instance.id]

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
        """As in an outage: its processes die and its link goes, while AWS still says that it runs."""
        instance.kill()
        self.network.set_link(instance.port, False)

    def clear(self):
        """Back to an empty region: no instances, groups, faults."""
        for instance in list(self.instances.values()):
            self.terminate(instance)
        self.aws.clear()
        self._used.clear()
        self.names.broken = False

    def down(self):
        if not self.is_up:
            return
        self.is_up = False
        for instance in self.instances.values():
            instance.kill()
            instance.metadata.close()
        if hasattr(self, "aws"):
            self.aws.close()
            self.names.close()
        remove(self.prefix)


AWS_NAMES = [f"{service}.{REGION}.amazonaws.com" for service in ("autoscaling", "ec2", "sts", "logs", "ssm", "secretsmanager")]


def process_start(pid):
    """Tells a process from a later one with its number."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None


def remove(prefix):
    """Everything of a sandbox that outlives its process."""
    for namespace in sorted(os.listdir("/run/netns")) if os.path.exists("/run/netns") else []:
        if namespace.startswith(prefix + "-"):
            network.delete_namespace(namespace)
    directory = os.path.join(STATE, prefix)
    subprocess.run(["umount", "--lazy", directory], capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)
    if os.path.exists(directory + ".json"):
        os.unlink(directory + ".json")


def remove_stale(all=False):
    """Takes down sandboxes whose process is gone; with `all`, the others, too."""
    os.makedirs(STATE, exist_ok=True)
    for name in os.listdir(STATE):
        if not name.endswith(".json"):
            continue
        try:
            with open(os.path.join(STATE, name)) as file:
                record = json.load(file)
        except FileNotFoundError:
            continue  # taken down by another, just now
        lives = process_start(record["pid"]) == record["started"]
        if lives and all and record["pid"] != os.getpid():
            os.kill(record["pid"], 15)
            for _ in range(100):
                if process_start(record["pid"]) != record["started"]:
                    break
                time.sleep(0.1)
            lives = False
        if not lives:
            remove(record["prefix"])
