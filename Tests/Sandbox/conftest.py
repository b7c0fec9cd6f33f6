import time

import pytest

from .sandbox import Sandbox


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


def until(condition, seconds=30, what=None):
    """Waits until the condition holds; what it returned. Fails the test after so many seconds."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what or condition}")


def healthy(*members, seconds=40):
    """Waits until every member's user-data has proven its health."""
    until(
        lambda: all(" healthy leader=" in m.log or m.status is not None for m in members),
        seconds,
        lambda: "\n".join(f"--- {m.id} {m.address}\n{m.log[-2500:]}" for m in members if " healthy " not in m.log),
    )
    for member in members:
        assert " healthy leader=" in member.log, f"{member.id} ended with {member.status}\n{member.log[-4000:]}"


def wan(member):
    """Addresses of the living members of the WAN pool."""
    return sorted(m["Addr"] for m in member.consul("/v1/agent/members?wan=1") or [] if m["Status"] == 1)


def servers(member):
    """Addresses of the living servers that an agent knows."""
    return sorted(m["Addr"] for m in member.consul("/v1/agent/members") or [] if m["Status"] == 1 and m["Tags"]["role"] == "consul")


def peers(member):
    return sorted(member.consul("/v1/status/peers") or [])
