"""An instance metadata service that requires version 2, one for each instance, at its own 169.254.169.254."""

import http.server
import json
import secrets
import socket
import socketserver
import threading
import time

from . import network
from .waiting import TIMEOUT


class MetadataService:
    """Faults: `hang_token` (the hop limit), `slow` seconds, `fail` (5xx, a number of times), `version1_only`,
    `disabled`, `no_role`, `expire_tokens` (each token is good for one request)."""

    def __init__(self, namespace, documents, credentials, role):
        self.documents = documents
        self.credentials = credentials
        self.role = role
        self.tokens = {}
        self.requests = []
        self.hang_token = self.version1_only = self.disabled = self.no_role = self.expire_tokens = False
        self.slow = 0
        self.fail = 0
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
                self.answer(*service.put(self.path, self.headers))

            def do_GET(self):
                self.answer(*service.get(self.path, self.headers))

            def answer(self, status, text):
                body = text.encode()
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
        if path in self.documents:
            return 200, self.documents[path]
        return 404, ""

    def set(self, path, text):
        """Adds or replaces a document; None removes it.

        - path: below `/latest/meta-data/`, or from `/latest/` on."""
        path = path if path.startswith("/latest/") else f"/latest/meta-data/{path}"
        if text is None:
            self.documents.pop(path, None)
        else:
            self.documents[path] = text

    def current_credentials(self):
        if self._current is None:
            self._current = self.credentials()
        return self._current

    def rotate(self):
        """Issues new credentials from now on, as the service does before the old ones expire."""
        self._current = self.credentials()
