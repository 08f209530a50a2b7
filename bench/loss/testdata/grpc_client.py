"""Calls the Echo service with grpcio until standard input ends: grpc_client.py ADDRESS say|chat FAREWELL.

A line says what a client met: ok, lost REASON (a call or a message), told, cut REASON (the end of a stream). FAREWELL is
what the server says in the status of a stream that it ends; any other error is one of the transport.
"""

import os
import queue
import sys
import threading
import time

import grpc

ADDRESS, KIND, FAREWELL = sys.argv[1:]
CLIENTS = 16
LIMIT = 30  # seconds


def tell(what):
    os.write(1, (what + "\n").encode())  # at once: threads do not mix their lines


def pack(text):
    """A message with one field, number 1, a text shorter than 128 bytes."""
    b = text.encode()
    return b"\x0a" + bytes([len(b)]) + b


def unpack(b):
    return b[2:].decode()


def say(channel, stop):
    call = channel.unary_unary("/midair.example.Echo/Say", pack, unpack)
    n = 0
    while not stop.is_set():
        text = "call %d" % n
        try:
            back = call(text, timeout=LIMIT)
            tell("ok" if back == text else "lost: %r came back" % back)
        except grpc.RpcError as e:
            tell("lost %s: %s" % (e.code(), e.details()))
        time.sleep(n % 7 / 1000)
        n += 1


def chat(channel, stop):
    call = channel.stream_stream("/midair.example.Echo/Chat", pack, unpack)
    while not stop.is_set():
        asked = queue.SimpleQueue()
        answers = call(iter(asked.get, None), timeout=LIMIT)
        try:
            for n in range(1000):
                if stop.is_set():
                    break
                text = "message %d" % n
                asked.put(text)
                back = next(answers)
                tell("ok" if back == text else "lost: %r came back" % back)
                time.sleep(n % 7 / 1000)
            asked.put(None)
            tell("cut: an answer too many: %r" % next(answers))
        except StopIteration:
            tell("told")
        except grpc.RpcError as e:
            told = e.code() == grpc.StatusCode.UNAVAILABLE and e.details() == FAREWELL
            tell("told" if told else "cut %s: %s" % (e.code(), e.details()))
        asked.put(None)  # ends the thread that reads it


stop = threading.Event()
with grpc.insecure_channel(ADDRESS) as channel:  # as everybody has it: what was not sent is tried on the next connection
    run = {"say": say, "chat": chat}[KIND]
    threads = [threading.Thread(target=run, args=(channel, stop)) for _ in range(CLIENTS)]
    for t in threads:
        t.start()
    sys.stdin.read()
    stop.set()
    for t in threads:
        t.join()
