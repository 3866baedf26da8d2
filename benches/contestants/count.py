#!/usr/bin/env python3
"""Counts what servers spend on the same work, in interleaved rounds, and holds pollmark against the floor.

    count.py                        pollmark's rows, the C floors, mio and polling; the gates at the end
    count.py --quick                no peers, fewer rounds and requests: whether it works, not what it costs
    count.py --only cpu             CPU time alone, in pairs; for a quiet machine
    count.py --server mine='./mine {address}' --gate mine/c-epoll:flat

Instructions and system calls decide, because they repeat where times on a shared machine do not; CPU time is compared
within each round only. Every figure is taken with nothing else attached to the server, and each in a fresh process.
The exit status is 0 when no gate failed, 1 when one did, 3 with --strict when one could not be judged.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
from collections import defaultdict

import gates
import harness
from account import print_gates, print_setting, print_table, write_record
from harness import Failure, Load, Server
from instruments import Callgrind, Pmu, Strace, Tracepoints, Waits, slope

HERE = os.path.relpath(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.relpath(f"{HERE}/../..")
FLOORS = ("c-epoll", "c-poll", "c-uring")
PEERS = ("mio", "polling", "polling-level")
POLLMARK = f"{ROOT}/target/release/pollmark"
ROWS = tuple(subject for subject, _, _ in gates.PAIRS)
AGAIN = "epoll again"  # the same server once more: what two figures of one thing differ by
GENERATOR = f"{HERE}/target/load {{target}} {{active}} {{requests}} {{size}}"

def main():
    options = arguments()
    harness.raise_descriptor_limit(options.idle + 500)
    missing = {tool.name: tool.missing() for tool in (Callgrind, Pmu, Tracepoints, Strace)}
    print_setting(options, missing)

    samples = defaultdict(dict)  # (server, metric) → round → value
    random.seed(options.seed)
    for number in range(options.rounds):
        # What is compared within a round is taken side by side: the machine of a minute later is another one.
        kinds = plan(options, missing, number)
        random.shuffle(kinds)
        visits = [
            (name, visit) for visit in kinds for name in shuffled(options.servers) if applies(options, visit, name)
        ]
        for done, (name, visit) in enumerate(visits):
            progress(f"round {number + 1}/{options.rounds}, visit {done + 1}/{len(visits)}: {name} {visit.__name__}")
            for metric, value in visit(options, name).items():
                samples[name, metric][number] = value
        progress("")

    judged = [
        row for pair in options.gate for row in gates.judge(pair, samples, options.idle, missing, options.absent)
    ]
    print_table(options, samples)
    print_gates(judged)
    if options.json:
        write_record(options, missing, samples, judged)
    verdicts = {row["verdict"] for row in judged}
    sys.exit(1 if "fail" in verdicts else 3 if options.strict and "unavailable" in verdicts else 0)


def plan(options, missing, number):
    """What is measured of every server in this round. Counts repeat so well that not every round takes them."""
    visits = []
    if "cpu" in options.only:
        visits += [cpu_active, cpu_churn, cpu_idle]
    if "memory" in options.only and number == 0:
        visits.append(memory)
    if "calls" in options.only and number < 3:
        if not missing["strace"]:
            visits += [calls, calls_churn]
        if not missing["tracepoints"] and not options.quick:
            visits.append(calls_natural)
    if "instructions" in options.only:
        if not missing["callgrind"]:
            visits += [user_echo] * (number < 3) + [user_idle, user_scan] * (number == 0)
            visits += [user_churn] * (number < 3 and not options.quick)
            visits += [counted_model] * (number == 0 and not missing["strace"])
        if not missing["PMU"]:
            visits += [pmu_echo, pmu_more, pmu_idle, pmu_scan]
    return visits


def applies(options, visit, name):
    """Whether a server's growth with idle connections is to be judged as flat; what scans is judged per descriptor."""
    if name == AGAIN:
        return visit in (cpu_active, cpu_churn)
    scanning = of_kind(options, "scan")
    if visit in (user_idle, pmu_idle):
        growing = of_kind(options, "flat") | of_kind(options, "idle") | of_kind(options, "complete")
        return name not in scanning and (not options.quick or name in growing - set(FLOORS))
    if visit is user_scan:
        return name in scanning
    if visit is counted_model:
        return "adaptive" in options.servers and name in ("poll", "epoll", "adaptive")
    if visit is pmu_more:
        return name == "epoll" or name in of_kind(options, "complete")
    return True


def of_kind(options, kind):
    return {server for *pair, this in options.gate if this == kind for server in pair}


# One visit: fresh processes of one server, one kind of figure. `few` and `many` requests make a slope.


def user_echo(options, name):
    counts = echoes_of_ten(options, name)
    return {"user a10": counts["user"], "events a10": 1 / counts["waits"]}


