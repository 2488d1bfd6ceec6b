"""Acknowledged writes to `request`, next to SQLite alone on the same disk."""

import os

from bench import TESTS, Bench, Row, in_turns, loops, run, scaled

SECONDS = scaled(1, 0.2)
ROUNDS = scaled(5, 1)
WRITERS = 32


def measure():
    with Bench() as bench:
        made = run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                   "/dev/null", "-subj", "/O=Lab/CN=Root", "-days", "3650", "-out",
                   bench.folder / "ca.pem", "-addext", "basicConstraints=critical,CA:TRUE")
        bench.assertEqual(made.returncode, 0, made.stderr)
        m = bench.mount()
        requests = []
        for number in range(WRITERS):
            os.mkdir(m.point / f"ca/p{number}")
            m.write(f"ca/p{number}/cert.pem", (bench.folder / "ca.pem").read_text())
            requests.append(f"write:{m.point}/ca/p{number}/request")

        def alone():
            done = run(TESTS / "bench-commits", bench.folder / "commits.db", SECONDS)
            bench.assertEqual(done.returncode, 0, done.stderr)
            os.unlink(bench.folder / "commits.db")
            return float(done.stdout)

        def ours(count):
            return sum(loop.rate for loop in loops(SECONDS, *requests[:count]))

        one, many, peer = in_turns(ROUNDS, lambda: ours(1), lambda: ours(WRITERS), alone)
        for count, rate, aim in ((1, one, ">= 0.5"), (WRITERS, many, ">= 1")):
            yield Row(f"acknowledged writes to `request` a second: {count} at a time",
                      f"{rate:.0f}", f"SQLite {peer:.0f} commits", rate / peer, aim)


NOTE = f"""\
**Writes to `request`**: `verify` of a CA profile, the request that brings no other work with it: \
open, write, close, each acknowledged only after its fsync. Each writer has a profile of its own. \
The peer is `commits.c`: one small row a commit, WAL, synchronous=FULL, the store's other settings, \
the same disk. {SECONDS} s each, {ROUNDS} rounds in turns, median."""
