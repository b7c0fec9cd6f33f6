"""`install`, `uninstall`, the completions and the manual page."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time

import pytest

from .sandbox import BINARY
from .waiting import TIMEOUT, until

SHARE = "/usr/local/share/"
DOCUMENTS = [
    SHARE + "bash-completion/completions/consul-bootstrap",
    SHARE + "zsh/site-functions/_consul-bootstrap",
    SHARE + "fish/vendor_completions.d/consul-bootstrap.fish",
    SHARE + "man/man8/consul-bootstrap.8",
]
UNITS = ["/etc/systemd/system/consul.service", "/etc/systemd/system/consul-bootstrap.service"]


@pytest.fixture
def instance(sandbox):
    """A pristine image: no user, no directories, and the binary in /root."""
    sandbox.aws.create_group("consul")
    instance = sandbox.launch(group="consul", systemd=True)
    instance.run(
        "sh",
        "-c",
        "sed -i /^consul:/d /etc/passwd /etc/group && rm -rf /etc/consul.d /opt/consul && mv "
        "/usr/local/bin/consul-bootstrap "
        "/root/",
        check=True,
    )
    return instance


def program(instance, *arguments, **keywords):
    path = (
        "/usr/local/bin/consul-bootstrap"
        if instance.exists("/usr/local/bin/consul-bootstrap")
        else "/root/consul-bootstrap"
    )
    return instance.run(path, *arguments, **keywords)


def test_install_is_idempotent_and_uninstall_reverts_it(instance):
    looked = program(instance, "install", "--dry-run")
    assert looked.returncode == 0 and "useradd" in looked.stdout and "Nothing was changed." in looked.stdout
    assert not instance.exists("/opt/consul") and "consul:" not in instance.read("/etc/passwd")
    done = program(instance, "install")
    assert done.returncode == 0, done.stderr
    assert (
        "consul:" in instance.read("/etc/passwd")
        and "/usr/sbin/nologin" in instance.read("/etc/passwd").partition("consul:")[2]
    )
    status = instance.run(
        "stat", "-c", "%U %a", "/opt/consul", "/etc/consul.d", "/var/lib/consul-bootstrap"
    ).stdout.split("\n")
    assert status[:3] == ["consul 750", "root 755", "root 755"]
    for path in [*DOCUMENTS, *UNITS, "/etc/logrotate.d/consul-bootstrap", "/usr/local/bin/consul-bootstrap"]:
        assert instance.exists(path), path
    # Nothing is started, nothing is switched on, and the units are good.
    assert instance.run("systemctl", "is-enabled", "consul", "consul-bootstrap").stdout.split() == [
        "disabled",
        "disabled",
    ]
    assert instance.run("systemd-analyze", "verify", "--recursive-errors=yes", *UNITS).returncode == 0
    again = program(instance, "install")
    assert again.returncode == 0 and again.stdout == "nothing to do: this machine is prepared\n"
    assert json.loads(program(instance, "install", "--json").stdout) == {"changes": 0}
    removed = program(instance, "uninstall")
    assert (
        removed.returncode == 0
        and "removed; what remains: /opt/consul, /var/lib/consul-bootstrap, user consul" in removed.stdout
    )
    for path in [*DOCUMENTS, *UNITS, "/etc/logrotate.d/consul-bootstrap", "/usr/local/bin/consul-bootstrap"]:
        assert not instance.exists(path), path


def test_uninstall_keeps_a_running_agent(instance):
    """`uninstall` never stops a running agent."""
    assert program(instance, "install").returncode == 0
    run = program(instance, "--expect", "1")
    assert run.returncode == 0, run.stderr
    assert instance.run("systemctl", "is-active", "consul", "consul-bootstrap").stdout.split() == ["active", "active"]
    written = {path: instance.read(path) for path in UNITS}
    assert program(instance, "install").stdout == "nothing to do: this machine is prepared\n"
    assert {path: instance.read(path) for path in UNITS} == written
    pid = instance.run("systemctl", "show", "--value", "--property=MainPID", "consul").stdout
    assert program(instance, "uninstall").returncode == 0
    assert instance.run("systemctl", "show", "--value", "--property=MainPID", "consul").stdout == pid
    until(lambda: instance.consul("/v1/status/leader"))
    assert instance.exists(UNITS[0]) and not instance.exists(UNITS[1])
    assert instance.run("systemctl", "is-active", "consul-bootstrap").stdout.strip() == "inactive"


def test_only_root_installs(instance):
    result = instance.run("/root/consul-bootstrap", "install", user=1000)
    assert result.returncode in (2, 126)  # /root is closed to others
    shutil.copyfile(BINARY, instance.path("/tmp/consul-bootstrap"))
    os.chmod(instance.path("/tmp/consul-bootstrap"), 0o755)
    result = instance.run("/tmp/consul-bootstrap", "install", user=1000)
    assert result.returncode == 2 and "install needs root" in result.stderr


def output(*arguments):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, check=True, env={}).stdout


def complete(shell, words, directory):
    """The completions of a real shell for the last word."""
    script = directory / f"completion.{shell}"
    script.write_text(output("completion", shell))
    if shell == "fish":
        command = ["fish", "--no-config", "-c", f"source {script}; complete -C '{' '.join(words)}'"]
        return [
            line.split("\t")[0]
            for line in subprocess.run(
                command, capture_output=True, text=True, check=True, env={"HOME": str(directory)}
            ).stdout.splitlines()
        ]
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _consul_bootstrap; printf "
        "'%s\\n' "
        f'"${{COMPREPLY[@]}}"'
    )
    return subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completions_complete(shell, tmp_path):
    name = "consul-bootstrap"
    assert complete(shell, [name, "do"], tmp_path) == ["doctor"]
    assert set(complete(shell, [name, "--log-r"], tmp_path)) == {"--log-retention"}
    assert sorted(complete(shell, [name, "--layout", ""], tmp_path)) == ["datacenter-per-az", "single"]
    assert sorted(complete(shell, [name, "completion", ""], tmp_path)) == ["bash", "fish", "zsh"]
    (tmp_path / "some.json").write_text("{}")
    assert [os.path.basename(c) for c in complete(shell, [name, "--config", f"{tmp_path}/some"], tmp_path)] == [
        "some.json"
    ]
    options = {line.split()[0] for line in output("--help").splitlines() if line.startswith("  --")}
    assert set(complete(shell, [name, "--"], tmp_path)) >= options


def test_zsh_completes(tmp_path):
    """zsh completes only in a terminal."""
    (tmp_path / "_consul-bootstrap").write_text(output("completion", "zsh"))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/usr/bin/zsh", ["zsh", "-f", "-i"], {"HOME": str(tmp_path), "TERM": "dumb", "PATH": "/usr/bin:/bin"})
    seen = b""

    def wait_for(word):
        nonlocal seen
        deadline = time.monotonic() + TIMEOUT
        while word not in seen and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 4096)
        assert word in seen, seen

    try:
        os.write(
            terminal,
            (
                f"PS1=; fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; bindkey '^I' complete-word; "
                "print REA''DY\n"
            ).encode(),
        )
        wait_for(b"READY")
        for line, wanted in [
            ("--layout datac", "datacenter-per-az"),
            ("doct", "doctor"),
            ("status --che", "--check"),
            ("completion fi", "completion fish"),
        ]:
            seen = b""
            os.write(terminal, f"consul-bootstrap {line}\t".encode())
            wait_for(wanted.encode())
            os.write(terminal, b"\x15")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_the_manual_page(tmp_path):
    page = tmp_path / "consul-bootstrap.8"
    page.write_text(output("man"))
    lint = subprocess.run(["mandoc", "-Tlint", "-Werror", page], capture_output=True, text=True)
    assert lint.returncode == 0 and not lint.stdout, lint.stdout
    text = subprocess.run(["mandoc", "-Tutf8", "-Owidth=200", page], capture_output=True, text=True, check=True).stdout
    plain = "".join(c for i, c in enumerate(text) if c != "\b" and text[i + 1 : i + 2] != "\b")
    for line in output("--help").splitlines():
        if line.startswith("  --"):
            assert line.split()[0] in plain
    assert "EXIT STATUS" in plain and "the group was not complete in time" in plain
