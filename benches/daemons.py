#!/usr/bin/env python3
"""Our RESP and HTTP servers beside redis-server and nginx: requests per second of server CPU time, in pairs.

    daemons.py                       all cases, 7 rounds
    daemons.py --only GET --rounds 3
    daemons.py --json daemons.json   the record

In each round, for each case in random order, both servers are started afresh, whichever comes first by lot, on one CPU, and
loaded from another by the client that Debian has: redis-benchmark with 50 connections, plain and 16 requests at a time;
wrk with 64. A round's figure is the ratio of what each served for a second of its CPU time, as the scheduler accounts
it, of all its threads: above 1, ours does more for it. The client is often the limit, so that requests per second would
say little.

redis-server has one thread and keeps nothing on disk; nginx has one worker and answers by itself (`return 200`). Both do
more than ours for a request: theirs have modules, time-outs and statistics. The ratio is no rank, but the answer to
whether the core costs more than those that people run.
"""

import argparse
import json
import os
import platform
import random
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/contestants")

import harness  # noqa: E402
from harness import CPUS, Failure, LOAD_CPU, SERVER_CPU, installed, pin  # noqa: E402

NEEDED = {  # a command: the Debian package it comes in
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "nginx": "nginx-light",
    "wrk": "wrk",
}
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port};
        location / {{ default_type text/plain; return 200 "Hello, World!"; }}
    }}
}}
"""


def main():
    options = arguments()
    missing = [f"{command} (Debian: apt-get install {package})" for command, package in NEEDED.items()
               if not installed(command)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    if SERVER_CPU == LOAD_CPU:
        print("one CPU only: server and load share it, and CPU times include what that costs")
    random.seed(options.seed)
    cases = [case for case in CASES if options.only is None or re.search(options.only, case.name)]
    if not cases:
        sys.exit(f"no case has {options.only!r} in its name: there are {', '.join(case.name for case in CASES)}")
    samples = []
    for number in range(options.rounds):
        for case in random.sample(cases, len(cases)):
            sides = random.sample(["ours", "theirs"], 2)
            sample = {"round": number, "case": case.name, "first": sides[0]}
            for side in sides:
                print(f"\rround {number + 1}/{options.rounds}: {case.name:20}", end="", file=sys.stderr)
                sample[side] = case.measure(options, side)
            samples.append(sample)
    print("\r" + " " * 50, end="\r", file=sys.stderr)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"setting": setting(options), "samples": samples}, file, indent=1)
            file.write("\n")
    sys.exit(0 if report(options, cases, samples) else 1)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pollmark", default=f"{os.path.dirname(HERE)}/target/release/pollmark", metavar="PATH")
    parser.add_argument("--backend", default="epoll", metavar="NAME")
    parser.add_argument("--only", metavar="PATTERN", help="cases whose names have it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=100_000, help="of redis-benchmark; of 16 at a time, ten times as many")
    parser.add_argument("--seconds", type=int, default=2, help="of wrk")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


class Daemon(harness.Server):
    """A server that does not say where it listens, so it is told a port that was free a moment ago."""

    def __init__(self, command, has_worker):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.folder = tempfile.TemporaryDirectory()
        with open(f"{self.folder.name}/nginx.conf", "w", encoding="utf-8") as file:
            file.write(NGINX.format(folder=self.folder.name, port=port))
        self.command, self.end, self.idle, self.rest = command, None, [], ""
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            shlex.split(command.format(port=port, folder=self.folder.name)),
            stdout=self.errors, stderr=self.errors, preexec_fn=pin(SERVER_CPU),
        )
        for _ in range(500):
            try:
                self.connect().close()
                break
            except ConnectionRefusedError:
                if self.process.poll() is not None:
                    raise Failure(f"{command}: ended with {self.process.returncode}: {self.said()}") from None
                time.sleep(0.02)
        self.master, self.pid = self.process.pid, self.worker() if has_worker else self.process.pid

    def worker(self):
        """The one that serves. The port is open before it is there."""
        for _ in range(500):
            worker = harness.innermost(self.process.pid)
            if worker != self.process.pid:
                return worker
            time.sleep(0.02)
        raise Failure(f"{shlex.join(self.process.args)}: has no worker: {self.said()}")

    def __exit__(self, *what):
        self.pid = self.master  # of nginx: to end the worker alone would have it started again
        super().__exit__(*what)
        self.folder.cleanup()


class Case:
    """One kind of request, from one client, to ours and to theirs."""

    def __init__(self, name, protocol, theirs, drive):
        self.name, self.protocol, self.theirs, self.drive = name, protocol, theirs, drive

    def measure(self, options, side):
        """Requests per second of CPU time."""
        with self.start(options, side) as server:
            host, port = server.address.split(":")
            self.drive(options, host, port, 0.1)  # warm: memory is allocated, and keys are there to be got
            before, began = server.cpu_ns(), time.monotonic()
            requests = self.drive(options, host, port, 1)
            took, cpu = time.monotonic() - began, server.cpu_ns() - before
            if cpu <= 0:
                raise Failure(f"{self.name}: {side} has served {requests} requests and used no CPU time")
        return {"requests": requests, "cpu_ns": cpu, "seconds": took, "per_cpu_second": requests / (cpu / 1e9)}

    def start(self, options, side):
        if side == "theirs":
            return Daemon(self.theirs, has_worker=self.theirs is NGINX_COMMAND)
        return harness.Server(f"{options.pollmark} serve --backend {options.backend} --protocol {self.protocol} "
                              "--listen {address}")


def redis_benchmark(test, at_once):
    def drive(options, host, port, part):
        requests = max(at_once, int(options.requests * (10 if at_once > 1 else 1) * part))
        # What is got was set before.
        tests = f"set,{test}" if test == "get" and part < 1 else test
        said = run(["redis-benchmark", "-h", host, "-p", port, "-t", tests, "-n", str(requests), "-P", str(at_once),
                    "-c", "50", "-r", "10000", "-q", "--csv"])
        if f'"{test.upper()}"' not in said:
            raise Failure(f"redis-benchmark did not run {test}: {said[-500:]}")
        return requests

    return drive


def wrk(options, host, port, part):
    seconds = max(1, round(options.seconds * part))
    said = run(["wrk", "-t", "1", "-c", "64", "-d", f"{seconds}s", f"http://{host}:{port}/plaintext"])
    if "Non-2xx" in said or "Socket errors" in said:
        raise Failure(f"wrk: {said}")
    return int(re.search(r"(\d+) requests in", said).group(1))


NGINX_COMMAND = "nginx -p {folder} -c {folder}/nginx.conf"
REDIS = 'redis-server --bind 127.0.0.1 --port {port} --save "" --appendonly no --dir {folder}'
CASES = [
    Case(f"{test.upper()}{' -P 16' if at_once > 1 else ''}", "resp", REDIS, redis_benchmark(test, at_once))
    for at_once in (1, 16) for test in ("ping_inline", "get", "set")
] + [Case("HTTP", "http", NGINX_COMMAND, wrk)]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=pin(LOAD_CPU), timeout=harness.PATIENCE)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {done.stderr[-500:]}{done.stdout[-500:]}")
    return done.stdout


def setting(options):
    def version(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        return (done.stdout + done.stderr).strip().splitlines()[0]

    return {
        "command": " ".join([os.path.relpath(sys.argv[0]), *sys.argv[1:]]), "seed": options.seed, "cpus": CPUS,
        "kernel": platform.release(), "machine": platform.machine(), "rounds": options.rounds,
        "ours": f"{version(options.pollmark, '--version')}, {options.backend}",
        "theirs": [version("redis-server", "--version"), version("nginx", "-v")],
        "clients": [version("redis-benchmark", "--version"), version("wrk", "-v")],
    }


def report(options, cases, samples):
    """Whether ours does at least as much for its CPU time, by the median of the rounds."""
    print(f"thousand requests per second of server CPU time, medians of {options.rounds} rounds, {options.backend}\n")
    print(f"{'':20} {'ours':>8} {'theirs':>8} {'ratio':>7}   least and most")
    all_pass = True
    for case in cases:
        pairs = [[sample[side]["per_cpu_second"] for side in ("ours", "theirs")]
                 for sample in samples if sample["case"] == case.name]
        ratios = [ours / theirs for ours, theirs in pairs]
        ours, theirs = (statistics.median(pair[at] for pair in pairs) / 1e3 for at in (0, 1))
        passes = statistics.median(ratios) >= 1
        all_pass &= passes
        print(f"{case.name:20} {ours:8,.0f} {theirs:8,.0f} {statistics.median(ratios):7.2f}   "
              f"{min(ratios):.2f} to {max(ratios):.2f}{'' if passes else '   BELOW 1'}")
    return all_pass


if __name__ == "__main__":
    main()
