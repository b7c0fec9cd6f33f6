"""The parts of the chaos suite that need no cluster: what an answer means, Consul's RPC, and the report."""

import itertools
import json
from types import SimpleNamespace
from xml.dom import minidom

import pytest

from . import footprints, report, rpc, workload
from .checker import check
from .forged_histories import FORGED, history
from .history import ACQUIRE, FAIL, OK, REFUSED, UNKNOWN, WRITE, Event, Operation, Sample, read, write
from .schedule import KINDS, PAUSE, schedule


@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (200, "true", OK),
        (404, "", OK),
        (403, "Permission denied", FAIL),
        (409, '{"Errors": []}', FAIL),
        (500, "No cluster leader", FAIL),
        (500, "rpc error making call: No cluster leader", FAIL),
        (500, "rpc error getting client: failed to get conn: dial tcp: connection refused", FAIL),
        (500, "leadership lost while committing log", UNKNOWN),
        (500, "rpc error making call: EOF", UNKNOWN),
        (500, "rpc error making call: stream closed", UNKNOWN),
        (500, "", UNKNOWN),
        (429, "too many", FAIL),
    ],
)
def test_only_what_was_never_given_to_raft_has_failed(status, text, outcome):
    assert workload.classify(status, text).outcome == outcome


def test_what_a_change_returns():
    answer = lambda text, status=200: workload.Answer(OK, text, status)
    assert workload.parse_boolean(answer("true"), "v") == (OK, "v", None, "")
    assert workload.parse_boolean(answer("false"), "v") == (FAIL, "v", None, REFUSED)
    assert workload.parse_boolean(answer("", 404), "v")[0] == UNKNOWN
    assert workload.parse_entry(answer("", 404), None) == (OK, None, 0, "")
    entry = json.dumps([{"Value": "MC0x", "ModifyIndex": 7}])
    assert workload.parse_entry(answer(entry), None) == (OK, "0-1", 7, "")
    done = json.dumps({"Results": [{"KV": {"ModifyIndex": 8}}]})
    assert workload.parse_transaction(answer(done), "v") == (OK, "v", 8, "")
    held = json.dumps({"Errors": [{"What": "failed to lock key, lock is already held"}]})
    assert workload.parse_transaction(answer(held, 409), "v") == (FAIL, "v", None, REFUSED)
    gone = json.dumps({"Errors": [{"What": "invalid session"}]})
    assert workload.parse_transaction(answer(gone, 409), "v") == (FAIL, "v", None, "invalid session")


# As a server of 1.8.7 answers Operator.RaftGetConfiguration, shortened.
CONFIGURATION = b"\x82\xa5Index\x00\xa7Servers\x91\x83\xa7Address\xad10.0.1.9:8300\xa2ID\xda\x00\x04abcd\xa5Voter\xc3"


def test_messagepack_of_consul_is_decoded():
    value, end = rpc.decode(CONFIGURATION)
    assert end == len(CONFIGURATION)
    assert value == {"Index": 0, "Servers": [{"Address": "10.0.1.9:8300", "ID": "abcd", "Voter": True}]}
    for short in range(len(CONFIGURATION)):
        with pytest.raises(IndexError):
            rpc.decode(CONFIGURATION[:short])
    numbers = {"a": 2**40, "b": False, "c": {"d": "e"}}
    assert rpc.decode(rpc.encode(numbers))[0] == numbers
    assert rpc.decode(b"\xff")[0] == -1 and rpc.decode(b"\xd1\xff\xfe")[0] == -2 and rpc.decode(b"\xc0")[0] is None


def test_records_survive_a_file(tmp_path):
    operation = Operation(1, ACQUIRE, "lock", "1-1", 5, 1.0, 2.0, OK, None, "a", "")
    with open(tmp_path / "file", "w") as file:
        write(file, operation)
        file.write("[1, ")
    assert read(tmp_path / "file", Operation) == [operation]


def test_the_report_shows_gaps_events_and_violations(tmp_path):
    operations = history(
        (0, WRITE, "own", "0-1", None, {"at": (0, 1)}),
        (0, WRITE, "own", "0-2", None, {"at": (3, 4)}),
        *FORGED["a register read returns what was replaced"][2],
    )
    samples = [Sample(n / 10, "i-1", "10.0.1.9", "up", "10.0.1.9:8300", ["10.0.1.9:8300"]) for n in range(40)]
    verdict = check(operations, samples)
    run = SimpleNamespace(
        directory=str(tmp_path),
        seed=7,
        count=1,
        through="clients",
        measured=[],
        bounds=[],
        footprints=SimpleNamespace(samples={}),
        events=[Event(1.0, 1.5, "kill <-9>", "i-1")],
    )
    report.write(run, "S0", operations, samples, verdict)
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["seed"] == 7 and record["events"][0]["kind"] == "kill <-9>" and record["violations"]
    picture = (tmp_path / "timeline.svg").read_text()
    minidom.parseString(picture)
    assert "no acknowledged write for 1.50 s" in picture and "10.0.1.9" in picture
    text = report.violations(verdict, operations)
    assert "linearizable: shared: a read is stale" in text and text.count("  > ") == 2


def test_the_faults_of_a_random_run_depend_on_the_seed_alone():
    faults = schedule(7, 1200)
    assert schedule(7, 1200) == faults and schedule(7, 300) == [f for f in faults if f.at < 300]
    assert schedule(8, 1200) != faults
    # Each kind is among the first; none waits for longer than the longest pause.
    assert {fault.kind for fault in faults[: len(KINDS)]} == set(KINDS)
    times = [0.0, *(fault.at for fault in faults), 1200.0]
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert min(pauses[:-1]) >= PAUSE[0] and max(pauses) <= PAUSE[1]


def test_a_fault_chooses_as_many_as_there_are_and_none_twice():
    for fault in schedule(7, 1200):
        for most in (1, 2, 5):
            chosen = fault.choose("abcde", most)
            assert 1 <= len(chosen) <= most and len(set(chosen)) == len(chosen)
        assert fault.choose([], 2) == [] and fault.choose("a", 5) == ["a"]


def test_a_sidecar_that_grows_is_found():
    def judged(memory, descriptors=lambda _: 20, seconds=600):
        samples = [(float(at), memory(at), descriptors(at), memory(at)) for at in range(0, seconds, 5)]
        summaries = footprints.summaries({("10.0.1.9", 1): samples})
        return summaries and bool(footprints.growing(summaries))

    flat = lambda _: 17.0
    assert judged(flat) is False
    # At its start, and in single calls.
    assert judged(lambda at: 10.0 if at < 50 else 17.0) is False
    assert judged(lambda at: 23.0 if at % 50 == 0 else 17.0, lambda at: 26 if at % 50 == 0 else 20) is False
    assert judged(lambda at: 17 + at / 100) is True
    assert judged(flat, lambda at: 20 + at // 60) is True
    assert judged(lambda _: 25.0) is True
    # Too short a life.
    assert judged(lambda at: 17 + at / 100, seconds=120) == []
