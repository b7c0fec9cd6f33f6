"""Asks a Consul server over its RPC port, 8300, as servers ask each other: without HTTP, in a fraction of a
millisecond. MessagePack as Consul writes it: maps, arrays, texts, numbers, booleans and nil.
"""

import socket
import struct

CONSUL_RPC = b"\0"
LONGEST = 1 << 20


class RPCError(OSError):
    """The server answered with an error, or not as a server does, or closed the connection."""

    is_closed = False


class ClosedError(RPCError):
    is_closed = True


class Connection:
    """One connection, which several calls use in turn. The calling thread has entered the server's namespace."""

    def __init__(self, address, port=8300, timeout=1.0):
        self.socket = socket.create_connection((address, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(CONSUL_RPC)
        self._buffer = b""
        self._sequence = 0

    def call(self, method, arguments=None):
        self._sequence += 1
        header = {"ServiceMethod": method, "Seq": self._sequence}
        self.socket.sendall(encode(header) + encode(arguments or {}))
        answer, body = self._value(), self._value()
        if not isinstance(answer, dict) or answer.get("Seq") != self._sequence:
            raise RPCError(f"{method}: unexpected answer {answer}")
        if answer.get("Error"):
            raise RPCError(f"{method}: {answer['Error']}")
        return body

    def _value(self):
        while True:
            try:
                value, at = decode(self._buffer)
            except IndexError:
                received = self.socket.recv(65536)
                if not received or len(self._buffer) > LONGEST:
                    raise ClosedError("connection closed") from None
                self._buffer += received
            else:
                self._buffer = self._buffer[at:]
                return value

    def close(self):
        self.socket.close()


def encode(value):
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, str):
        text = value.encode()
        return b"\xda" + struct.pack(">H", len(text)) + text
    return b"\xdf" + struct.pack(">I", len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())


# By first byte: the format of a number.
NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
# By first byte: kind, and the format of a length.
LENGTHS = {
    0xC4: ("text", ">B"),
    0xC5: ("text", ">H"),
    0xC6: ("text", ">I"),
    0xD9: ("text", ">B"),
    0xDA: ("text", ">H"),
    0xDB: ("text", ">I"),
    0xDC: ("array", ">H"),
    0xDD: ("array", ">I"),
    0xDE: ("map", ">H"),
    0xDF: ("map", ">I"),
}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def decode(data, at=0):
    """A value and where it ends; throws `IndexError` if data ends before."""
    first, at = data[at], at + 1
    if first < 0x80:
        return first, at
    if first >= 0xE0:
        return first - 256, at
    if first in CONSTANTS:
        return CONSTANTS[first], at
    if first in NUMBERS:
        return _number(NUMBERS[first], data, at)
    if first in LENGTHS:
        kind, format = LENGTHS[first]
        count, at = _number(format, data, at)
    elif first >= 0xA0:
        kind, count = "text", first & 0x1F
    else:
        kind, count = ("array" if first >= 0x90 else "map"), first & 0x0F
    if kind == "text":
        if at + count > len(data):
            raise IndexError
        return data[at : at + count].decode(errors="replace"), at + count
    if kind == "array":
        items = []
        for _ in range(count):
            item, at = decode(data, at)
            items.append(item)
        return items, at
    entries = {}
    for _ in range(count):
        key, at = decode(data, at)
        entries[key], at = decode(data, at)
    return entries, at


def _number(format, data, at):
    end = at + struct.calcsize(format)
    if end > len(data):
        raise IndexError
    return struct.unpack(format, data[at:end])[0], end
