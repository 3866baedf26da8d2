"""What counts: user instructions under valgrind, both kinds where the machine has a PMU, and system calls.

An instrument is a command line put in front of the server's. Each counts from start to end, so a figure per request is
a slope: two fresh servers, few requests and many, difference over difference. Start, connections and end cancel out.
"""

import os
import re
import signal
import subprocess
import tempfile
import time

from harness import Failure, Server, installed, read

WAITS = (
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6", "io_uring_enter",
)  # fmt: skip

IO_URING_ENTER = 426  # on every architecture
LISTENS_EVERY = 200  # basic blocks, about one connection's; how far a count may be off
CONNECTIONS_UNTIL_DEAD = 1000


def slope(instrument, command, load, mode, active, few, many, idle=0):
    """Every count of the instrument, per request."""
    counts = []
    for requests in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            with Server(command, instrument.wrapper(folder), instrument.end(folder)) as server:
                server.hold_idle(idle)
                load.run(server, mode, active, requests)
            counts.append(instrument.counts(folder))
    return {name: (counts[1][name] - counts[0][name]) / (many - few) for name in counts[0]}


class Instrument:
    def end(self, folder):
        """What ends a server that the instrument keeps signals from; most keep none."""


class Tracepoints(Instrument):
    """System calls by tracepoint, at about 0.1 µs a call: batches stay as they are without it. Needs root."""

    name = "tracepoints"

    @staticmethod
    def missing():
        if not installed("perf"):
            return "perf is not installed"
        if not os.path.isdir(f"{TRACING}/events/raw_syscalls") and os.geteuid() == 0:
            subprocess.run(["mount", "-t", "tracefs", "none", TRACING], stderr=subprocess.DEVNULL, check=False)
        probe = perf_stat(["raw_syscalls:sys_enter"])
        return None if probe else "perf cannot count raw_syscalls:sys_enter (root, tracefs)"

    def __init__(self):
        waits = [f"syscalls:sys_enter_{name}" for name in WAITS]
        self.waits = [event for event in waits if os.path.isdir(f"{TRACING}/events/{event.replace(':', '/')}")]

    def wrapper(self, folder):
        return perf_command(f"{folder}/perf", ["raw_syscalls:sys_enter", *self.waits])

    def counts(self, folder):
        counted = perf_counts(f"{folder}/perf")
        return {"calls": counted["raw_syscalls:sys_enter"], "waits": sum(counted[event] for event in self.waits)}


class Strace(Instrument):
    """System calls by strace. The server is so slow under it that every connection is ready at every wait: what is
    left is the calls it cannot avoid, and the count repeats to a fraction of a percent."""

    name = "strace"

    @staticmethod
    def missing():
        return None if installed("strace") else "strace is not installed"

    def __init__(self, wait_us=0):
        """With `wait_us` before each wait, for servers that make too few calls for strace to slow them."""
        waits = ",".join(f"?{name}" for name in WAITS)  # not every architecture has all of them
        self.delay = ["-e", f"inject={waits}:delay_enter={wait_us}"] if wait_us else []

    def wrapper(self, folder):
        return ["strace", "-f", "-c", "-U", "name,calls", *self.delay, "-o", f"{folder}/strace"]

    def counts(self, folder):
        rows = re.findall(r"^ *([a-z_0-9]+) +(\d+)$", read(f"{folder}/strace"), re.M)
        counted = {name: int(calls) for name, calls in rows if name != "total"}
        return {"calls": sum(counted.values()), "waits": sum(counted.get(name, 0) for name in WAITS)}


class Waits(Instrument):
    """The calls that wait and change what is waited for, by strace, and over how many descriptors poll(2) went."""

    def wrapper(self, folder):
        calls = ",".join(f"?{name}" for name in ("epoll_ctl", *WAITS))
        return ["strace", "-f", "-e", f"trace={calls}", "-e", f"raw={calls}", "-o", f"{folder}/strace"]

    def counts(self, folder):
        began = re.findall(r"^\d+ +([a-z_0-9]+)\((?:0x)?\w+(?:, (\w+))?", read(f"{folder}/strace"), re.M)
        return {
            "waits": sum(name in WAITS for name, _ in began),
            "epoll waits": sum(name.startswith("epoll_") and name in WAITS for name, _ in began),
            "changes": sum(name == "epoll_ctl" for name, _ in began),
            "scanned": sum(int(second, 16) for name, second in began if name in ("poll", "ppoll")),
        }