def echoes_of_ten(options, name, idle=0):
    """How many of the ten answers a wait finds is up to the speed of both sides, as with `calls_of_ten`: a generator that
    other programs hold up only adds waits. So it is the least of several counts, until one has found nearly all at each
    wait. Of what completes a wait costs more than an echo, and two counts that are to be compared need more tries."""
    counter = Callgrind(Tracepoints() if not Tracepoints.missing() else Strace())
    least = None
    for _ in range(8 if name in of_kind(options, "complete") else 3):
        counts = slope(counter, options.servers[name], options.load, "echo", 10, 2000, options.many, idle)
        least = min(counts, least or counts, key=lambda counts: counts["user"])
        if 1 / least["waits"] >= 8.8:
            break
    return least


def user_idle(options, name):
    return {"user idle": echoes_of_ten(options, name, options.idle)["user"]}


def user_churn(options, name):
    counts = slope(Callgrind(), options.servers[name], options.load, "churn", 32, 500, 3500)
    return {"user churn": counts["user"]}


def counted_model(options, name):
    """Instructions where nothing but the waiting differs: the user's as counted; the kernel's by how often it was
    called and over how many descriptors, beside what an echo takes however it is waited for."""
    costs = {}
    for idle in options.steps:
        counts = slope(Callgrind(Waits()), options.servers[name], options.load, "echo", 10, 2000, 2000 + options.many // 5, idle)
        kernel = gates.ECHO_KERNEL + gates.SCAN_KERNEL * counts["scanned"] + gates.EPOLL_CHANGE * counts["changes"]
        if counts["epoll waits"]:
            kernel += gates.EPOLL_WAIT * counts["epoll waits"] + gates.EPOLL_EVENT
        costs[f"model {idle}"] = counts["user"] + kernel
    return costs


def user_scan(options, name):
    return {"user scan": scan(options, name, Callgrind(), few=200, many=700)["user"]}


def pmu_echo(options, name):
    counts = slope(Pmu(), options.servers[name], options.load, "echo", 10, 2000, 42000)
    return {"PMU user a10": counts["user"], "PMU kernel a10": counts["kernel"], "PMU all a10": sum(counts.values())}


def pmu_more(options, name):
    hundred = slope(Pmu(), options.servers[name], options.load, "echo", 100, 2000, 42000)
    churn = slope(Pmu(), options.servers[name], options.load, "churn", 32, 500, 5500)
    return {"PMU kernel a100": hundred["kernel"], "PMU kernel churn": churn["kernel"]}


def pmu_idle(options, name):
    counts = slope(Pmu(), options.servers[name], options.load, "echo", 10, 2000, 42000, options.idle)
    return {"PMU all idle": sum(counts.values())}


def pmu_scan(options, name):
    return {"PMU all scan": sum(scan(options, name, Pmu(), few=200, many=1200).values())}


def scan(options, name, instrument, few, many):
    """What one idle descriptor adds to a wait: one active connection, so that every wait is for one event."""
    none, idle = (
        slope(instrument, options.servers[name], options.load, "echo", 1, few, many, idle) for idle in (0, options.idle)
    )
    return {kind: (idle[kind] - none[kind]) / options.idle for kind in none}


def calls(options, name):
    one = slope(Strace(), options.servers[name], options.load, "echo", 1, 500, 3500)
    return {"calls a1": one["calls"], "calls a10": calls_of_ten(options, name)}


def calls_of_ten(options, name):
    """Where the wait is the only call, strace is no brake, and how many of the ten answers come back while the others
    are still being sent is up to the speed of both sides. A generator that other programs hold up only adds calls: so
    it is the least of several counts, until one is well below what the gate allows."""
    if name not in of_kind(options, "complete"):
        return slope(Strace(), options.servers[name], options.load, "echo", 10, 2000, options.many)["calls"]
    least = None
    for attempt in range(12):
        strace = Strace(wait_us=(0, 50, 100)[attempt % 3])
        count = slope(strace, options.servers[name], options.load, "echo", 10, 2000, 12000)["calls"]
        least = min(count, least or count)
        if least < 0.165:
            break
    return least


def calls_churn(options, name):
    """With so much time before each wait that every connection has moved by then."""
    counts = slope(Strace(wait_us=300), options.servers[name], options.load, "churn", 32, 500, 3500)
    found = {"calls churn": counts["calls"]}
    if name in of_kind(options, "adapt"):
        few = slope(Strace(wait_us=300), options.servers[name], options.load, "churn", 8, 500, 3500)
        found["calls churn 8"] = few["calls"]
    return found


def calls_natural(options, name):
    echo = slope(Tracepoints(), options.servers[name], options.load, "echo", 10, 2000, 42000)
    churn = slope(Tracepoints(), options.servers[name], options.load, "churn", 32, 500, 5500)
    return {
        "natural calls a10": echo["calls"],
        "natural events a10": 1 / echo["waits"],
        "natural calls churn": churn["calls"],
    }


def cpu_active(options, name):
    with Server(options.servers[name]) as server:
        order = random.sample((10, 100), 2)
        return {f"cpu a{active}": cpu_us(options, server, active, options.requests) for active in order}


def cpu_churn(options, name):
    with Server(options.servers[name]) as server:
        return {"cpu churn": cpu_us(options, server, 32, options.requests // 4, "churn")}


def cpu_idle(options, name):
    with Server(options.servers[name]) as server:
        none = cpu_us(options, server, 1, options.requests // 8)
        server.hold_idle(options.idle)
        idle = cpu_us(options, server, 1, options.requests // 8)
        ten = cpu_us(options, server, 10, options.requests // 4)
    return {"cpu a1": none, "cpu ns scan": 1000 * (idle - none) / options.idle, "cpu idle": ten}


def cpu_us(options, server, active, requests, mode="echo"):
    """CPU time per echo on warm connections' pages and caches; opening the few connections is in it."""
    options.load.run(server, mode, active, max(active, requests // 10))
    before = server.cpu_ns()
    options.load.run(server, mode, active, requests)
    return (server.cpu_ns() - before) / requests / 1000


def memory(options, name):
    """What idle connections add to a server that has already worked."""
    with Server(options.servers[name]) as server:
        options.load.run(server, "echo", 100, 5000)
        before = server.anonymous_bytes()
        server.hold_idle(options.idle)
        return {"memory": (server.anonymous_bytes() - before) / options.idle}


def shuffled(names):
    return random.sample(list(names), len(names))


# What the command line says


def progress(text):
    """Rewrites one line of a terminal; a log gets a line of its own for every tenth visit."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif ", visit " in text and int(text.split(", visit ")[1].split("/")[0]) % 10 == 1:
        print(text, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pollmark", metavar="PATH", help="the command to hold against the floor (default: target/release)"
    )
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="one more server; {address} is where it listens",
    )
    parser.add_argument("--gate", action="append", default=[], metavar="NAME/BASELINE:flat|scan|complete|adapt")
    parser.add_argument(
        "--contestants", metavar="NAMES", help="which of target/bin (default: all, or with --quick the C ones)"
    )
    parser.add_argument(
        "--rows", default=",".join(ROWS), metavar="NAMES", help="which of pollmark's (default: %(default)s)"
    )
    parser.add_argument("--load", default=GENERATOR, metavar="COMMAND", help="with {target} {active} {requests} {size}")
    parser.add_argument(
        "--churn", default=GENERATOR + " --churn", metavar="COMMAND", help="as --load, a connection per request"
    )
    parser.add_argument("--only", default="instructions,calls,cpu,memory", metavar="KINDS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=40000, help="echoes in one CPU figure")
    parser.add_argument("--idle", type=int, help="default: 9000, or with --quick 1000")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--json", metavar="FILE", help="keep every sample, with the setting")
    parser.add_argument("--strict", action="store_true", help="a gate that cannot be judged counts")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()

    if options.quick:
        options.rounds, options.requests = 1, 8000
    options.idle = options.idle or (1000 if options.quick else 9000)
    options.many = 12000 if options.quick else 32000
    options.steps = (0, 30, options.idle) if options.quick else (0, 8, 30, 100, 1000, options.idle)
    options.only = options.only.split(",")
    options.load = Load(options.load, options.churn)
    options.gate = [
        (subject, *baseline.split(":")) for subject, baseline in (gate.split("/") for gate in options.gate)
    ] or gates.PAIRS
    find_servers(options)
    if not os.path.exists(f"{HERE}/target/load"):
        parser.error("run benches/contestants/build first")
    return options


def find_servers(options):
    """What there is to run, and why what the gates want is not there."""
    options.servers, options.absent = {}, {}
    peers = () if options.quick else PEERS
    chosen = FLOORS + peers if options.contestants is None else filter(None, options.contestants.split(","))
    for name in chosen:
        if name == "c-uring" and (why := harness.io_uring_missing()):
            options.absent[name] = why
        elif os.path.exists(f"{HERE}/target/bin/{name}"):
            options.servers[name] = f"{HERE}/target/bin/{name}"
        else:
            options.absent[name] = "it is not built: benches/contestants/build says why"

    command = options.pollmark or POLLMARK
    is_there = options.pollmark or os.path.exists(POLLMARK)
    listed = listed_rows(command) if is_there else None
    options.version = printed(command, "--version").strip() if is_there else None
    for name in options.rows.split(","):
        if listed is None:
            options.absent[name] = f"there is no {POLLMARK}: cargo build --release"
        elif name not in listed:
            options.absent[name] = f"`pollmark backends` has no row {name!r}"
        elif listed[name]:
            options.absent[name] = listed[name]
        else:
            options.servers[name] = f"{command} serve --backend {name} --protocol echo --listen {{address}}"
    if "cpu" in options.only and "epoll" in options.servers:
        options.servers[AGAIN] = options.servers["epoll"]
    options.servers.update(server.split("=", 1) for server in options.server)
    for pair in options.gate:
        for name in pair[:2]:
            if name not in options.servers:
                options.absent.setdefault(name, gates.NOT_ASKED_FOR)


def listed_rows(command):
    """What `pollmark backends` lists: name to why it is not available, or None."""
    available = printed(command, "backends", "--names").split()
    lines = re.findall(r"^([a-z][a-z0-9-]*)  +(.*)$", printed(command, "backends"), re.M)
    return {name: None for name in available} | {name: why for name, why in lines if name not in available}


def printed(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and so take the server with us
    try:
        main()
    except Failure as failure:
        sys.exit(f"count.py: {failure}")
