#!/usr/bin/env python3
"""Puts echo servers through what every contestant must get right before a number about it means anything.

    check.py target/bin/*
    check.py 'target/release/pollmark serve --backend epoll --listen {address}'

Each server is started on a port of its own for every check, and ended with SIGTERM; a wrong byte, a lost connection or
an exit other than 0 fails the run.
"""

import os
import random
import select
import socket
import struct
import sys
import time

from harness import Failure, Server, io_uring_missing, raise_descriptor_limit

DEADLINE = 20  # seconds without progress until a server counts as stuck


def main():
    raise_descriptor_limit(1200)
    failed = False
    for command in sys.argv[1:]:
        if os.path.basename(command) == "c-uring" and (why := io_uring_missing()):
            print(f"c-uring: NOT CHECKED: {why}", flush=True)
            continue
        for check in CHECKS:
            name = f"{os.path.basename(command):16} {check.__name__}"
            began = time.monotonic()
            try:
                with Server(command) as server:
                    host, port = server.address.split(":")
                    check((host, int(port)))
                print(f"{name}: ok, {time.monotonic() - began:.1f} s", flush=True)
            except (AssertionError, OSError, EOFError, Failure) as error:
                failed = True
                print(f"{name}: FAILED: {type(error).__name__}: {error}", flush=True)
    sys.exit(failed or len(sys.argv) < 2)


def one_message(address):
    with connect(address) as client:
        for length in (1, 64, 4096, 65536):
            exchange(client, os.urandom(length))


def a_reader_who_comes_late(address):
    """8 MB go in before a byte is read back: the server must keep a tail, and wait to be read."""
    message = random.Random(2).randbytes(8 << 20)
    with connect(address) as client, connect(address) as other:
        client.setblocking(False)
        sent = 0
        while sent < len(message) and writable(client, 0.3):
            sent += client.send(message[sent : sent + 65536])
            exchange(other, b"meanwhile")  # nobody else notices
        received = bytearray()
        while len(received) < len(message):
            wants_write = [client] if sent < len(message) else []
            readable, writables, _ = select.select([client], wants_write, [], DEADLINE)
            assert readable or writables, f"stuck at {sent} sent, {len(received)} received"
            if readable:
                piece = client.recv(1 << 20)
                assert piece, f"closed after {len(received)} bytes"
                received += piece
            if writables:
                sent += client.send(message[sent : sent + 65536])
        assert received == message, "other bytes came back"


def half_close_after_the_last_byte(address):
    """Data and FIN in one go: the answer is still owed, and then the end."""
    for length in (64, 200_000):
        with connect(address) as client:
            message = os.urandom(length)
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
            received = b""
            while piece := client.recv(1 << 20):
                received += piece
            assert received == message, f"{len(received)} of {length} bytes came back"


def a_thousand_connections(address):
    clients = [connect(address) for _ in range(1000)]
    for round in range(3):
        for number, client in enumerate(clients):
            client.sendall(struct.pack("<QQ", round, number))
        for number, client in enumerate(clients):
            assert receive(client, 16) == struct.pack("<QQ", round, number), f"connection {number}"
    for client in clients:
        client.close()


def resets_in_the_middle(address):
    """Peers vanish with data in flight, in all states; the others go on, and no descriptor is lost."""
    dice = random.Random(3)
    with connect(address) as witness:
        for _ in range(400):
            client = connect(address)
            for _ in range(dice.randrange(4)):
                client.send(os.urandom(dice.choice((1, 64, 50_000))))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            exchange(witness, os.urandom(64))
        # Stuffed until the server owes it bytes and waits for room, then gone.
        for _ in range(20):
            client = connect(address)
            client.setblocking(False)
            while writable(client, 0.02):
                client.send(bytes(1 << 20))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            exchange(witness, os.urandom(64))
        time.sleep(0.1)
        left = established_with(address[1])
        assert left == 1, f"{left} connections left, 1 expected"


def churn(address):
    for number in range(3000):
        with connect(address) as client:
            exchange(client, struct.pack("<Q", number))


CHECKS = [
    one_message,
    a_reader_who_comes_late,
    half_close_after_the_last_byte,
    a_thousand_connections,
    resets_in_the_middle,
    churn,
]


def connect(address):
    client = socket.create_connection(address, timeout=DEADLINE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def exchange(client, message):
    client.sendall(message)
    assert receive(client, len(message)) == message, "other bytes came back"


def receive(client, length):
    received = b""
    while len(received) < length:
        piece = client.recv(length - len(received))
        if not piece:
            raise EOFError(f"closed after {len(received)} of {length} bytes")
        received += piece
    return received


def writable(client, seconds):
    return bool(select.select([], [client], [], seconds)[1])


def established_with(port):
    """Sockets of the server's own side that are not on their way out, as the kernel lists them."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return sum(row[1].endswith(f":{port:04X}") and row[3] in ("01", "08") for row in rows)


if __name__ == "__main__":
    main()
