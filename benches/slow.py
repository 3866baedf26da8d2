#!/usr/bin/env python3
"""What 5,000 slow connections cost those that are well-behaved: their p99 with and without the crowd, in pairs.

    slow.py                         every mechanism of this host that serves several at once
    slow.py --backends epoll,poll   these
    slow.py --json slow.json        the record

In each round, for each mechanism in random order, one server is started and loaded twice, beside 5,000 connections that say
a byte every second each and beside none, whichever comes first by lot. The load is an open loop at half of what a closed
loop of the same connections reached first, so that generator and server are about half busy; latency counts from when a
request was due. A round's figure is the ratio of its two p99; the table has medians, and the least and most of all rounds.

Times on a shared machine are no gate: what holds for counts is asserted by tests/hostile/turns.rs.
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time

ROOT = os.path.relpath(f"{os.path.dirname(os.path.abspath(__file__))}/..")
sys.path.insert(0, f"{ROOT}/benches/contestants")

from harness import LOAD_CPU, SERVER_CPU, pin  # noqa: E402


def main():
    options = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    backends = options.backends.split(",") if options.backends else available(options)
    random.seed(options.seed)
    pin(LOAD_CPU)()  # this program, which is the crowd, and with it the load
    rates = {backend: options.rate or calibrate(options, backend) for backend in backends}
    rounds = []
    for number in range(options.rounds):
        for backend in random.sample(backends, len(backends)):
            crowds = random.sample([0, options.slow], 2)
            with Server(options, backend) as server:
                visits = {crowd: visit(options, server, crowd, rates[backend]) for crowd in crowds}
            rounds.append({"round": number, "backend": backend, "rate": rates[backend], "first": crowds[0],
                           "beside_none": visits[0], "beside_slow": visits[options.slow]})
            print(f"\rround {number + 1}/{options.rounds}: {backend:20}", end="", file=sys.stderr)
    print("\r" + " " * 50, end="\r", file=sys.stderr)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"setting": setting(options), "rounds": rounds}, file, indent=1)
            file.write("\n")
    print_table(options, backends, rates, rounds)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pollmark", default=f"{ROOT}/target/release/pollmark", metavar="PATH")
    parser.add_argument("--backends", metavar="NAMES")
    parser.add_argument("--slow", type=int, default=5_000, metavar="N", help="slow connections")
    parser.add_argument("--active", type=int, default=50, metavar="N", help="well-behaved connections")
    parser.add_argument("--rate", type=int, metavar="N", help="requests a second, the same for all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--duration", default="1s", metavar="TIME", help="of one visit")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def available(options):
    """All that are here but for those that cannot hold the crowd; of which it is said why."""
    here = subprocess.check_output([options.pollmark, "backends", "--names"], text=True).split()
    cannot = {"iterative": "serves one connection at a time", "select": "knows no descriptor above 1023"}
    for name in here:
        if name in cannot and options.slow + options.active > 900:
            print(f"left out: {name} {cannot[name]}", file=sys.stderr)
    return [name for name in here if name not in cannot or options.slow + options.active <= 900 and name == "select"]


class Server:
    """One on a free port, in a fresh process."""

    def __init__(self, options, backend):
        command = [options.pollmark, "serve", "--backend", backend, "--protocol", "echo", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        preexec_fn=pin(SERVER_CPU))
        first_line = self.process.stdout.readline()
        bound = re.search(r"127\.0\.0\.1:(\d+)", first_line)
        if not bound:
            self.process.kill()
            sys.exit(f"{backend}: no address in {first_line!r}: {self.process.stderr.read()}")
        self.address = ("127.0.0.1", int(bound.group(1)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=60)


class Crowd:
    """Connections of which each says a byte every second, and hears it. A thread sees to them, little by little."""

    STEPS = 100

    def __init__(self, address, count):
        self.peers = [socket.create_connection(address) for _ in range(count)]
        self.selector = selectors.DefaultSelector()
        self.heard = 0
        self.over = threading.Event()
        for peer in self.peers:
            peer.setblocking(False)
            self.selector.register(peer, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self.live)

    def live(self):
        step = 0
        while not self.over.wait(1 / self.STEPS) if self.peers else not self.over.wait():
            for peer in self.peers[step % self.STEPS :: self.STEPS]:
                peer.send(b".")
            for key, _ in self.selector.select(0):
                self.heard += len(key.fileobj.recv(64))
            step += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        for peer in self.peers:
            peer.close()


def load(options, server, *more):
    target = "{}:{}".format(*server.address)
    command = [options.pollmark, "load", "--target", target, "--active", str(options.active), "--json",
               "--duration", options.duration, *more]
    return json.loads(subprocess.check_output(command, text=True))


def calibrate(options, backend):
    """Half of what a closed loop reaches."""
    with Server(options, backend) as server:
        return max(1, int(load(options, server)["requests_per_second"] / 2))


def visit(options, server, crowd, rate):
    with Crowd(server.address, crowd) as slow:
        began = time.monotonic()
        ran = load(options, server, "--rate", str(rate))
        lasted = time.monotonic() - began
    # What is measured beside a crowd that says nothing is something else.
    if slow.heard < crowd * min(lasted, 1) / 4:
        sys.exit(f"the crowd of {crowd} has heard {slow.heard} bytes in {lasted:.1f} s: it was not served, or not slow")
    ran["heard_by_the_slow"] = slow.heard
    return ran


def setting(options):
    version = subprocess.check_output([options.pollmark, "--version"], text=True).strip()
    return {"command": " ".join(sys.argv), "seed": options.seed, "version": version, "cpus": os.cpu_count(),
            "kernel": platform.release(), "machine": platform.machine(), "slow": options.slow,
            "active": options.active, "rounds": options.rounds, "duration": options.duration}


def print_table(options, backends, rates, rounds):
    print(f"p99 of {options.active} connections, in µs: median of {options.rounds} rounds\n")
    print(f"{'':12} {'requests/s':>11} {'beside none':>12} {f'beside {options.slow}':>12} {'ratio':>7}   least and most")
    for backend in backends:
        pairs = [(one["beside_none"]["p99_ns"], one["beside_slow"]["p99_ns"])
                 for one in rounds if one["backend"] == backend]
        untold = sum(None in pair for pair in pairs)
        if untold:
            # A median of the others would be that of the good rounds.
            print(f"{backend:12} {rates[backend]:11,} {'–':>12} {'–':>12} {'–':>7}   in {untold} of {len(pairs)} rounds "
                  "there was no p99: more than one of a hundred was never sent, or fewer than 1,000 were")
            continue
        pairs = [(none / 1e3, slow / 1e3) for none, slow in pairs]
        none, slow = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
        ratios = [pair[1] / pair[0] for pair in pairs]
        print(f"{backend:12} {rates[backend]:11,} {none:12,.0f} {slow:12,.0f} {statistics.median(ratios):7.2f}"
              f"   {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
