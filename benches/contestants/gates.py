"""What pollmark's servers may spend: each against a floor of its own kind, and some against each other.

A gate is a figure and its limit. Whatever cannot be judged says why; what a machine could judge, and did not because a
server is not there, fails.
"""

import statistics
from collections import namedtuple

from harness import io_uring_missing

# Subject, what it is held against, and the gates that apply.
PAIRS = [
    ("epoll", "c-epoll", "flat"),
    ("poll", "c-poll", "scan"),
    ("uring", "c-epoll", "idle"),
    ("completion", "c-uring", "complete"),
    ("adaptive", "c-poll", "adapt"),
]

# Rows that pollmark does not have yet. One that is not in this list and not there fails its gates.
TO_COME = set()

NEEDS_IO_URING = {"c-uring", "uring", "completion"}

# What the C loop on poll(2) spends on one idle descriptor in one call on Linux 6.18 x86-64, by PMU: kernel and user.
SCAN_KERNEL, SCAN_USER = 426, 5

# Instructions of the kernel, for where no PMU counts them and nothing but the waiting differs: what an echo takes
# however it is waited for, by PMU; and what epoll(7) takes for a wait, an event and a change, from the times of calls.
ECHO_KERNEL, EPOLL_WAIT, EPOLL_EVENT, EPOLL_CHANGE = 13500, 1000, 400, 2000


class Samples:
    """(server, metric) → round → value, as seen by the gates of one subject."""

    def __init__(self, samples, subject, baseline, idle):
        self.samples, self.subject, self.baseline, self.idle = samples, subject, baseline, idle

    def median(self, server, metric):
        values = self.samples.get((server, metric))
        return statistics.median(values.values()) if values else None

    def paired(self, metric, operation, other=None):
        """Median over the rounds of an operation on the two figures of one round."""
        pairs = pairs_of(self.samples, self.subject, other or self.baseline, metric)
        return statistics.median(operation(*pair) for pair in pairs) if pairs else None


def pairs_of(samples, subject, baseline, metric):
    ours, theirs = samples.get((subject, metric), {}), samples.get((baseline, metric), {})
    return [(ours[number], theirs[number]) for number in ours if number in theirs]


# How a figure is made of samples


def own(metric):
    return lambda seen: seen.median(seen.subject, metric)


def floor(metric):
    return lambda seen: seen.median(seen.baseline, metric)


def more(metric):
    return lambda seen: seen.paired(metric, lambda ours, theirs: ours - theirs)


def ratio(metric, to=None):
    return lambda seen: seen.paired(metric, lambda ours, theirs: ours / theirs if theirs else float("inf"), to)


def growth(idle, none):
    def figure(seen):
        ours, before = seen.median(seen.subject, idle), seen.median(seen.subject, none)
        return ours / before if ours and before else None

    return figure


def beside_the_better(*others):
    """The largest, over the numbers of idle connections, of ours by the better of the others."""

    def figure(seen):
        metrics = {metric for server, metric in seen.samples if server == seen.subject and metric.startswith("model ")}
        ratios = []
        for metric in metrics:
            theirs = [seen.median(other, metric) for other in others]
            if None in theirs:
                return None
            ratios.append(seen.median(seen.subject, metric) / min(theirs))
        return max(ratios, default=None)

    return figure


# `aim` is what we want, `limit` what has to be; between the two it is marginal. `unless` is a figure that says, by
# being above the limit itself, that this machine cannot tell now.
Gate = namedtuple("Gate", "what figure limit tool kinds aim unless", defaults=(None, None))

FLOORS = ("flat", "scan", "complete")

