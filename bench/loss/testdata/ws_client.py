"""Asks a WebSocket with the library websockets until standard input ends: ws_client.py ADDRESS.

A line says what a client met: ok, lost REASON (a message), told, cut REASON (the end of a connection).
"""

import asyncio
import os
import sys

import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatusCode

URL = "ws://%s/ws" % sys.argv[1]
CLIENTS = 16
LIMIT = 30  # seconds


def tell(what):
    os.write(1, (what + "\n").encode())  # at once: threads do not mix their lines


async def client(stop):
    while not stop.is_set():
        try:
            ws = await websockets.connect(URL, open_timeout=LIMIT, ping_interval=None)
        except InvalidStatusCode as e:
            tell("told" if e.status_code == 503 else "lost connect: %s" % e)
        except Exception as e:
            tell("lost connect: %r" % e)
        else:
            try:
                tell(await talk(ws, stop))
            except Exception as e:
                tell("cut %r" % e)
        await asyncio.sleep(0.001)


async def talk(ws, stop):
    """Sends messages and wants each back. Says how the connection ended."""
    n = 0
    try:
        while not stop.is_set():
            text = "message %d" % n
            await ws.send(text)
            back = await asyncio.wait_for(ws.recv(), LIMIT)
            tell("ok" if back == text else "lost: %r came back" % back)
            await asyncio.sleep(n % 7 / 1000)
            n += 1
        await ws.close()
        return "told" if ws.close_code in (1000, 1001, 1012) else "cut code %s" % ws.close_code
    except ConnectionClosed as e:
        clean = e.rcvd and e.sent and e.rcvd_then_sent and e.rcvd.code in (1001, 1012)
        return "told" if clean else "cut %r" % e


async def main():
    stop = asyncio.Event()
    clients = [asyncio.create_task(client(stop)) for _ in range(CLIENTS)]
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await asyncio.gather(*clients)


asyncio.run(main())
