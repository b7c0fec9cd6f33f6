"""Output on a terminal, and in a log."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from .sandbox import BINARY
from .waiting import TIMEOUT

CSI = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul", desired=3)
    return sandbox.launch(group="consul")


def at_terminal(command, columns=80, until=None):
    """Everything that a command writes to a terminal so wide; ended once `until`, a pattern, has appeared."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    seen, deadline = b"", time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and not (until and re.search(until, seen)):
        if select.select([controller], [], [], 0.2)[0]:
            try:
                data = os.read(controller, 4096)
            except OSError:
                break
            if not data:
                break
            seen += data
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.wait(TIMEOUT)
    os.close(controller)
    return seen


def run(instance, *options, environment=None, **keywords):
    command = instance.command(
        ["/usr/local/bin/consul-bootstrap", *options], environment={"TERM": "xterm", **(environment or {})}
    )
    return at_terminal(command, **keywords)


def test_progress_stays_on_one_line_and_inside_the_width(instance):
    seen = run(instance, "--expect", "3", columns=60, until=rb"\x1b\[K([4-9]|\d\d)\.")
    waiting = [line for line in seen.split(b"\r") if b"waiting for the group" in line]
    assert len(waiting) >= 3, seen
    for line in waiting:
        text = CSI.sub(b"", line).rstrip(b"\n")
        assert len(text.decode()) < 60
    # Each update is a carriage return and an erasure, not a newline.
    assert not re.search(rb"waiting for the group[^\r]*\n[^\r]*waiting for the group", seen)


def test_a_terminal_shows_no_json(instance):
    seen = run(instance, "--expect", "1", "--start", "none", "--lifecycle-hook", "ready").decode()
    assert (
        f"this is {instance.id} (address: {instance.address}; zone: eu-west-1a)" in seen
        and "decision: new cluster (evidence: this is the only member)" in seen
    )
    assert not re.search(r'[\[{"]', CSI.sub(b"", seen.encode()).decode()), seen


def test_colours_on_a_terminal_only(instance):
    coloured = run(instance, "doctor", "--expect", "3")
    assert b"\x1b[31mproblem\x1b[0m" in coloured and b"\x1b[32mok\x1b[0m" in coloured
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"CI": "true"}):
        assert b"\x1b[3" not in run(instance, "doctor", "--expect", "3", environment=environment), environment
    plain = instance.bootstrap("doctor", "--expect", "3", environment={"TERM": "xterm"})
    assert "\x1b" not in plain.stdout + plain.stderr and "problem group: 1 of 3 servers are eligible" in plain.stdout


def test_a_log_has_complete_lines_with_times(instance):
    """As in cloud-init's, which is no terminal."""
    result = instance.bootstrap("--expect", "3", "--wait-timeout", "3s")
    assert result.returncode == 13 and "\x1b" not in result.stderr and "\r" not in result.stderr
    records = [line for line in result.stderr.splitlines() if not line.startswith(("consul-bootstrap:", " "))]
    assert records and all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warning) ", line) for line in records
    )
    # The error is at the end: what failed, the exact cause, and what to do.
    tail = result.stderr[result.stderr.index("consul-bootstrap: error:") :].splitlines()
    assert tail[0].endswith("1 of 3 servers") and tail[-1].strip().startswith("hint: ")


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_help_is_as_wide_as_the_terminal(columns):
    text = at_terminal([BINARY, "--help"], columns=columns).decode().replace("\r\n", "\n")
    long = [
        line for line in text.splitlines() if len(line) > columns and line.startswith(" " * 8) and len(line.split()) > 1
    ]
    assert not long, long
    assert max(len(line) for line in text.splitlines()) <= max(columns, 100)