class Callgrind(Instrument):
    """User instructions, exactly and without any PMU. The server is slow under valgrind, so that nearly every
    connection is ready at every wait; `calls` counts calls from outside, to stand beside the figure."""

    name = "callgrind"

    @staticmethod
    def missing():
        return None if installed("valgrind") else "valgrind is not installed"

    def __init__(self, calls=None):
        self.calls = calls

    def wrapper(self, folder):
        output = [f"--callgrind-out-file={folder}/callgrind", f"--log-file={folder}/valgrind"]
        options = ["--tool=callgrind", f"--vgdb-prefix={folder}/vgdb", f"--vgdb-poll={LISTENS_EVERY}", *output]
        # The server may be behind a script that executes it.
        valgrind = ["valgrind", "--trace-children=yes", *options]
        return [*self.calls.wrapper(folder), *valgrind] if self.calls else valgrind

    def end(self, folder):
        """valgrind 3.19 lets no signal into io_uring_enter(2) and looks for one every 100,000 blocks: a server that
        sleeps there would end some random work later. Instead valgrind is asked for the count, and the server killed.
        Valgrind hears the question once some blocks have run: connections make it run them."""

        def ask_and_kill(server):
            if not server.sleeps_in(IO_URING_ENTER):
                return False
            # Not by ptrace(2): another tracer may be there, and to valgrind the server does not look blocked.
            ask = ["vgdb", f"--vgdb-prefix={folder}/vgdb", f"--pid={server.pid}", "--max-invoke-ms=0", "-c", "dump"]
            with subprocess.Popen(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as asking:
                for _ in range(CONNECTIONS_UNTIL_DEAD):
                    if asking.poll() is not None:
                        break
                    with server.connect():
                        time.sleep(0.02)
                else:
                    asking.kill()
            os.kill(server.pid, signal.SIGKILL)
            return True

        return ask_and_kill

    def counts(self, folder):
        asked = f"{folder}/callgrind.1"
        said = read(asked) if os.path.exists(asked) else read(f"{folder}/valgrind")
        collected = re.search(r"(?:^totals:|Collected :) (\d+)", said, re.M)
        if not collected:
            raise Failure(f"valgrind counted nothing: {read(f'{folder}/valgrind')[-500:]}")
        beside = self.calls.counts(folder) if self.calls else {}
        return beside | {"user": int(collected.group(1))}


class Pmu(Instrument):
    """User and kernel instructions by the processor's own counters."""

    name = "PMU"
    events = ["instructions:u", "instructions:k"]

    @classmethod
    def missing(cls):
        if not installed("perf"):
            return "perf is not installed"
        return None if perf_stat(cls.events) else "no PMU: perf cannot count instructions here"

    def wrapper(self, folder):
        return perf_command(f"{folder}/perf", self.events)

    def counts(self, folder):
        counted = perf_counts(f"{folder}/perf")
        return {"user": counted["instructions:u"], "kernel": counted["instructions:k"]}


TRACING = "/sys/kernel/tracing"


def perf_command(output, events):
    return ["perf", "stat", "-x;", "-o", output, "-e", ",".join(events), "--"]


def perf_counts(output):
    """Event to count; an event that was not counted is not there."""
    rows = [line.split(";") for line in read(output).splitlines() if ";" in line]
    return {row[2]: int(row[0]) for row in rows if row[0].isdigit()}


def perf_stat(events):
    with tempfile.TemporaryDirectory() as folder:
        command = [*perf_command(f"{folder}/perf", events), "true"]
        worked = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
        return worked and len(perf_counts(f"{folder}/perf")) == len(events)
