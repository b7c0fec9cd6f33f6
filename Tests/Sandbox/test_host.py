"""What the sandbox requires of the machine is checked first; limits that it raises are restored."""

import os
import subprocess
import sys

import pytest

from . import host
from .sandbox import FILES, ROOT


@pytest.fixture
def limits(tmp_path):
    """One limit that is too low, one that is high enough, and one that this kernel does not have."""
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs" / "low").write_text("128\n")
    (tmp_path / "fs" / "high").write_text("9000\n")

    def make():
        wanted = {"fs.low": 1024, "fs.high": 1024, "fs.missing": 1024}
        return host.Limits(wanted, directory=str(tmp_path / "run"), root=str(tmp_path))

    make.value = lambda: int((tmp_path / "fs" / "low").read_text())
    make.write = lambda value: (tmp_path / "fs" / "low").write_text(f"{value}\n")
    make.path = tmp_path
    return make


HOLD = """
import sys
from Tests.Sandbox import host
limits = host.Limits({{"fs.low": 1024}}, directory={directory!r}, root={root!r})
print(limits.hold(), flush=True)
sys.stdin.read()
limits.release()
"""


def holder(limits):
    """Another process that holds the limit until its input ends."""
    code = HOLD.format(directory=str(limits.path / "run"), root=str(limits.path))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    process.raised = process.stdout.readline().strip()
    return process


def test_a_limit_is_raised_and_restored(limits):
    assert limits().problems() == [] and limits.value() == 128
    assert limits().hold() == {"fs.low": (128, 1024)} and limits.value() == 1024
    assert limits().release() == {"fs.low": 128} and limits.value() == 128


def test_the_last_of_several_restores_it(limits):
    other = holder(limits)
    assert other.raised == "{'fs.low': (128, 1024)}"
    assert limits().hold() == {}
    other.communicate("")
    assert limits.value() == 1024
    assert limits().release() == {"fs.low": 128} and limits.value() == 128


def test_one_that_was_killed_holds_nothing(limits):
    other = holder(limits)
    other.kill()
    other.communicate()
    assert limits.value() == 1024 and limits().hold() == {}
    assert limits().release() == {"fs.low": 128}


def test_what_others_have_changed_meanwhile_is_kept(limits):
    limits().hold()
    limits.write(4096)
    assert limits().release() == {} and limits.value() == 4096


def test_a_limit_that_cannot_be_raised_is_a_problem(limits, monkeypatch):
    def refuse(self, name, value):
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(host.Limits, "_write", refuse)
    assert limits().problems() == [
        "fs.low is 128, 1024 is needed, and raising it failed (Read-only file system): sysctl -w fs.low=1024 on "
        "the "
        "host"
    ]


def test_everything_that_is_missing_is_in_one_error(monkeypatch):
    monkeypatch.setitem(host.PROGRAMS, "imaginary", ["no-such-program"])
    with pytest.raises(host.HostError) as error:
        host.require({"/nowhere/binary": "make static"})
    assert str(error.value).splitlines() == [
        "this machine cannot run the sandbox:",
        "  - no-such-program not found: install the package imaginary (make deps-sandbox does)",
        "  - /nowhere/binary does not exist: make static",
    ]


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("MEMORY_MIB", 1 << 30, "MiB of memory are available, 1073741824 are needed"),
        ("DISK_MIB", 1 << 40, "MiB are free at "),
        (
            "PROBE",
            "raise SystemExit('unknown filesystem type overlay')",
            "no overlay on tmpfs (unknown filesystem type",
        ),
        ("cgroups", lambda name="": [], "no writable cgroup hierarchy"),
    ],
)
def test_what_the_machine_lacks_is_a_problem(monkeypatch, name, value, words):
    assert host.problems(FILES) == []
    monkeypatch.setattr(host, name, value)
    assert any(words in problem for problem in host.problems(FILES))


def test_without_root_that_is_the_one_problem(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert host.problems(FILES) == ["mounts and namespaces need root: run it as root, in a container with --privileged"]


def test_pytest_ends_with_the_one_error():
    """Not with an error for each test."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "Tests/Sandbox/test_host.py", "-k", "without_root", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/nonexistent"},
    )
    assert result.returncode == pytest.ExitCode.USAGE_ERROR and result.stdout == ""
    assert result.stderr.splitlines()[0] == "ERROR: this machine cannot run the sandbox:", result.stderr
    assert "unshare, nsenter, setpriv not found: install the package util-linux" in result.stderr


def test_a_process_that_has_ended_counts_as_gone_before_its_parent_reaps_it():
    """The demo is the parent of its sandbox: it waited for minutes for its end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert host.process_start(process.pid)
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert host.process_start(process.pid) is None
    finally:
        process.kill()
        process.wait()
