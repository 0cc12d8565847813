#!/usr/bin/env python3
"""Turns a capture of RTRS over RoCE v2 (tcpdump -w FILE udp portrange 4791-4792) into text: one line per message.

  tests/vm/trace.py CAPTURE        prints it; the client is whoever connects

Datagrams to port 4792 are words of the script that made the capture and become comments. Heartbeats come last, each kind
once, and disconnects are left out, because only the clock decides when they come. A line is:  SENDER CONNECTION OPERATION [NAME=VALUE...] : BYTES
  SENDER      client or server
  OPERATION   request, reply, reject, ready: the connection manager's messages with their private data
              send, send_imm, send_invalidate, write, write_imm: the verbs' work requests
  imm=        the immediate
  at=         where an RDMA write goes: chunk N+OFFSET of the server's memory, or the client's memory it was told by a read
  invalidate= the remote key that dies
  BYTES       pairs of hex digits, "00*31" for 31 times 00; what is chosen anew in every session stands as a name and its
              length, such as rkey*4; a group in parentheses repeats as a whole
Layouts: drivers/infiniband/ulp/rtrs/rtrs-pri.h, drivers/block/rnbd/rnbd-proto.h, IBA 1.4 chapters 9 and 12, RFC 791, RFC 8200."""
import struct
import sys
from dataclasses import dataclass, field

ROCE_PORT = 4791
REMARK_PORT = 4792
CM_CLASS = 7
CM_REQUEST, CM_REJECT, CM_REPLY, CM_READY = 0x10, 0x12, 0x13, 0x14
PRIVATE_BYTES = 56  # RTRS uses as many in requests, replies and rejects; the rest is padding
CMA_HEADER_BYTES = 36  # what the RDMA CM puts in front of the private data of a request
INFO_RESPONSE, READ, RKEY_RESPONSE = 1, 3, 4  # types of RTRS messages
HEARTBEATS = (0x80000000, 0x90000000)

# Low five bits of the opcode of reliable connections: operation, is it the first and is it the last packet of its message.
PACKETS = {
    0x00: ("send", True, False), 0x01: ("send", False, False), 0x02: ("send", False, True), 0x03: ("send_imm", False, True),
    0x04: ("send", True, True), 0x05: ("send_imm", True, True), 0x06: ("write", True, False), 0x07: ("write", False, False),
    0x08: ("write", False, True), 0x09: ("write_imm", False, True), 0x0a: ("write", True, True), 0x0b: ("write_imm", True, True),
    0x16: ("send_invalidate", False, True), 0x17: ("send_invalidate", True, True)}