GATES = [
    Gate("user instructions per echo of {baseline} itself", floor("user a10"), 75, "callgrind", ("flat", "scan")),
    Gate("user instructions per echo of {baseline} itself", floor("user a10"), 221, "callgrind", ("complete",)),
    Gate("user instructions per echo, a10: more than C", more("user a10"), 63, "callgrind", ("flat", "scan")),
    Gate("user instructions per echo, a10", own("user a10"), 220, "callgrind", ("complete",), aim=180),
    Gate("kernel instructions per echo, a10: / C", ratio("PMU kernel a10"), 1.02, "PMU", ("flat", "scan"), aim=1.00),
    Gate("kernel instructions per echo, a10: / epoll", ratio("PMU kernel a10", "epoll"), 1.05, "PMU", ("complete",)),
    Gate("kernel instructions per echo, a100: / epoll", ratio("PMU kernel a100", "epoll"), 1.05, "PMU", ("complete",)),
    Gate(
        "kernel instructions per churned connection: / epoll",
        ratio("PMU kernel churn", "epoll"), 0.95, "PMU", ("complete",),
    ),
    Gate("calls per echo, a1: more than C", more("calls a1"), 0.05, "strace", FLOORS),
    Gate("calls per echo, a10: more than C", more("calls a10"), 0.05, "strace", FLOORS),
    Gate("calls per echo, a10", own("calls a10"), 0.18, "strace", ("complete",), unless=floor("calls a10")),
    Gate("calls per churned connection: more than C", more("calls churn"), 0.2, "strace", FLOORS),
    Gate("calls per churned connection", own("calls churn"), 0.6, "strace", ("complete",)),
    Gate("calls per churned connection, 8 at a time", own("calls churn 8"), 5.5, "strace", ("adapt",)),
    Gate(
        "user instructions per echo at {idle} idle / at none",
        growth("user idle", "user a10"), 1.05, "callgrind", ("flat", "idle", "complete"),
    ),
    Gate(
        "user+kernel instructions per echo at {idle} idle / at none",
        growth("PMU all idle", "PMU all a10"), 1.05, "PMU", ("flat", "idle", "complete"),
    ),
    # The gate is on both kinds together. The kernel does the same for the same array, so without a PMU what can be
    # judged is whether the user part alone uses up the allowance.
    Gate("user+kernel instructions per idle descriptor: / C", ratio("PMU all scan"), 1.05, "PMU", ("scan",)),
    Gate(
        "user instructions per idle descriptor: more than C",
        more("user scan"), 0.05 * (SCAN_KERNEL + SCAN_USER), "callgrind", ("scan",),
    ),
    Gate(
        "user instructions, and the kernel's by count, per echo at 0 to {idle} idle: / the better of poll and epoll",
        beside_the_better("poll", "epoll"), 1.05, "callgrind", ("adapt",),
    ),
    Gate("user bytes per idle connection, of {idle}", own("memory"), 100, None, ("flat", "scan")),
    Gate("user bytes per idle connection, of {idle}", own("memory"), 128, None, ("complete",), aim=96),
    Gate("CPU per echo, a10, paired: / C", ratio("cpu a10"), 1.15, None, ("flat", "scan")),
    Gate("CPU per echo, a100, paired: / C", ratio("cpu a100"), 1.15, None, ("flat", "scan")),
    Gate("CPU per echo, a10 beside {idle} idle, paired: / C", ratio("cpu idle"), 1.15, None, ("flat", "scan")),
    Gate("CPU per echo, a100, paired: / epoll", ratio("cpu a100", "epoll"), 1.1, None, ("complete",), aim=1.0),
    Gate("CPU per churned connection, paired: / epoll", ratio("cpu churn", "epoll"), 1.1, None, ("complete",), aim=1.0),
]  # fmt: skip


def judge(pair, samples, idle, missing, absent):
    """The gates of one subject. `missing` tells of instruments, `absent` of servers, why they are not there."""
    subject, baseline, kind = pair
    for server in (subject, baseline):
        if server in absent:
            return [row(f"{subject} against {baseline}", None, None, *absence(server, absent[server]))]

    seen = Samples(samples, subject, baseline, idle)
    rows = []
    for gate in GATES:
        if kind not in gate.kinds:
            continue
        value, reason = gate.figure(seen), None
        if value is None:
            verdict, reason = "unavailable", missing.get(gate.tool) or "not asked for"
        elif value <= (gate.limit if gate.aim is None else gate.aim):
            verdict = "pass"
        elif value <= gate.limit:
            verdict = "marginal"
        elif gate.unless and (other := gate.unless(seen)) and other > gate.limit:
            verdict, reason = "unavailable", f"the machine is too busy to tell: {baseline} itself has {other:.2f}"
        else:
            verdict = "fail"
        what = gate.what.format(baseline=baseline, idle=idle)
        rows.append(row(f"{subject}: {what}", value, gate, verdict, reason))
    return rows


def absence(server, why):
    """What it means for the gates that there is no such server."""
    if why == NOT_ASKED_FOR or server in TO_COME:
        return "unavailable", why
    if server in NEEDS_IO_URING and io_uring_missing():
        return "unavailable", io_uring_missing()
    return "fail", why


NOT_ASKED_FOR = "not asked for"


def row(what, value, gate, verdict, reason=None):
    limit, aim = (gate.limit, gate.aim) if gate else (None, None)
    return {"gate": what, "value": value, "limit": limit, "aim": aim, "verdict": verdict, "reason": reason}
