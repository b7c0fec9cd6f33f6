"""An instance: a network namespace, a metadata service, a file system over the image, and processes of its own."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import time

from . import host, network, power
from .aws import ACCOUNT, REGION
from .waiting import TIMEOUT, until

BOOT = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$IMAGE,upperdir=$DIR/upper,workdir=$DIR/work" "$DIR/root"
"""

PLAIN_BOOT = (
    BOOT
    + """
mount -t proc proc "$DIR/root/proc"
mount -t sysfs sysfs "$DIR/root/sys"
if [ -n "$CGROUPS" ]; then mount --rbind /sys/fs/cgroup "$DIR/root/sys/fs/cgroup"; fi
mount --rbind /dev "$DIR/root/dev"
for directory in dev/shm run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$DIR/root/$directory"; done
chmod 755 "$DIR/root/run"
for path in $VISIBLE; do
  mkdir -p "$DIR/root$path"
  mount --bind -o ro "$path" "$DIR/root$path"
done
hostname "$NAME"
exec chroot "$DIR/root" /bin/sh -c '
  cd /
  sleep infinity &
  until [ "$(cat /proc/$!/comm)" = sleep ]; do :; done
  : > /run/booted
  if [ -f /var/lib/cloud/user-data ]; then
    ( /var/lib/cloud/user-data > /var/log/cloud-init-output.log 2>&1; echo $? > /var/lib/cloud/status ) &
  fi
  wait'
"""
)

