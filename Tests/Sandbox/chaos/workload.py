"""The load: threads that write, compare, read and lock through agents, and record each operation. A process of its own,
controlled by lines of JSON on standard input.

    {"output": PATH, "seed": N, "threads": 8, "rate": 6, "through": "clients" or "servers"}
    {"targets": [{"name": ID, "namespace": NAMESPACE}, ...]}
    {"finish": [TARGET, ...]}     ends the load, and reads every key through each of these

Through clients, a thread uses one agent; through servers, each operation uses a random one.
"""

import base64
import http.client
import json
import random
import sys
import threading
import time

from .. import network
from . import history
from .history import ACQUIRE, CAS, FAIL, FINAL, OK, READ, REFUSED, RELEASE, STALE, UNKNOWN, WRITE

PREFIX = "chaos"
OWN_KEYS = 20
SHARED_KEYS = 5
# A client's RPCs wait 7 s for a leader.
TIMEOUT = 10.0
CONNECT_TIMEOUT = 2.0
# An HTTP 500 with one of these: nothing was given to raft. Any other may have taken effect.
NOT_SENT = (
    "No cluster leader",
    "failed to get conn",
    "No known Consul servers",
    "node is not the leader",
    "not ready to serve consistent reads",
)
# Kinds of operations and how many of a hundred they are. `transaction` is a write that learns its index.
MIX = {WRITE: 30, "transaction": 15, CAS: 15, READ: 20, STALE: 12, "lock": 8}


class Answer:
    """The outcome of one request.

    - refused: the connection was, so that nothing was sent."""

    def __init__(self, outcome, body="", status=0, error=""):
        self.outcome, self.body, self.status, self.error = outcome, body, status, error

    @property
    def json(self):
        return json.loads(self.body) if self.body else None


class Agent:
    """The HTTP API of an agent on the loopback of its namespace, which the calling thread enters."""

    def __init__(self):
        self._entered = None

    def request(self, target, method, path, body=None, timeout=TIMEOUT):
        connection = http.client.HTTPConnection("127.0.0.1", 8500, timeout=CONNECT_TIMEOUT)
        try:
            if self._entered != target["namespace"]:
                network.enter_namespace(target["namespace"])
                self._entered = target["namespace"]
            connection.connect()
        except OSError as error:
            return Answer(FAIL, error=str(error) or "no connection")
        try:
            connection.sock.settimeout(timeout)
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return Answer(UNKNOWN, error=str(error) or type(error).__name__)
        finally:
            connection.close()
        return classify(response.status, text)


def classify(status, text):
    if status in (200, 404):
        return Answer(OK, text, status)
    is_definite = status < 500 or any(reason in text for reason in NOT_SENT)
    return Answer(FAIL if is_definite else UNKNOWN, text, status, text.strip() or str(status))


