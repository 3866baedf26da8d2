"""Starting a server to be measured, holding idle connections to it, and loading it."""

import os
import re
import resource
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

PATIENCE = 120  # seconds; a server under valgrind with thousands of connections is slow to start and to end

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]


class Failure(Exception):
    """What was measured did not do its work, so there is no figure."""


class Server:
    """A server on a free port, on a CPU of its own, in a fresh process; the instruments are part of its command line.

    `command` has `{address}` where the address to listen on goes, or takes it as its last argument. The first line
    the server prints holds the address it bound.
    """

    def __init__(self, command, instrument=()):
        words = [word.replace("{address}", "127.0.0.1:0") for word in shlex.split(command)]
        if "{address}" not in command:
            words.append("127.0.0.1:0")
        self.command = command
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*instrument, *words], stdout=subprocess.PIPE, stderr=self.errors, text=True, preexec_fn=pin(SERVER_CPU)
        )
        first_line = self.process.stdout.readline()
        bound = re.search(r"\d+\.\d+\.\d+\.\d+:(\d+)", first_line)
        if not bound:
            self.process.kill()
            raise Failure(f"{command}: no address in its first line {first_line!r}; it said: {self.said()}")
        self.address = bound.group()
        self.pid = innermost(self.process.pid)
        self.idle = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self.process.communicate()
            raise Failure(f"{self.command}: did not end on SIGTERM") from None
        # Only now: how many ends a server hears of in one wait is chance, and would be in its counts.
        for client in self.idle:
            client.close()
        if self.process.returncode:
            raise Failure(f"{self.command}: ended with {self.process.returncode}: {self.said()}")

    def hold_idle(self, count):
        """Connections that are served once and then say nothing while the server lives."""
        host, port = self.address.split(":")
        for number in range(count):
            client = socket.create_connection((host, int(port)), timeout=PATIENCE)
            self.idle.append(client)
            # A reset at the end leaves no TIME_WAIT, of which there would soon be too many.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            message = struct.pack("<Q", number)
            client.sendall(message)
            if client.recv(8, socket.MSG_WAITALL) != message:
                raise Failure(f"{self.command}: idle connection {number} was not echoed")

    def said(self):
        self.errors.seek(0)
        return self.errors.read()[-2000:]

    def cpu_ns(self):
        """Time on a CPU of all its threads, user and kernel, as the scheduler accounts it."""
        return sum(
            int(read(f"/proc/{self.pid}/task/{thread}/schedstat").split()[0])
            for thread in os.listdir(f"/proc/{self.pid}/task")
        )

    def anonymous_bytes(self):
        """Memory of its own: heap, stacks, written data; neither file pages nor what the kernel holds for it."""
        return 1024 * int(re.search(r"^Anonymous: +(\d+) kB", read(f"/proc/{self.pid}/smaps_rollup"), re.M).group(1))


class Load:
    """The generator: one command for echoes, one for churn, the same for every server."""

    def __init__(self, echo, churn):
        self.commands = {"echo": echo, "churn": churn}

    def run(self, server, mode, active, requests, size=64):
        words = [
            word.format(target=server.address, active=active, requests=requests, size=size)
            for word in shlex.split(self.commands[mode])
        ]
        done = subprocess.run(words, capture_output=True, text=True, preexec_fn=pin(LOAD_CPU), timeout=10 * PATIENCE)
        if done.returncode:
            raise Failure(f"{server.command}: {' '.join(words)}: {done.stderr.strip()[-500:]}")


def raise_descriptor_limit(needed):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < needed:
        raise SystemExit(
            f"{needed} descriptors are needed, the hard limit is {hard}: raise it (ulimit -Hn, limits.conf)"
        )


def pin(cpu):
    return lambda: os.sched_setaffinity(0, {cpu})


def innermost(pid):
    """The server itself, behind whatever instruments started it."""
    while children := read(f"/proc/{pid}/task/{pid}/children").split():
        pid = int(children[0])
    return pid


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def installed(program):
    return shutil.which(program) is not None
