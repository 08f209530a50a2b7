"""Speaks HTTP/2 frame by frame, with the frames and the HPACK of python3-h2, until standard input ends:
h2_client.py ADDRESS.

A line says what a client met: ok, lost REASON (a stream), told, cut REASON (the end of a connection). RFC 9113 section
6.8 is what a connection has to end by: a GOAWAY that refuses nothing; a stream that is opened after it, while the
server's PING has no answer yet, is answered; then the GOAWAY that names the last stream, and the end, without a reset.
"""

import os
import socket
import sys
import threading
import time

import h2.connection  # the package; its own connection refuses to open a stream after any GOAWAY
import hpack
from hyperframe import frame

HOST, PORT = sys.argv[1].rsplit(":", 1)
CLIENTS = 4
LIMIT = 30  # seconds
EVERYTHING = 2**31 - 1
BODY = b"x" * 100


def tell(what):
    os.write(1, (what + "\n").encode())  # at once: threads do not mix their lines


class Connection:
    def __init__(self):
        self.sock = socket.create_connection((HOST, int(PORT)), LIMIT)
        self.headers = hpack.Encoder()
        self.buffer = b""
        self.last = -1  # stream opened
        self.answered = set()
        self.goaways, self.pings, self.eof = [], [], False
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(frame.SettingsFrame(0))

    def send(self, *frames):
        self.sock.sendall(b"".join(f.serialize() for f in frames))

    def ask(self):
        """Opens a stream, and reads until it is answered."""
        self.last += 2
        block = self.headers.encode([
            (":method", "POST"), (":scheme", "http"), (":authority", sys.argv[1]), (":path", "/work?d=5ms"),
            ("content-length", str(len(BODY))),
        ])
        self.send(frame.HeadersFrame(self.last, block, flags=["END_HEADERS"]),
                  frame.DataFrame(self.last, BODY, flags=["END_STREAM"]))
        self.read(lambda: self.last in self.answered)

    def read(self, until):
        while not until():
            if self.eof:
                raise EOFError("the connection ended early")
            while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
                more = self.sock.recv(65536)
                if not more:
                    self.eof = True
                    break
                self.buffer += more
            else:
                f, size = frame.Frame.parse_frame_header(memoryview(self.buffer)[:9])
                f.parse_body(memoryview(self.buffer)[9:9 + size])
                self.buffer = self.buffer[9 + size:]
                self.note(f)

    def note(self, f):
        if isinstance(f, frame.SettingsFrame) and "ACK" not in f.flags:
            self.send(frame.SettingsFrame(0, flags=["ACK"]))
        elif isinstance(f, frame.PingFrame) and "ACK" not in f.flags:
            self.pings.append(f.opaque_data)
        elif isinstance(f, frame.GoAwayFrame):
            self.goaways.append((f.last_stream_id, f.error_code))
        elif isinstance(f, frame.RstStreamFrame):
            raise ValueError("stream %d was reset with %d" % (f.stream_id, f.error_code))
        elif "END_STREAM" in f.flags:
            self.answered.add(f.stream_id)

    def told(self):
        """Reads on, without blocking, and reports whether the server has said anything of the end."""
        self.sock.settimeout(0)
        try:
            self.read(lambda: self.goaways)
        except BlockingIOError:
            pass
        self.sock.settimeout(LIMIT)
        return self.goaways

    def part(self):
        """The end, from the first GOAWAY on."""
        if self.goaways != [(EVERYTHING, 0)]:
            return "cut first GOAWAY: %s" % self.goaways
        self.read(lambda: self.pings)
        self.ask()
        tell("ok")
        if len(self.goaways) > 1:
            return "cut: no answer to the PING was waited for: %s" % self.goaways
        self.send(*[frame.PingFrame(0, p, flags=["ACK"]) for p in self.pings])
        self.read(lambda: self.eof)
        if self.goaways[1:] != [(self.last, 0)]:
            return "cut last stream %d, GOAWAY: %s" % (self.last, self.goaways)
        return "told"


def client(stop):
    while not stop.is_set():
        try:
            c = Connection()
        except OSError as e:
            tell("lost connect: %r" % e)
            time.sleep(0.01)
            continue
        try:
            with c.sock:
                while not c.told() and not stop.is_set():
                    c.ask()
                    tell("ok")
                if c.goaways:
                    tell(c.part())
                else:
                    c.send(frame.GoAwayFrame(0))
        except Exception as e:
            open_stream = c.last > 0 and c.last not in c.answered
            tell("%s GOAWAY %s, stream %d: %r" % ("lost" if open_stream else "cut", c.goaways, c.last, e))


stop = threading.Event()
threads = [threading.Thread(target=client, args=(stop,)) for _ in range(CLIENTS)]
for t in threads:
    t.start()
sys.stdin.read()
stop.set()
for t in threads:
    t.join()