class Worker(threading.Thread):
    def __init__(self, number, load):
        super().__init__(daemon=True)
        self.number, self.load = number, load
        self.random = random.Random(f"{load.seed}/{number}")
        self.agent = Agent()
        # By key: its index, as this thread has seen it last.
        self.indexes = {}
        self._counter = 0
        # The session of the lock, and those that may live on.
        self._session = None
        self._abandoned = []

    def run(self):
        while not self.load.ended.wait(self.random.expovariate(self.load.rate)):
            kind = self.random.choices(list(MIX), MIX.values())[0]
            getattr(self, kind)()
        self._destroy_sessions(final=True)

    def _choose(self):
        targets = self.load.targets
        return self.random.choice(targets) if self.load.through_servers else targets[self.number % len(targets)]

    def _key(self):
        if self.random.random() < 0.6:
            return f"{PREFIX}/own/{self.number}/{self.random.randrange(OWN_KEYS)}"
        return f"{PREFIX}/shared/{self.random.randrange(SHARED_KEYS)}"

    def _value(self):
        self._counter += 1
        return f"{self.number}-{self._counter}"

    def _perform(self, kind, key, value, method, path, body=None, target=None, expected=None, parse=None):
        """- parse: from the answer of a successful request to (outcome, value, index, error)."""
        target = target or self._choose()
        invoked = time.monotonic()
        answer = self.agent.request(target, method, path, body)
        returned = time.monotonic()
        outcome, index, error = answer.outcome, None, answer.error
        if outcome == OK or answer.status == 409:
            try:
                outcome, value, index, error = parse(answer, value)
            except (ValueError, LookupError, TypeError) as problem:
                outcome, error = UNKNOWN, f"{type(problem).__name__} {answer.body}"
        server = target["name"] if self.load.through_servers else ""
        operation = history.Operation(
            self.number, kind, key, value, index, invoked, returned, outcome, expected, server, error
        )
        self.load.record(operation)
        return operation

    # Registers.

    def write(self):
        key, value = self._key(), self._value()
        self._perform(WRITE, key, value, "PUT", f"/v1/kv/{key}", value, parse=parse_boolean)

    def transaction(self):
        key, value = self._key(), self._value()
        self._transact(WRITE, key, value, {"Verb": "set", "Key": key, "Value": encoded(value)})

    def cas(self):
        key = self._key()
        if key not in self.indexes and self._read(READ, key).outcome != OK:
            return
        value, expected = self._value(), self.indexes[key]
        path = f"/v1/kv/{key}?cas={expected}"
        self._perform(CAS, key, value, "PUT", path, value, expected=expected, parse=parse_boolean)
        # It has changed in any case, or may have.
        self.indexes.pop(key)

    def read(self):
        self._read(READ, self._key())

    def stale(self):
        self._read(STALE, self._key())

    def _read(self, kind, key):
        mode = "stale" if kind == STALE else "consistent"
        operation = self._perform(kind, key, None, "GET", f"/v1/kv/{key}?{mode}", parse=parse_entry)
        if operation.outcome == OK and kind == READ:
            self.indexes[key] = operation.index
        return operation

    def _transact(self, kind, key, value, change, target=None):
        body = json.dumps([{"KV": change}])
        operation = self._perform(kind, key, value, "PUT", "/v1/txn", body, target, parse=parse_transaction)
        if operation.index:
            self.indexes[key] = operation.index
        return operation

    # The lock.

    def lock(self):
        """Acquires it if it is free, and releases it: each acquisition has a value of its own."""
        self._destroy_sessions()
        key, token, target = f"{PREFIX}/lock", self._value(), self._choose()
        if self._session is None and not self._create_session(target):
            return
        session = self._session
        change = {"Verb": "lock", "Key": key, "Value": encoded(token), "Session": session}
        acquired = self._transact(ACQUIRE, key, token, change, target)
        if acquired.outcome == FAIL and "invalid session" not in acquired.error:
            return
        if acquired.outcome == OK:
            self.load.ended.wait(self.random.random() * 0.1)
            change = {"Verb": "unlock", "Key": key, "Value": encoded(token), "Session": session}
            if self._transact(RELEASE, key, token, change).outcome == OK:
                return
        # Whether it is held is not known: the end of the session releases it.
        self._session = None
        self._abandoned.append(session)

    def _create_session(self, target):
        options = json.dumps({"Name": PREFIX, "LockDelay": "0s"})
        answer = self.agent.request(target, "PUT", "/v1/session/create", options)
        self._session = answer.json["ID"] if answer.outcome == OK else None
        return self._session is not None

    def _destroy_sessions(self, final=False):
        if final and self._session:
            self._abandoned.append(self._session)
        for session in list(self._abandoned):
            if self.agent.request(self._choose(), "PUT", f"/v1/session/destroy/{session}").outcome == OK:
                self._abandoned.remove(session)


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def parse_boolean(answer, value):
    if answer.status != 200:
        return UNKNOWN, value, None, f"status {answer.status}"
    return (OK, value, None, "") if answer.json is True else (FAIL, value, None, REFUSED)


def parse_entry(answer, _):
    if answer.status == 404:
        return OK, None, 0, ""
    entry = answer.json[0]
    return OK, base64.b64decode(entry["Value"] or "").decode(), entry["ModifyIndex"], ""


def parse_transaction(answer, value):
    if answer.status == 409:
        what = answer.json["Errors"][0]["What"]
        return FAIL, value, None, REFUSED if "held" in what else what
    return OK, value, answer.json["Results"][0]["KV"]["ModifyIndex"], ""


class Load:
    def __init__(self, options, file):
        self.seed, self.rate = options["seed"], options["rate"]
        self.through_servers = options["through"] == "servers"
        self.targets = []
        self.ended = threading.Event()
        self._file, self._lock = file, threading.Lock()
        self.workers = [Worker(number, self) for number in range(options["threads"])]

    def record(self, operation):
        with self._lock:
            history.write(self._file, operation)

    def finish(self, targets):
        self.ended.set()
        for worker in self.workers:
            if worker.is_alive():
                worker.join(10 * TIMEOUT)
        keys = [f"{PREFIX}/shared/{number}" for number in range(SHARED_KEYS)]
        keys += [f"{PREFIX}/own/{worker.number}/{n}" for worker in self.workers for n in range(OWN_KEYS)]
        for target in targets:
            reader = threading.Thread(target=self._read_all, args=(target, keys))
            reader.start()
            reader.join()

    def _read_all(self, target, keys):
        agent = Agent()
        for key in keys:
            invoked = time.monotonic()
            answer = agent.request(target, "GET", f"/v1/kv/{key}?consistent")
            value = index = None
            if answer.outcome == OK:
                _, value, index, _ = parse_entry(answer, None)
            self.record(
                history.Operation(
                    -1, FINAL, key, value, index, invoked, time.monotonic(), answer.outcome, None, target["name"]
                )
            )


def main():
    options = json.loads(sys.stdin.readline())
    with open(options["output"], "w", buffering=1) as file:
        load = Load(options, file)
        for line in sys.stdin:
            command = json.loads(line)
            if "targets" in command:
                load.targets = command["targets"]
                for worker in load.workers:
                    if not worker.is_alive() and not load.ended.is_set():
                        worker.start()
            if "finish" in command:
                load.finish(command["finish"])
                return
        load.finish([])


if __name__ == "__main__":
    main()
