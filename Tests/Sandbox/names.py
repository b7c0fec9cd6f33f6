"""The VPC's resolver, at the base of the VPC plus two: resolves the AWS endpoints, and nothing else."""

import socket
import struct
import threading

from . import network


class NameServer:
    """`broken`: it receives questions and does not answer."""

    def __init__(self, namespace, address, names):
        self.address, self.names = address, {name.lower() for name in names}
        self.broken = False
        self.questions = []
        self.socket = network.listen(namespace, address, 53, kind=socket.SOCK_DGRAM)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                question, sender = self.socket.recvfrom(4096)
            except OSError:
                return
            answer = self._answer(question)
            if answer and not self.broken:
                self.socket.sendto(answer, sender)

    def _answer(self, question):
        """RFC 1035: one question, at most one answer."""
        labels, at = [], 12
        while at < len(question) and question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
            at += 1 + question[at]
        if at + 5 > len(question):
            return None
        name, type = ".".join(labels).lower(), struct.unpack(">H", question[at + 1 : at + 3])[0]
        self.questions.append(name)
        known = name in self.names
        answers = 1 if known and type == 1 else 0
        header = question[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, answers, 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(self.address)
        return header + question[12 : at + 5] + record * answers

    def close(self):
        self.socket.close()
