"""The sandbox itself: it leaves nothing behind, and its AWS is as strict as the claims made on it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from . import sandbox as module
from .conftest import until

PROGRAM = """
import signal, sys, time
# A background job of a shell starts with the interrupt ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {root!r})
from Tests.Sandbox.sandbox import Sandbox
sandbox = Sandbox()
members = sandbox.launch_group(2)
while not all(" healthy " in m.log for m in members): time.sleep(0.05)
print(sandbox.prefix, flush=True)
time.sleep(60)
"""


def traces(prefix):
    namespaces = [name for name in os.listdir("/run/netns") if name.startswith(prefix + "-")]
    with open("/proc/mounts") as file:
        mounts = [line for line in file if prefix in line]
    agents = subprocess.run(["pgrep", "-f", f"{prefix}/"], capture_output=True, text=True).stdout.split()
    files = [name for name in os.listdir(module.STATE) if name.startswith(prefix)]
    return namespaces, mounts, agents, files


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_leaves_nothing_behind_whatever_ends_it(number):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(root=module.ROOT)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=module.ROOT)
    prefix = process.stdout.readline().strip()
    assert any(traces(prefix)[0])
    os.kill(process.pid, number)
    process.wait(30)
    process.stdout.close()
    # After a kill -9 the next command clears up; after the others there is nothing to clear.
    if number in (signal.SIGKILL, signal.SIGTERM):
        module.remove_stale()
    until(lambda: traces(prefix) == ([], [], [], []), 20, lambda: traces(prefix))


def test_two_calls_a_poll_for_a_group_of_150(sandbox):
    """moto's pages hold 100 by default, as AWS's hold fewer than a group: the page size is asked for."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    for index in range(149):
        sandbox.aws.run_instance(f"eu-west-1{'ab'[index % 2]}", f"10.0.{1 + index % 2}.{30 + index // 2}", group="consul")
    sandbox.aws.calls.clear()
    started = time.time()
    result = instance.bootstrap("--dry-run", "--group", "consul")
    assert result.returncode == 0 and "150 of 150 count" in result.stdout
    assert sorted(call["action"] for call in sandbox.aws.calls) == ["DescribeAutoScalingGroups", "DescribeInstances"]
    assert time.time() - started < 30


def test_the_apis_check_signatures_and_policies(sandbox):
    """Or the other tests would prove little."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul")
    key, secret = sandbox.aws.admin
    for environment, code in (
        ({"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret[::-1]}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY", "AWS_SECRET_ACCESS_KEY": secret}, "InvalidClientTokenId"),
    ):
        result = instance.bootstrap("--dry-run", environment=environment)
        assert result.returncode == 12 and code in result.stderr, result.stderr
