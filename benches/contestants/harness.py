"""Starting a server to be measured, holding idle connections to it, and loading it."""

import contextlib
import ctypes
import errno
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
import time

PATIENCE = 120  # seconds; a server under valgrind with thousands of connections is slow to start and to end

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]


class Failure(Exception):
    """What was measured did not do its work, so there is no figure."""


class Server:
    """A server on a free port, on a CPU of its own, in a fresh process; the instruments are part of its command line.

    `command` has `{address}` where the address to listen on goes, or takes it as its last argument. The first line
    the server prints holds the address it bound. It is ended with SIGTERM and has to exit with 0, unless `end` is there
    and says that it has ended the server in a way of its own.
    """

    def __init__(self, command, instrument=(), end=None):
        words = [word.replace("{address}", "127.0.0.1:0") for word in shlex.split(command)]
        if "{address}" not in command:
            words.append("127.0.0.1:0")
        self.command = command
        self.end = end
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
        self.rest = ""  # what it printed after its first line, when it has ended

    def __enter__(self):
        return self

    def __exit__(self, *_):
        killed = self.end is not None and self.process.poll() is None and self.end(self)
        if self.process.poll() is None and not killed:
            with contextlib.suppress(ProcessLookupError):  # It has ended just now; how, is looked at below.
                os.kill(self.pid, signal.SIGTERM)
        try:
            self.rest, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self.process.communicate()
            raise Failure(f"{self.command}: did not end on SIGTERM") from None
        # Only now: how many ends a server hears of in one wait is chance, and would be in its counts.
        for client in self.idle:
            client.close()
        if self.process.returncode and not killed:
            raise Failure(f"{self.command}: ended with {self.process.returncode}: {self.said()}")

    def sleeps_in(self, call):
        """Whether a thread sleeps in the system call of this number, once all of them sleep."""
        for _ in range(PATIENCE * 20):
            sleeping = [read(f"/proc/{self.pid}/task/{thread}/syscall").split()[0] for thread in self.threads()]
            if str(call) in sleeping or "running" not in sleeping:
                break
            time.sleep(0.05)
        return str(call) in sleeping

    def threads(self):
        return os.listdir(f"/proc/{self.pid}/task")

    def connect(self):
        host, port = self.address.split(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE)

    def hold_idle(self, count):
        """Connections that are served once and then say nothing while the server lives."""
        for number in range(count):
            client = self.connect()
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
        """Time on a CPU of all its threads, also of those that have ended, as the scheduler counts it."""
        # clock_getcpuclockid(3), which Python does not have: the process's number, and CPUCLOCK_SCHED.
        return time.clock_gettime_ns(~self.pid << 3 | 2)

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


def io_uring_missing():
    """Why this process may not set up an io_uring, or None. Asked with an address that can only be refused."""
    io_uring_setup = 425  # on every architecture
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(io_uring_setup, 8, None)
    error = ctypes.get_errno()
    return None if error == errno.EFAULT else f"io_uring_setup(2) says {errno.errorcode[error]}"


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