SYSTEMD_BOOT = (
    BOOT
    + """
for group in $CGROUPS; do
  mkdir -p "$group"
  echo 0 > "$group/cgroup.procs"
done
exec systemd-nspawn --quiet --register=no --keep-unit --machine="$MACHINE" --directory="$DIR/root" \\
  --network-namespace-path="/run/netns/$NAMESPACE" --resolv-conf=off --timezone=off --link-journal=no --boot
"""
)

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Run(subprocess.Popen):
    """A command that runs inside an instance. Its output is a file, which can be read at any time."""

    def __init__(self, command, log):
        self.log = log
        with open(log, "wb") as file:
            super().__init__(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)

    @property
    def output(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def finish(self):
        """Waits for its end; returns its output."""
        self.wait(TIMEOUT)
        return self.output

    def signal(self, number):
        """Sends a signal to the command itself, which is the one child of nsenter; returns whether it still ran."""
        child = until(lambda: self._child() or self.poll() is not None, every=0.005)
        if self.poll() is not None:
            return False
        os.kill(child, number)
        return True

    def _child(self):
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            return next(map(int, file.read().split()), None)


class Instance:
    def __init__(self, sandbox, id, zone, address, namespace, port, metadata, systemd, docker=False, image=None):
        self.sandbox, self.id, self.zone, self.address = sandbox, id, zone, address
        self.namespace, self.port, self.metadata, self.systemd = namespace, port, metadata, systemd
        self.docker, self.image = docker, image
        self.directory = os.path.join(sandbox.directory, id)
        for name in ("upper", "work", "root"):
            os.makedirs(os.path.join(self.directory, name))
        self.process = None
        self.pid = None
        # Whether its end was asked for from outside.
        self.is_ending = False
        self._runs = 0

    @property
    def cgroup(self):
        """The name of its control group, in every hierarchy."""
        return f"{self.sandbox.prefix}-{self.id}"

    @staticmethod
    def documents(id, zone, address, vpc):
        mac = network.mac(address)
        identity = {
            "accountId": ACCOUNT,
            "architecture": "x86_64",
            "availabilityZone": zone,
            "imageId": "ami-12345678",
            "instanceId": id,
            "instanceType": "t3.micro",
            "pendingTime": "2026-01-01T00:00:00Z",
            "privateIp": address,
            "region": REGION,
            "version": "2017-09-30",
        }
        return {
            "/latest/dynamic/instance-identity/document": json.dumps(identity, indent=2),
            "/latest/meta-data/mac": mac,
            f"/latest/meta-data/network/interfaces/macs/{mac}/vpc-id": vpc,
            "/latest/meta-data/instance-id": id,
            "/latest/meta-data/local-ipv4": address,
            "/latest/meta-data/placement/availability-zone": zone,
            "/latest/meta-data/placement/availability-zone-id": f"euw1-az{ord(zone[-1]) - ord('a') + 1}",
            f"/latest/meta-data/network/interfaces/macs/{mac}/vpc-ipv4-cidr-blocks": "10.0.0.0/16",
        }

    def set_interfaces(self, *interfaces):
        """Each a dictionary: `privates` (the primary one first), `publics` (public to private), `kind`. The first
        one is eth0."""
        documents, base, macs, items = self.metadata.documents, "/latest/meta-data/network/interfaces/macs/", [], ""
        for device, interface in enumerate(interfaces):
            privates, publics = interface["privates"], interface.get("publics", {})
            address = network.mac(self.address if device == 0 else privates[0])
            macs.append(address + "/")
            documents[f"{base}{address}/device-number"] = str(device)
            documents[f"{base}{address}/local-ipv4s"] = "\n".join(privates)
            if publics:
                documents[f"{base}{address}/ipv4-associations/"] = "\n".join(publics)
            for public, private in publics.items():
                documents[f"{base}{address}/ipv4-associations/{public}"] = private
                documents.setdefault("/latest/meta-data/public-ipv4", public)
            if device > 0:
                self.sandbox.network.add_interface(self.namespace, f"eth{device}", privates)
            else:
                for extra in privates[1:]:
                    network.ip("-n", self.namespace, "addr", "add", f"{extra}/16", "dev", "eth0")
            translated = {private: public for public, private in publics.items()}
            addresses = "".join(
                f"<item><privateIpAddress>{a}</privateIpAddress><primary>"
                f"{'true' if a == privates[0] else 'false'}</primary>"
                + (f"<association><publicIp>{translated[a]}</publicIp></association>" if a in translated else "")
                + "</item>"
                for a in privates
            )
            items += (
                f"<item><macAddress>{address}</macAddress><attachment><deviceIndex>{device}</deviceIndex></attachment>"
                f"<interfaceType>{interface.get('kind', 'interface')}</interfaceType><privateIpAddressesSet>"
                f"{addresses}</privateIpAddressesSet>"
                "</item>"
            )
        documents[base] = "\n".join(macs)
        self.sandbox.aws.interfaces[self.id] = (documents.get("/latest/meta-data/public-ipv4"), items)

    def path(self, path):
        """The path of an instance's file on this machine. (Its layer must not be written to while it is mounted.)"""
        if self.pid:
            return f"/proc/{self.pid}/root{path}"
        return os.path.join(self.directory, "upper", path.lstrip("/"))

    def _seed(self, user_data):
        """For cloud-init, which the image has switched off: its NoCloud data source, found in a directory."""
        with_seed = self.path("/var/lib/cloud/seed/nocloud")
        os.makedirs(with_seed, exist_ok=True)
        for name, text in (("user-data", user_data), ("meta-data", f"instance-id: {self.id}\n")):
            with open(os.path.join(with_seed, name), "w") as file:
                file.write(text)
        switch = self.path("/etc/cloud/cloud-init.disabled")
        os.makedirs(self.path("/etc/cloud/cloud.cfg.d"), exist_ok=True)
        # The sandbox configures the network; users, keys, locales and packages are not part of the tests.
        with open(self.path("/etc/cloud/cloud.cfg.d/90-sandbox.cfg"), "w") as file:
            file.write(
                "datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\n"
                "cloud_init_modules: [write-files]\ncloud_config_modules: [runcmd]\ncloud_final_modules: "
                "[scripts-user]\n"
            )
        if not os.path.lexists(switch):
            os.mknod(switch, stat.S_IFCHR | 0o600, 0)  # a whiteout: the overlay hides the file

    def cloud_init(self):
        """Waits for cloud-init; returns its status, as `cloud-init status` prints it."""
        return self.run("cloud-init", "status", "--wait", "--long")

    def boot(self, user_data=None):
        self.is_ending = False
        if self.systemd and user_data:
            self._seed(user_data)
            user_data, has_cloud_init = None, True
        else:
            has_cloud_init = False
        script = self.path("/var/lib/cloud/user-data")
        os.makedirs(os.path.dirname(script), exist_ok=True)
        for old in (script, self.path("/var/lib/cloud/status"), self.path("/var/log/cloud-init-output.log")):
            if os.path.exists(old):
                os.unlink(old)
        if user_data:
            with open(script, "w") as file:
                file.write(user_data)
            os.chmod(script, 0o755)
        # A journal that outlives the machine.
        keeps_journal = self.systemd and self.sandbox.kept_logs
        os.makedirs(self.path("/var/log/journal" if keeps_journal else "/var/log"), exist_ok=True)
        image = self.image or (
            self.sandbox.systemd_image
            if self.systemd
            else self.sandbox.docker_image
            if self.docker
            else self.sandbox.image
        )
        variables = dict(
            ENVIRONMENT,
            DIR=self.directory,
            IMAGE=image,
            NAME="ip-" + self.address.replace(".", "-"),
            MACHINE=self.id,
            NAMESPACE=self.namespace,
            VISIBLE=" ".join(self.sandbox.visible),
            CGROUPS=" ".join(host.cgroups(self.cgroup)) if self.systemd or self.docker else "",
        )
        # systemd-nspawn creates its own namespaces, and enters the network one by its path. (`ip netns exec` would hide
        # the cgroups.)
        command = (
            ["unshare", "--mount"]
            if self.systemd
            else [
                "nsenter",
                f"--net=/run/netns/{self.namespace}",
                "unshare",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
            ]
        )
        console = os.path.join(self.directory, "console.log")
        with open(console, "ab") as file:
            self.process = subprocess.Popen(
                [*command, "/bin/sh", "-c", SYSTEMD_BOOT if self.systemd else PLAIN_BOOT],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            self.pid = self._find_init(has_cloud_init)
            if self.pid:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        with open(console, errors="replace") as file:
            raise RuntimeError(f"{self.id} did not boot, status {self.process.poll()}: {file.read()}")

    def _find_init(self, has_cloud_init):
        """The first process inside, once its root is the instance's."""
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
                children = file.read().split()
            if not children:
                return None
            pid = int(children[0])
            if self.systemd:
                result = subprocess.run(
                    ["nsenter", "-t", str(pid), "-a", "systemctl", "is-system-running"], capture_output=True, text=True
                )
                # Its user-data may wait for others that are not booted yet.
                return (
                    pid
                    if result.stdout.strip() in ("running", "degraded", *(["starting"] if has_cloud_init else []))
                    else None
                )
            return pid if os.path.exists(f"/proc/{pid}/root/run/booted") else None
        except OSError:
            return None

    def command(self, arguments, user=None, environment=None):
        variables = [f"{k}={v}" for k, v in dict(ENVIRONMENT, **(environment or {})).items()]
        enter = ["nsenter", "-t", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--root"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user is not None else []
        return [*enter, *become, "env", "-i", "--chdir=/", *variables, *arguments]

    def run(self, *arguments, timeout=TIMEOUT, check=False, **options):
        """Runs a command inside; returns the completed process, with text output."""
        result = subprocess.run(
            self.command(arguments, **options),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and result.returncode:
            raise AssertionError(f"{' '.join(arguments)}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def start(self, *arguments, **options):
        """Starts a command inside; returns a `Run`."""
        self._runs += 1
        return Run(self.command(arguments, **options), os.path.join(self.directory, f"run-{self._runs}.log"))

    def bootstrap(self, *options, **keywords):
        return self.run("/usr/local/bin/consul-bootstrap", *options, **keywords)

    def start_bootstrap(self, *options, **keywords):
        return self.start("/usr/local/bin/consul-bootstrap", *options, **keywords)

    def signal_run(self, number):
        """Sends a signal to the run that holds the lock: the one of the user-data."""
        script = f"kill -{int(number)} $(cat /var/lib/consul-bootstrap/lock)"
        return self.run("/bin/sh", "-c", script).returncode == 0

    def read(self, path):
        with open(self.path(path)) as file:
            return file.read()

    def write(self, path, text, mode=0o644):
        target = self.path(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w") as file:
            file.write(text)
        os.chmod(target, mode)

    def lookup(self, name):
        """The addresses of a name, as the resolver of the instance finds them."""
        code = "import sys,socket;print(*{a[4][0] for a in socket.getaddrinfo(sys.argv[1],None,socket.AF_INET)})"
        return self.run("/usr/bin/python3", "-c", code, name).stdout.split()

    def exists(self, path):
        return os.path.exists(self.path(path))

    @property
    def log(self):
        return self.read("/var/log/cloud-init-output.log") if self.exists("/var/log/cloud-init-output.log") else ""

    def keep_log(self, directory):
        with open(os.path.join(directory, f"{self.address}.log"), "w") as file:
            file.write(self.log)
            if self.systemd:
                file.write(self.journal)

    @property
    def journal(self):
        """Of a systemd instance in a test that keeps the logs, also after its end."""
        reader = ["journalctl", "--quiet", "--no-pager", "--output=short-iso-precise"]
        command = [*reader, f"--directory={self.path('/var/log/journal')}"]
        return subprocess.run(command, capture_output=True, text=True, errors="replace").stdout

    @property
    def status(self):
        """Exit status of the user-data script; None while it runs."""
        # It is there before it is written.
        text = self.read("/var/lib/cloud/status") if self.exists("/var/lib/cloud/status") else ""
        return int(text) if text else None

    @property
    def configuration(self):
        return json.loads(self.read("/etc/consul.d/00-consul-bootstrap.json"))

    def consul(self, path):
        """The answer of the agent's HTTP API, or None."""
        code = "import sys,urllib.request;print(urllib.request.urlopen(sys.argv[1],timeout=30).read().decode())"
        result = self.run("/usr/bin/python3", "-c", code, f"http://127.0.0.1:8500{path}")
        return json.loads(result.stdout) if result.returncode == 0 else None

    def resident(self):
        """MiB of memory that the run which supervises the agent has now."""
        script = "grep -h VmRSS /proc/$(pgrep -x consul-bootstra | head -1)/status"
        return int(self.run("sh", "-c", script).stdout.split()[1]) / 1024

    def kill(self):
        """A power failure: kills every process at once."""
        if self.process is None:
            return
        self.is_ending = True
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._is_off()

    def power_off(self):
        """An orderly shutdown, for a systemd instance."""
        self.is_ending = True
        os.kill(self.pid, signal.SIGRTMIN + 4)
        self.process.wait(TIMEOUT)
        self._is_off()

    def restart(self):
        """An orderly reboot, for a systemd instance."""
        self.is_ending = True
        os.kill(self.pid, signal.SIGRTMIN + 5)
        until(lambda: not os.path.exists(f"/proc/{self.pid}"))
        # systemd-nspawn would boot it again by itself.
        self.kill()
        self.boot()

    def shut_down(self, grace, cancelled):
        """What EC2 does to a machine that it terminates: the power button, as systemd-logind gets it, and after
        `grace` seconds the power.

        Without systemd: SIGTERM to the programs that nothing of the instance supervises.
        - cancelled: an event that ends the grace."""
        if self.process is None:
            return
        self.is_ending = True
        signals = {self.pid: signal.SIGRTMIN + 4}
        if not self.systemd:
            # Unless it is off already.
            with contextlib.suppress(FileNotFoundError):
                signals = dict.fromkeys(self._programs(), signal.SIGTERM)
        power.await_end(power.open_processes(signals), cancelled, grace)
        self.kill()

    def _programs(self):
        """The user data and whatever else was started, without what these have started, in a plain instance."""
        space, found = os.readlink(f"/proc/{self.pid}/ns/pid"), {}
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(f"{entry.path}/ns/pid") == space:
                    with open(f"{entry.path}/stat") as file:
                        parent = int(file.read().rpartition(")")[2].split()[1])
                    with open(f"{entry.path}/cmdline") as file:
                        found[int(entry.name)] = (parent, file.read())
        # The shell that boots it, and its copy that waits for the user data.
        shells = {pid for pid, (_, line) in found.items() if line == found[self.pid][1]}
        return [
            pid
            for pid, (parent, line) in found.items()
            if pid not in shells
            and (parent in shells or parent not in found)
            and not (parent == self.pid and line == "sleep\0infinity\0")
        ]

    def _is_off(self):
        self.process = self.pid = None
        if self.systemd or self.docker:
            host.remove_cgroups(self.cgroup)

    def reboot(self, user_data=None):
        self.kill()
        self.boot(user_data)
