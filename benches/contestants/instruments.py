"""What counts: user instructions under valgrind, both kinds where the machine has a PMU, and system calls.

An instrument is a command line put in front of the server's. Each counts from start to end, so a figure per request is
a slope: two fresh servers, few requests and many, difference over difference. Start, connections and end cancel out.
"""

import os
import re
import subprocess
import tempfile

from harness import Failure, Server, installed, read

WAITS = (
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6", "io_uring_enter",
)  # fmt: skip


def slope(instrument, command, load, mode, active, few, many, idle=0):
    """Every count of the instrument, per request."""
    counts = []
    for requests in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            with Server(command, instrument.wrapper(folder)) as server:
                server.hold_idle(idle)
                load.run(server, mode, active, requests)
            counts.append(instrument.counts(folder))
    return {name: (counts[1][name] - counts[0][name]) / (many - few) for name in counts[0]}


class Tracepoints:
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


class Strace:
    """System calls by strace. The server is so slow under it that every connection is ready at every wait: what is
    left is the calls it cannot avoid, and the count repeats to a fraction of a percent."""

    name = "strace"

    @staticmethod
    def missing():
        return None if installed("strace") else "strace is not installed"

    def wrapper(self, folder):
        return ["strace", "-f", "-c", "-U", "name,calls", "-o", f"{folder}/strace"]

    def counts(self, folder):
        rows = re.findall(r"^ *([a-z_0-9]+) +(\d+)$", read(f"{folder}/strace"), re.M)
        counted = {name: int(calls) for name, calls in rows if name != "total"}
        return {"calls": sum(counted.values()), "waits": sum(counted.get(name, 0) for name in WAITS)}


class Callgrind:
    """User instructions, exactly and without any PMU. The server is slow under valgrind, so that nearly every
    connection is ready at every wait; `calls` counts waits from outside, to stand beside the figure."""

    name = "callgrind"

    @staticmethod
    def missing():
        return None if installed("valgrind") else "valgrind is not installed"

    def __init__(self, calls=None):
        self.calls = calls

    def wrapper(self, folder):
        options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={folder}/valgrind"]
        # The server may be behind a script that executes it.
        valgrind = ["valgrind", "--trace-children=yes", *options]
        return [*self.calls.wrapper(folder), *valgrind] if self.calls else valgrind

    def counts(self, folder):
        collected = re.search(r"Collected : (\d+)", read(f"{folder}/valgrind"))
        if not collected:
            raise Failure(f"valgrind counted nothing: {read(f'{folder}/valgrind')[-500:]}")
        waits = {"waits": self.calls.counts(folder)["waits"]} if self.calls else {}
        return {"user": int(collected.group(1))} | waits


class Pmu:
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
