#!/usr/bin/env python3
"""Gates fail when they must: on figures made up, without running anything."""

import os
import tempfile
import threading
import time
import unittest
from unittest.mock import patch

import gates
from harness import Server
from instruments import Waits

COMPLETION = ("completion", "c-uring", "complete")
GOOD = {
    ("c-uring", "user a10"): 180,
    ("completion", "user a10"): 170,
    ("completion", "user idle"): 171,
    ("c-uring", "calls a10"): 0.16,
    ("completion", "calls a10"): 0.16,
    ("epoll", "cpu a100"): 8.0,
    ("completion", "cpu a100"): 7.5,
}


def judged(figures, pair=COMPLETION, absent=()):
    samples = {key: {0: value} for key, value in figures.items()}
    rows = gates.judge(pair, samples, 9000, {"PMU": "no PMU"}, dict(absent))
    return {row["gate"].removeprefix("completion: "): row for row in rows}


class Gates(unittest.TestCase):
    def verdict(self, gate, changed, **options):
        return judged(GOOD | changed, **options)[gate]["verdict"]

    def test_a_figure_fails_above_its_limit_and_is_marginal_above_its_aim(self):
        gate = "user instructions per echo, a10"
        for value, verdict in ((180, "pass"), (181, "marginal"), (220, "marginal"), (221, "fail")):
            self.assertEqual(self.verdict(gate, {("completion", "user a10"): value}), verdict, value)

    def test_a_difference_and_a_ratio_fail_above_their_limits(self):
        self.assertEqual(self.verdict("calls per echo, a10: more than C", {("completion", "calls a10"): 0.22}), "fail")
        self.assertEqual(self.verdict("CPU per echo, a100, paired: / epoll", {("completion", "cpu a100"): 9}), "fail")
        growth = "user instructions per echo at 9000 idle / at none"
        self.assertEqual(self.verdict(growth, {("completion", "user idle"): 190}), "fail")

    def test_ratios_are_of_one_round(self):
        samples = {("a", "cpu a10"): {0: 2, 1: 30, 2: 2}, ("b", "cpu a10"): {0: 1, 1: 30, 2: 1, 3: 100}}
        self.assertEqual(gates.ratio("cpu a10")(gates.Samples(samples, "a", "b", 0)), 2)

    def test_calls_are_not_judged_where_the_floor_itself_makes_too_many(self):
        busy = {("c-uring", "calls a10"): 0.5, ("completion", "calls a10"): 0.5}
        self.assertEqual(self.verdict("calls per echo, a10", busy), "unavailable")
        self.assertEqual(self.verdict("calls per echo, a10", {("completion", "calls a10"): 0.19}), "fail")

    def test_what_was_not_measured_says_why(self):
        row = judged(GOOD)["kernel instructions per echo, a10: / epoll"]
        self.assertEqual((row["verdict"], row["reason"]), ("unavailable", "no PMU"))

    def test_a_server_that_could_run_and_is_not_there_fails(self):
        for server in COMPLETION[:2]:
            absent = {server: "it is not built"}
            with patch("gates.io_uring_missing", lambda: None):
                self.assertEqual(self.verdict("completion against c-uring", {}, absent=absent), "fail")
            with patch("gates.io_uring_missing", lambda: "ENOSYS"):
                row = judged(GOOD, absent=absent)["completion against c-uring"]
                self.assertEqual((row["verdict"], row["reason"]), ("unavailable", "ENOSYS"))

    def test_what_adapts_is_held_against_the_better_one_at_each_number(self):
        figures = {
            ("poll", "model 0"): 100, ("epoll", "model 0"): 110, ("adaptive", "model 0"): 101,
            ("poll", "model 9"): 500, ("epoll", "model 9"): 111, ("adaptive", "model 9"): 120,
        }  # fmt: skip
        rows = judged(figures, pair=("adaptive", "c-poll", "adapt"))
        row = next(row for gate, row in rows.items() if "the better of poll and epoll" in gate)
        self.assertAlmostEqual(row["value"], 120 / 111)
        self.assertEqual(row["verdict"], "fail")

    def test_every_gate_is_somebodys_and_everybody_has_some(self):
        kinds = {kind for _, _, kind in gates.PAIRS}
        self.assertEqual({kind for gate in gates.GATES for kind in gate.kinds}, kinds)


class Instruments(unittest.TestCase):
    def test_waits_and_what_they_went_over_are_read_from_strace(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/strace", "w", encoding="ascii") as file:
                file.write(
                    "12 ppoll(0x5565, 0x2329, 0, 0, 0x8) = 0x1\n"
                    "12 ppoll(0x5565, 0xb, 0, 0, 0x8 <unfinished ...>\n"
                    "12 <... ppoll resumed>) = 0x2\n"
                    "12 epoll_ctl(0x3, 0x1, 0x4, 0x7ffc) = 0\n"
                    "12 epoll_pwait(0x3, 0x5565, 0x200, 0xffffffff, 0, 0x8) = 0x1\n"
                )
            counts = Waits().counts(folder)
        self.assertEqual(counts, {"waits": 3, "epoll waits": 1, "changes": 1, "scanned": 0x2329 + 0xB})


class Cpu(unittest.TestCase):
    def test_a_thread_that_has_ended_is_in_the_account(self):
        server = Server.__new__(Server)
        server.pid = os.getpid()
        before, own = server.cpu_ns(), []

        def burn():
            while time.thread_time_ns() < 10_000_000:
                pass
            own.append(time.thread_time_ns())

        thread = threading.Thread(target=burn)
        thread.start()
        thread.join()
        self.assertGreaterEqual(server.cpu_ns() - before, own[0])


if __name__ == "__main__":
    unittest.main()
