"""Network namespaces as hosts: one bridge in a namespace of its own, every host on it with its own address.

Nothing is added to the machine's own network: bridge and links are created inside the namespaces, and removed with
them.
"""

import contextlib
import ctypes
import errno
import os
import signal
import socket
import subprocess
import threading
import time

from .waiting import TIMEOUT

CLONE_NEWNET = 0x40000000
AWS_ADDRESS = "10.0.0.2"
libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def mac(address):
    """The hardware address of the interface whose primary address this is."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def processes_in(namespace):
    result = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
    return [int(pid) for pid in result.stdout.split()]


def delete_namespace(namespace):
    """Kills the processes in a namespace of the sandbox, by id, and removes it."""
    deadline = time.monotonic() + TIMEOUT
    while pids := [pid for pid in processes_in(namespace) if pid != os.getpid()]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


class Network:
    def __init__(self, prefix):
        self.prefix = prefix
        self.switch = f"{prefix}-net"
        self._count = 0
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")

    def add_host(self, name, address):
        """A namespace with `address` in 10.0.0.0/16 on the bridge; returns (namespace, port on the bridge)."""
        self._count += 1
        namespace, port = f"{self.prefix}-{name}", f"p{self._count}"
        ip("netns", "add", namespace)
        ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
        for line in (
            "link set lo up",
            "addr add 169.254.169.254/32 dev lo",
            "-6 addr add fd00:ec2::254/128 dev lo nodad",
            f"link set eth0 address {mac(address)}",
            f"addr add {address}/16 dev eth0",
            "link set eth0 up",
        ):
            ip("-n", namespace, *line.split())
        return namespace, port

    def add_interface(self, namespace, name, addresses):
        """One more interface of a host, with its addresses, each in its own /24."""
        self._count += 1
        port = f"p{self._count}"
        ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", name, "netns", namespace)
        ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
        ip("-n", namespace, "link", "set", name, "address", mac(addresses[0]))
        for address in addresses:
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", name)
        ip("-n", namespace, "link", "set", name, "up")

    def translate(self, namespace, public, private):
        """Network address translation of an internet gateway: connections to the public address reach the private
        one, and connections to public addresses come from this one."""
        ip("-n", namespace, "addr", "add", f"{public}/32", "dev", "eth0")
        ip("-n", namespace, "route", "replace", "203.0.113.0/24", "dev", "eth0")
        rules = f"""
        table ip gateway {{
          chain in {{ type nat hook prerouting priority dstnat; ip daddr {public} dnat to {private}; }}
          chain out {{ type nat hook postrouting priority srcnat; ip daddr 203.0.113.0/24 snat to {public}; }}
        }}"""
        subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=rules, text=True, check=True)

    def introduce(self, hosts):
        """Adds every host to the neighbour tables of the others: some hundred hosts that boot at once need no
        discovery.

        - hosts: namespace by address."""
        lines = "".join(f"neigh replace {address} lladdr {mac(address)} dev eth0 nud permanent\n" for address in hosts)
        for namespace in hosts.values():
            subprocess.run(
                ["ip", "-n", namespace, "-force", "-batch", "-"], input=lines, text=True, capture_output=True
            )

    def blackhole(self, namespace, block):
        ip("-n", namespace, "route", "add", "blackhole", block)

    def remove_host(self, namespace, port):
        """The link first: a namespace lives on, with its address, until the last of its sockets is closed."""
        ip("-n", self.switch, "link", "delete", port)
        delete_namespace(namespace)

    def set_link(self, port, up):
        """Down is a partition: the host runs on, and is unreachable."""
        ip("-n", self.switch, "link", "set", port, "up" if up else "down")


def enter_namespace(namespace):
    """The calling thread uses the network of a namespace from now on."""
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(handle, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(handle)


def listen(namespace, address, port, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    """A listening (or, of datagrams, bound) socket inside a namespace, for a server that runs here. Only a brief
    thread enters it."""
    result = []

    def enter():
        try:
            enter_namespace(namespace)
            server = socket.socket(family, kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # A fresh IPv6 address is tentative for a moment.
            deadline = time.monotonic() + TIMEOUT
            while True:
                try:
                    server.bind((address, port))
                    break
                except OSError as error:
                    if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            if kind == socket.SOCK_STREAM:
                server.listen(256)
            result.append(server)
        except BaseException as error:  # handed to the caller below
            result.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]
