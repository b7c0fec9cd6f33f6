"""An instance metadata service that requires version 2, one for each instance, at its own 169.254.169.254."""

import contextlib
import datetime
import http.server
import json
import secrets
import socket
import socketserver
import threading
import time

from . import network
from .waiting import TIMEOUT

ISO = "%Y-%m-%dT%H:%M:%SZ"
EVENT = "%d %b %Y %H:%M:%S GMT"
# Neither UTF-8 nor JSON.
GARBAGE = b"\x00\xff\xfe<html>" + bytes(range(128, 256))


def utc(seconds):
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)


class MetadataService:
    """Faults: `hang_token` (the hop limit), `slow` seconds, `fail` (5xx, a number of times), `throttle` (429, a number
    of times), `version1_only`, `disabled`, `no_role`, `expire_tokens` (each token is good for one request), `away`
    (connections are closed without an answer), `garbage` (documents are no text; True, or the beginning of their
    paths), `freeze()` (the documents of now are answered until `thaw()`). A number of times may be infinite."""

    def __init__(self, namespace, documents, credentials, role):
        self.documents = documents
        self.credentials = credentials
        self.role = role
        self.tokens = {}
        self.requests = []
        self.hang_token = self.version1_only = self.disabled = self.no_role = self.expire_tokens = False
        self.away = self.garbage = False
        self.slow = 0
        self.fail = self.throttle = 0
        self._frozen = None
        self._current = None
        self.closing = threading.Event()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # One packet an answer: without it Nagle's algorithm and delayed acknowledgements cost 40 ms.
            wbufsize = -1
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_PUT(self):
                self.answer(service.put)

            def do_GET(self):
                self.answer(service.get)

            def answer(self, method):
                if service.away:
                    self.close_connection = True
                    return
                status, text = method(self.path, self.headers)
                body = text if isinstance(text, bytes) else text.encode()
                # A client does not wait for a slow answer, nor read one that is too long.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(status)
                    self.send_header("Content-Type", "text/plain")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    self.wfile.flush()

        class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
            daemon_threads = True

        self.servers = []
        for family, address in ((socket.AF_INET, "169.254.169.254"), (socket.AF_INET6, "fd00:ec2::254")):
            server = Server((address, 80), Handler, bind_and_activate=False)
            server.socket.close()
            server.socket = network.listen(namespace, address, 80, family)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()
            self.servers.append(server)

    def close(self):
        self.closing.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def _common(self, path):
        self.requests.append(path)
        if self.slow:
            time.sleep(self.slow)
        if self.disabled:
            return 403, ""
        if self.fail > 0:
            self.fail -= 1
            return 503, ""
        if self.throttle > 0:
            self.throttle -= 1
            return 429, ""
        return None

    def put(self, path, headers):
        if (answer := self._common(path)) is not None:
            return answer
        if self.hang_token:
            self.closing.wait(10 * TIMEOUT)
        if self.version1_only or path != "/latest/api/token":
            return 404, ""
        try:
            ttl = int(headers["X-aws-ec2-metadata-token-ttl-seconds"])
        except (TypeError, ValueError):
            return 400, ""
        if not 1 <= ttl <= 21600:
            return 400, ""
        token = secrets.token_urlsafe(40)
        self.tokens[token] = time.time() + ttl
        return 200, token

    def get(self, path, headers):
        if (answer := self._common(path)) is not None:
            return answer
        if not self.version1_only:
            token = headers["X-aws-ec2-metadata-token"]
            if self.tokens.get(token, 0) < time.time():
                return 401, ""
            if self.expire_tokens:
                del self.tokens[token]
        base = "/latest/meta-data/iam/security-credentials/"
        if path == base and not self.no_role:
            return 200, self.role
        if path == base + self.role and not self.no_role:
            return 200, json.dumps(self.current_credentials())
        documents = self.documents if self._frozen is None else self._frozen
        if path not in documents:
            return 404, ""
        if self.garbage is True or (self.garbage and path.startswith(self.garbage)):
            return 200, GARBAGE
        return 200, documents[path]

    def set(self, path, text):
        """Adds or replaces a document; None removes it.

        - path: below `/latest/meta-data/`, or from `/latest/` on."""
        path = path if path.startswith("/latest/") else f"/latest/meta-data/{path}"
        if text is None:
            self.documents.pop(path, None)
        else:
            self.documents[path] = text

    def freeze(self):
        self._frozen = dict(self.documents)

    def thaw(self):
        self._frozen = None

    # Notices, as EC2 writes them (User Guide).

    def spot(self, action="terminate", seconds=120):
        """An interruption notice: `terminate`, `stop` or `hibernate`, so many seconds from now."""
        at = utc(seconds).strftime(ISO)
        self.set("spot/instance-action", json.dumps({"action": action, "time": at}))
        if action == "terminate":
            self.set("spot/termination-time", at)

    def rebalance(self):
        """A recommendation, now."""
        self.set("events/recommendations/rebalance", json.dumps({"noticeTime": utc(0).strftime(ISO)}))

    def scheduled(self, code="instance-retirement", seconds=600, state="active"):
        """One more scheduled event, so many seconds from now: `instance-reboot`, `system-reboot`, `system-maintenance`,
        `instance-retirement` or `instance-stop`."""
        path = "/latest/meta-data/events/maintenance/scheduled"
        events = json.loads(self.documents.get(path, "[]"))
        event = {
            "NotBefore": utc(seconds).strftime(EVENT),
            "Code": code,
            "Description": f"scheduled {code}",
            "EventId": "instance-event-" + secrets.token_hex(8) + "0",
            "NotAfter": utc(seconds + 7200).strftime(EVENT),
            "State": state,
        }
        self.set(path, json.dumps([*events, event], indent=1))

    def withdraw(self):
        """The end of every notice."""
        for path in ("spot/instance-action", "spot/termination-time", "events/recommendations/rebalance"):
            self.set(path, None)
        # With no event it is an empty list, once there was one.
        if "/latest/meta-data/events/maintenance/scheduled" in self.documents:
            self.set("events/maintenance/scheduled", "[]")

    def current_credentials(self):
        if self._current is None:
            self._current = self.credentials()
        return self._current

    def rotate(self):
        """Issues new credentials from now on, as the service does before the old ones expire."""
        self._current = self.credentials()
