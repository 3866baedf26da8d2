"""What a count prints, and the record it keeps."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys

import harness
from gates import pairs_of

HERE = os.path.dirname(os.path.abspath(__file__))

# metric: (title of its row, digits)
METRICS = {
    "user a10": ("user instr/echo a10", 1),
    "events a10": ("(events/wait)", 1),
    "user idle": ("same, idle", 1),
    "user churn": ("user instr/churn", 0),
    "PMU user a10": ("user instr/echo a10, PMU", 1),
    "PMU kernel a10": ("kernel instr/echo a10", 0),
    "PMU all a10": ("both", 0),
    "PMU all idle": ("both, idle", 0),
    "PMU kernel a100": ("kernel instr/echo a100", 0),
    "PMU kernel churn": ("kernel instr/churn", 0),
    "calls a1": ("calls/echo a1", 2),
    "calls a10": ("a10", 2),
    "natural calls a10": ("a10 unslowed", 2),
    "natural events a10": ("(events/wait)", 1),
    "calls churn": ("calls/churn", 2),
    "calls churn 8": ("same, 8 at a time", 2),
    "natural calls churn": ("calls/churn unslowed", 2),
    "cpu a1": ("CPU µs/echo a1", 2),
    "cpu a10": ("a10", 2),
    "cpu a100": ("a100", 2),
    "cpu idle": ("a10 idle", 2),
    "cpu churn": ("CPU µs/churn", 2),
    "cpu ns scan": ("CPU ns/idle fd", 1),
    "user scan": ("user instr/idle fd", 3),
    "PMU all scan": ("user+kernel instr/idle fd", 1),
    "memory": ("user B/idle conn", 1),
}


def print_setting(options, missing):
    print(f"server on CPU {harness.SERVER_CPU}, load on CPU {harness.LOAD_CPU}")
    print(f"{options.rounds} rounds, {options.idle} idle connections, seed {options.seed}")
    if harness.SERVER_CPU == harness.LOAD_CPU:
        print("one CPU only: server and load share it, and CPU times include what that costs")
    for tool, why in missing.items():
        if why:
            print(f"{tool} unavailable: {why}")
    if missing["PMU"]:
        print("KERNEL INSTRUCTIONS: UNAVAILABLE HERE. Their gates are not judged; CPU time stands beside them.")
    for name, command in options.servers.items():
        print(f"  {name:14} {command}")
    sys.stdout.flush()


def print_table(options, samples):
    """Servers across, metrics down; medians of the rounds."""
    width = max(map(len, options.servers)) + 2
    print("\n" + " " * 32 + "".join(name.rjust(width) for name in options.servers))
    modelled = sorted({metric for _, metric in samples if metric.startswith("model ")}, key=lambda m: int(m.split()[1]))
    rows = METRICS | {metric: (f"instr/echo, {metric[6:]} idle, model", 0) for metric in modelled}
    for metric, (title, digits) in rows.items():
        cells = [median(samples.get((name, metric))) for name in options.servers]
        if all(cell is None for cell in cells):
            continue
        texts = ["–" if cell is None else f"{cell:.{digits}f}" for cell in cells]
        print(title.ljust(32) + "".join(text.rjust(width) for text in texts))
    for baseline in ("c-epoll", "epoll"):
        print_pairs(options, samples, baseline)


def print_pairs(options, samples, baseline):
    """Ratios within a round, and between two servers that are the same, which is how far a ratio is to be trusted."""
    metrics = [metric for metric in METRICS if metric.startswith("cpu") and samples.get((baseline, metric))]
    metrics = [metric for metric in metrics if metric != "cpu ns scan"]  # a difference, of about nothing for most
    if not metrics:
        return
    print(f"\nCPU / {baseline}, median of the rounds' ratios (lowest–highest); idle: {options.idle}")
    print(" " * 16 + "".join(metric.rjust(20) for metric in metrics))
    for name in options.servers:
        texts = []
        for metric in metrics:
            ratios = [ours / floor for ours, floor in pairs_of(samples, name, baseline, metric)]
            said = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else "–"
            texts.append(said.rjust(20))
        print(name.ljust(16) + "".join(texts))


def median(values):
    return statistics.median(values.values()) if values else None


def print_gates(gates):
    print()
    for gate in gates:
        value = "–" if gate["value"] is None else f"{gate['value']:.3f}"
        limits = [f"{word} {gate[word]:g}" for word in ("limit", "aim") if gate[word] is not None]
        why = f" because: {gate['reason']}" if gate["reason"] else ""
        print(f"{gate['verdict']:12} {value:>9} ({', '.join(limits) or 'all of it'})  {gate['gate']}{why}")
    unjudged = sum(gate["verdict"] == "unavailable" for gate in gates)
    if unjudged:
        print(f"\nNOT JUDGED: {unjudged} of {len(gates)} gates, each with its reason above")


def write_record(options, missing, samples, gates):
    def output(*command):
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE).stdout.strip()

    record = {
        "schema": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": options.seed,
        "host": {
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpu": next(
                (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), None
            ),
            "cpus": harness.CPUS,
            "mitigations": output("sh", "-c", "grep -r . /sys/devices/system/cpu/vulnerabilities").splitlines(),
        },
        # Of the scripts; and of the program, which says so itself and may be older.
        "commit": output("git", "describe", "--always", "--dirty"),
        "pollmark": options.version,
        "compilers": [output("cc", "--version").partition("\n")[0], output("rustc", "--version")],
        "unavailable": {tool: why for tool, why in missing.items() if why},
        "servers": options.servers,
        "absent": options.absent,
        "load": options.load.commands,
        "idle": options.idle,
        "samples": [
            {"server": server, "metric": metric, "values": values}
            for (server, metric), values in samples.items()
            if values
        ],
        "gates": gates,
    }
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
    print(f"\nwrote {options.json}")


