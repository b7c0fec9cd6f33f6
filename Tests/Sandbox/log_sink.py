"""The part of CloudWatch Logs that a forwarder uses, fast enough not to be the bottleneck: a program of its own.

  python log_sink.py PORT FILE [THROTTLED [FAILING]]

Answers PutLogEvents, CreateLogGroup and CreateLogStream on 127.0.0.1. Rejects calls over a limit of the API
reference. A share of the calls is throttled, and a share fails; all of them while FILE.away exists. On SIGTERM it
writes to FILE what it has received: bytes, events, and, where messages begin with a number, those numbers by stream
in the order of their acceptance. (Only moto checks signatures.)
"""

import array
import itertools
import json
import os
import random
import re
import signal
import socket
import sys
import threading
import zlib

PORT, FILE = int(sys.argv[1]), sys.argv[2]
THROTTLED, FAILING = (float(a) for a in [*sys.argv[3:], "0", "0"][:2])
LEAN = len(sys.argv) == 3
lock = threading.Lock()
streams, groups = {}, set()
total = {"bytes": 0, "received": 0, "events": 0, "calls": 0, "throttled": 0, "failed": 0, "refused": []}


def fault(code, message, status=400):
    return status, json.dumps({"__type": code, "message": message}).encode()


def broken_limit(events):
    times = [event["timestamp"] for event in events]
    sizes = [len(event["message"].encode()) for event in events]
    if not 1 <= len(events) <= 10_000 or min(sizes) == 0:
        return f"{len(events)} events, the shortest of {min(sizes, default=0)} bytes"
    if max(sizes) + 26 > 262_144 or sum(sizes) + 26 * len(sizes) > 1_048_576:
        return f"{sum(sizes) + 26 * len(sizes)} bytes"
    if any(a > b for a, b in itertools.pairwise(times)) or times[-1] - times[0] > 24 * 3600 * 1000:
        return "not in order, or more than 24 hours apart"
    return None


def answer(action, body):
    total["calls"] += 1
    if os.path.exists(FILE + ".away"):
        return None
    if action == "PutLogEvents" and LEAN:
        with lock:
            total["bytes"] += len(body)
            total["events"] += body.count(b'"timestamp":')
        return 200, b"{}"
    if random.random() < THROTTLED:
        total["throttled"] += 1
        return fault("ThrottlingException", "Rate exceeded")
    if random.random() < FAILING:
        total["failed"] += 1
        return fault("ServiceUnavailableException", "try again", 503)
    request = json.loads(body)
    group, stream = request["logGroupName"], request.get("logStreamName")
    with lock:
        if action == "CreateLogGroup":
            groups.add(group)
        elif action == "CreateLogStream":
            if group not in groups:
                return fault("ResourceNotFoundException", "no such group")
            streams.setdefault(stream, array.array("Q"))
        elif action == "PutLogEvents":
            if stream not in streams:
                return fault("ResourceNotFoundException", "no such stream")
            events = request["logEvents"]
            if broken := broken_limit(events):
                total["refused"].append(broken)
                return fault("InvalidParameterException", broken)
            total["bytes"] += len(body)
            total["events"] += len(events)
            streams[stream].extend(int(m[0]) for e in events if (m := re.match(r"\d+", e["message"])))
    return 200, b"" if action.startswith("Create") else b"{}"


def serve(connection):
    stream = connection.makefile("rb", buffering=1 << 16)
    while stream.readline():
        headers = {}
        while (header := stream.readline()) not in (b"\r\n", b""):
            name, _, value = header.partition(b":")
            headers[name.strip().lower()] = value.strip().decode()
        body = stream.read(int(headers.get(b"content-length", 0)))
        if headers.get(b"content-encoding") == "gzip":
            total["received"] += len(body)
            body = zlib.decompress(body, 31)
        result = answer(headers.get(b"x-amz-target", "").rpartition(".")[2], body)
        if result is None:
            break  # away: the connection ends without an answer
        status, payload = result
        connection.sendall(
            (
                f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {len(payload)}\r\n"
                "\r\n"
            ).encode()
            + payload
        )
    connection.close()


def end():
    """A handler would run only once the main thread is out of `accept`, which a signal may come just before."""
    signal.sigwait({signal.SIGTERM})
    with lock, open(FILE + ".new", "w") as file:
        json.dump({**total, "numbers": {name: list(numbers) for name, numbers in streams.items()}}, file)
    os.rename(FILE + ".new", FILE)
    os._exit(0)


def progress():
    """Writes the counts so far, for tests that wait for them."""
    with open(FILE + ".progress.new", "w") as file:
        json.dump(total, file)
    os.rename(FILE + ".progress.new", FILE + ".progress")
    timer = threading.Timer(0.2, progress)
    timer.daemon = True
    timer.start()


# Every thread inherits this, so that only `end` takes the signal.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
threading.Thread(target=end, daemon=True).start()
listener = socket.create_server(("127.0.0.1", PORT), backlog=64)
progress()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