def packets(capture):
    """The UDP payloads to our ports as (port, source address, destination address, bytes)."""
    order = "<" if capture[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at + 16 <= len(capture):
        length, = struct.unpack_from(order + "I", capture, at + 8)
        frame = capture[at + 16:at + 16 + length]
        at += 16 + length
        ethertype, = struct.unpack_from(">H", frame, 12)
        if ethertype == 0x0800 and frame[23] == 17:
            start = 14 + (frame[14] & 15) * 4
            source, target = frame[26:30], frame[30:34]
        elif ethertype == 0x86dd and frame[20] == 17:
            start, source, target = 54, frame[22:38], frame[38:54]
        else:
            continue
        port, udp_length = struct.unpack_from(">HH", frame, start + 2)
        if port in (ROCE_PORT, REMARK_PORT):
            yield port, source, target, frame[start + 8:start + udp_length]


@dataclass
class Connection:
    """One queue pair of the client and its peer at the server."""
    number: int
    client: bytes
    parts: dict = field(default_factory=dict)  # sender -> [what its unfinished message consists of]
    expected: dict = field(default_factory=dict)  # sender -> next packet sequence number


@dataclass
class Read:
    """Where the client wants the answer to a read."""
    address: int
    key: int


class Trace:
    def __init__(self):
        self.lines = []
        self.chunk_bits = 0
        self.chunk_bytes = 0
        self.chunks = []  # (address, chunk number) of what the server offered
        self._by_id = {}  # communication id of the client -> Connection
        self._by_qp = {}  # (receiver's address, its queue pair) -> (Connection, sender)
        self._reads = {}  # chunk -> Read
        self._heartbeats = set()

    def read(self, capture):
        for port, source, target, payload in packets(capture):
            if port == REMARK_PORT:
                self.lines.append("# " + payload.decode())
                continue
            opcode = payload[0]
            queue_pair = int.from_bytes(payload[5:8], "big")
            if opcode == 0x64 and queue_pair == 1:
                self._manager(source, target, payload[20:])
            elif opcode < 0x20 and opcode in PACKETS and (target, queue_pair) in self._by_qp:
                self._packet(*self._by_qp[target, queue_pair], payload)
        if self._heartbeats:
            self.lines += ["# heartbeats, after five seconds of silence", *sorted(self._heartbeats)]

    def _say(self, sender, connection, operation, words, tokens):
        line = (" ".join([sender, str(connection.number), operation, *words]) + " : " + compress(tokens)).rstrip()
        if not tokens and any(f"imm=0x{imm:08x}" in words for imm in HEARTBEATS):
            self._heartbeats.add(line)
        else:
            self.lines.append(line)

    # --- the connection manager ---------------------------------------------------------------------------------------
    def _manager(self, source, target, mad):
        if mad[1] != CM_CLASS:
            return
        attribute, = struct.unpack_from(">H", mad, 16)
        body = mad[24:]
        own, peer = body[0:4], body[4:8]
        if attribute == CM_REQUEST and own not in self._by_id:
            private = body[140 + CMA_HEADER_BYTES:][:PRIVATE_BYTES]
            connection = Connection(int.from_bytes(private[6:8], "little"), source)
            self._by_id[own] = connection
            self._by_qp[source, int.from_bytes(body[32:35], "big")] = (connection, "server")
            words = [f"service={body[8:16].hex()}", f"responder_resources={body[35]}", f"initiator_depth={body[39]}",
                     f"retry={body[47] & 7}", f"rnr_retry={body[50] & 7}"]
            self._say("client", connection, "request", words, mask(private, (12, 16, "path"), (28, 16, "session")))
        elif attribute == CM_REPLY and peer in self._by_id:
            connection = self._by_id[peer]
            if (source, int.from_bytes(body[12:15], "big")) in self._by_qp:
                return  # sent twice
            self._by_qp[source, int.from_bytes(body[12:15], "big")] = (connection, "client")
            private = body[36:][:PRIVATE_BYTES]
            depth, io_bytes, header_bytes = struct.unpack_from("<HII", private, 6)
            self.chunk_bits = 28 - (depth - 1).bit_length()
            self.chunk_bytes = io_bytes + header_bytes
            words = [f"responder_resources={body[24]}", f"initiator_depth={body[25]}", f"rnr_retry={body[27] >> 5}"]
            self._say("server", connection, "reply", words, mask(private))
        elif attribute == CM_REJECT and peer in self._by_id:
            reason, = struct.unpack_from(">H", body, 10)
            self._say("server", self._by_id[peer], "reject", [f"reason={reason}"], mask(body[84:][:PRIVATE_BYTES]))
        elif attribute == CM_READY and own in self._by_id:
            self._say("client", self._by_id[own], "ready", [], [])

    # --- reliable connections -----------------------------------------------------------------------------------------
    def _packet(self, connection, sender, payload):
        operation, first, last = PACKETS[payload[0]]
        sequence = int.from_bytes(payload[9:12], "big")
        if connection.expected.get(sender, sequence) != sequence:
            return  # sent again
        connection.expected[sender] = (sequence + 1) & 0xffffff
        padding = payload[1] >> 4 & 3
        at = 12
        if first:
            connection.parts[sender] = {"bytes": b"", "to": None}
        message = connection.parts[sender]
        if first and operation.startswith("write"):
            message["to"] = struct.unpack_from(">QII", payload, at)
            at += 16
        if last and operation.endswith("_imm") or operation == "send_invalidate":
            message["extra"], = struct.unpack_from(">I", payload, at)
            at += 4
        message["bytes"] += payload[at:len(payload) - 4 - padding]
        if last:
            self._message(connection, sender, operation, message)

    def _message(self, connection, sender, operation, message):
        data, words = message["bytes"], []
        if operation.endswith("_imm"):
            words.append(f"imm=0x{message['extra']:08x}")
        if operation == "send_invalidate":
            words.append("invalidate=" + ("read" if self._is_read_key(message["extra"]) else "unknown"))
        if message["to"] and data:
            words.append("at=" + (self._chunk_at(message["to"][0]) if sender == "client" else self._read_at(message["to"])))
        self._say(sender, connection, operation, words, self._mask(sender, operation, message, data))

    def _mask(self, sender, operation, message, data):
        """The bytes, with names for what is chosen anew each time."""
        kind = int.from_bytes(data[0:2], "little") if len(data) >= 2 else None
        if operation == "send" and sender == "server" and kind == INFO_RESPONSE:
            return self._mask_info(data)
        if operation == "send_imm" and kind == RKEY_RESPONSE:
            return mask(data, (4, 4, "rkey"))
        if operation == "write_imm" and sender == "client" and data:
            chunk, offset = message["extra"] >> self.chunk_bits, message["extra"] & ((1 << self.chunk_bits) - 1)
            header = self._header_at(message["to"][0], offset)
            kind, _, _, descriptors = struct.unpack_from("<4H", data.ljust(header + 8, b"\0"), header)
            if kind == READ and descriptors:
                self._reads[chunk] = Read(*struct.unpack_from("<QI", data, header + 8))
                return mask(data, (header + 8, 8, "address"), (header + 16, 4, "rkey"))
        return mask(data)

    def _mask_info(self, data):
        count, = struct.unpack_from("<H", data, 2)
        descriptors = [struct.unpack_from("<QII", data, 8 + 16 * i) for i in range(count)]
        for address, _, length in descriptors:
            for start in range(address, address + length, self.chunk_bytes):
                self.chunks.append((start, len(self.chunks)))
        tail = " ".join(f"{byte:02x}" for byte in data[20:24])
        assert all(length == descriptors[0][2] for _, _, length in descriptors)
        return mask(data[:8]) + [f"(address*8 rkey*4 {tail})*{count}"]

    def _header_at(self, address, offset):
        """Where in the bytes written to an address the RTRS message lies that is at this offset of its chunk."""
        start = max(start for start, _ in self.chunks if start <= address)
        return offset - (address - start)

    def _chunk_at(self, address):
        start, number = max((start, number) for start, number in self.chunks if start <= address)
        return f"{number}+{address - start}"

    def _read_at(self, target):
        return "read" if any((read.address, read.key) == target[:2] for read in self._reads.values()) else "unknown"

    def _is_read_key(self, key):
        return any(read.key == key for read in self._reads.values())


def mask(data, *volatile):
    """Bytes as tokens; volatile are (offset, length, name)."""
    tokens, at = [], 0
    for offset, length, name in sorted(volatile):
        tokens += [f"{byte:02x}" for byte in data[at:offset]] + [f"{name}*{length}"]
        at = offset + length
    return tokens + [f"{byte:02x}" for byte in data[at:]]


def compress(tokens):
    """Runs of four and more equal bytes as 00*4."""
    words, at = [], 0
    while at < len(tokens):
        run = 1
        while at + run < len(tokens) and tokens[at + run] == tokens[at]:
            run += 1
        words += [f"{tokens[at]}*{run}"] if run >= 4 else [tokens[at]] * run
        at += run
    return " ".join(words)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    trace = Trace()
    with open(sys.argv[1], "rb") as capture:
        trace.read(capture.read())
    print("\n".join(trace.lines))


if __name__ == "__main__":
    main()
