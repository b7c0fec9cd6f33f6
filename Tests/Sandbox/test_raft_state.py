"""What raft left in a data directory decides whether a new cluster may be formed."""

import os
import struct

import pytest

from .conftest import healthy

RAFT = "/opt/consul/raft"


@pytest.fixture
def instance(sandbox):
    sandbox.aws.create_group("consul")
    return sandbox.launch(group="consul")


def page(number, flags, count, body):
    return (struct.pack("<QHHI", number, flags, count, 0) + body).ljust(4096, b"\0")


def leaf(elements):
    """The elements of a leaf page, each of a flag, a key and a value."""
    table = data = b""
    for index, (flag, key, value) in enumerate(elements):
        position = (len(elements) - index) * 16 + len(data)
        table += struct.pack("<IIII", flag, position, len(key), len(value))
        data += key + value
    return table + data


def bucket(*elements):
    return bytes(16) + struct.pack("<QHHI", 0, 2, len(elements), 0) + leaf(elements)


def meta(number, transaction):
    fields = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, 4096, 0, 2, 0, 2**64 - 1, 3, transaction)
    checksum = 0xCBF29CE484222325
    for byte in fields:
        checksum = (checksum ^ byte) * 0x100000001B3 % 2**64
    return page(number, 4, 0, fields + struct.pack("<Q", checksum))


def write_ahead_log(instance, entry=False):
    """`raft/wal` as raft-wal 0.4 leaves it after its first open: a database, and a segment that may have an entry."""
    state = (
        b'{"NextSegmentID":1,"Segments":[{"ID":0,"BaseIndex":1,"MinIndex":1,"MaxIndex":0,"Codec":1,"IndexStart":0,'
        b'"CreateTime":"2026-11-25T17:45:01Z","SealTime":"0001-01-01T00:00:00Z","SizeLimit":67108864}]}'
    )
    stable = bucket((0, b"CurrentTerm", bytes(8)))
    buckets = leaf([(1, b"stable", stable), (1, b"wal-meta", bucket((0, b"m", state)))])
    directory = instance.path(f"{RAFT}/wal")
    os.makedirs(directory)
    with open(f"{directory}/wal-meta.db", "wb") as file:
        file.write(meta(0, 2) + meta(1, 3) + page(2, 2, 2, buckets))
    with open(f"{directory}/{1:020d}-{0:016x}.wal", "wb") as file:
        file.truncate(64 << 20)
        if entry:
            header = struct.pack("<QQQQ", 0x58EB6B0D, 1, 0, 1)
            file.write(header + struct.pack("<BxxxI", 1, 8) + bytes(8) + struct.pack("<BxxxI", 3, 0))


def decision(instance):
    result = instance.bootstrap("--expect", "1", "--start", "none", "--keep-data", "--dry-run", timeout=30)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_write_ahead_log_without_an_entry_lets_a_cluster_form(instance):
    write_ahead_log(instance)
    assert "new cluster" in decision(instance)
    # Consul 1.8.7 does not use it.
    instance.reboot("#!/bin/sh\nexec consul-bootstrap --expect 1 --keep-data\n")
    healthy(instance)
    assert instance.run("consul", "kv", "put", "precious", "data").returncode == 0


def test_a_write_ahead_log_with_an_entry_is_raft_state(instance):
    write_ahead_log(instance, entry=True)
    assert f"{RAFT}/wal contains raft state" in decision(instance)


def test_a_flipped_bit_in_the_database_of_a_server_never_forms_a_new_cluster(instance):
    instance.reboot("#!/bin/sh\nexec consul-bootstrap --expect 1\n")
    healthy(instance)
    instance.reboot()
    path = instance.path(f"{RAFT}/raft.db")
    with open(path, "rb") as file:
        valid = file.read()
    transactions = [struct.unpack_from("<Q", valid, start + 16 + 48)[0] for start in (0, 4096)]
    newer = transactions.index(max(transactions)) * 4096
    root = struct.unpack_from("<Q", valid, newer + 16 + 16)[0] * 4096
    # The checksum of the newer meta page, its root, and the root's type, count and first elements.
    for offset in (newer + 72, newer + 32, root + 8, root + 10, root + 16, root + 20, root + 36, root + 48):
        with open(path, "wb") as file:
            file.write(valid[:offset] + bytes([valid[offset] ^ 1]) + valid[offset + 1 :])
        text = decision(instance)
        assert "rejoin with the state on this machine" in text and "a new cluster" not in text, (offset, text)


def test_a_pipe_or_a_link_in_the_place_of_the_database_does_not_block(instance):
    path = instance.path(f"{RAFT}/raft.db")
    os.makedirs(os.path.dirname(path))
    os.mkfifo(path)
    assert f"{RAFT}/raft.db is not a regular file" in decision(instance)
    os.unlink(path)
    os.symlink("/dev/zero", path)
    assert f"{RAFT}/raft.db is a symbolic link" in decision(instance)
