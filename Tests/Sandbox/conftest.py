"""What every test uses: the region, and waiting for its instances."""

import sys

import pytest

from . import host
from .sandbox import FILES, Sandbox
from .waiting import until


def pytest_configure(config):
    """Once, before the workers start: one clear error in place of one from each test."""
    config.addinivalue_line("markers", "long: takes minutes, for the most part inside Consul (make sandbox-long)")
    config.addinivalue_line("markers", "chaos: kills and cuts a cluster under load (make chaos)")
    if config.option.collectonly or hasattr(config, "workerinput"):
        return
    try:
        host.require(FILES)
    except host.HostError as error:
        raise pytest.UsageError(str(error)) from None
    config.raised_limits = host.Limits().hold()


def pytest_report_header(config):
    raised = getattr(config, "raised_limits", {})
    return [f"raised {name} from {before} to {now} for these tests" for name, (before, now) in raised.items()]


def pytest_unconfigure(config):
    if hasattr(config, "raised_limits"):
        for name, value in host.Limits().release().items():
            print(f"restored {name} to {value}", file=sys.stderr)


@pytest.fixture(scope="session")
def region():
    sandbox = Sandbox()
    yield sandbox
    sandbox.down()


@pytest.fixture
def sandbox(region):
    region.clear()
    yield region
    region.clear()


def healthy(*members):
    """Waits until the user-data of every member has reported its health."""
    until(
        lambda: all(" healthy leader=" in m.log or m.status is not None for m in members),
        lambda: "\n".join(f"--- {m.id} {m.address}\n{m.log[-2500:]}" for m in members if " healthy " not in m.log),
    )
    for member in members:
        assert " healthy leader=" in member.log, f"{member.id} ended with {member.status}\n{member.log[-4000:]}"


def wan(member):
    """Addresses of the living members of the WAN pool."""
    return sorted(m["Addr"] for m in member.consul("/v1/agent/members?wan=1") or [] if m["Status"] == 1)


def servers(member):
    """Addresses of the living servers that an agent knows."""
    found = member.consul("/v1/agent/members") or []
    return sorted(m["Addr"] for m in found if m["Status"] == 1 and m["Tags"]["role"] == "consul")


def peers(member):
    return sorted(member.consul("/v1/status/peers") or [])
