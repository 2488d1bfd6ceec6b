"""The longest wait of readers while the store is killed and taken over."""

import os
import shutil
import signal
import statistics
import time

from bench import Bench, Mount, Row, limit_row, loops_end, loops_start, scaled, until
from scale import WHOLE, prepared

KILLS = scaled(50, 3)
BETWEEN = 0.2  # seconds from a successor's first answer to its end
NOTICED = 1000  # microseconds: a call that takes longer may have waited for a successor


def kill_again_and_again(bench, m):
    """Kills the store KILLS times; when each was killed, by the clock of the waits."""
    killed = []
    for _ in range(KILLS):
        time.sleep(BETWEEN)
        store = m.children("store")
        bench.assertEqual(len(store), 1)
        killed.append(time.monotonic())
        os.kill(store[0], signal.SIGKILL)
        bench.assertTrue(until(lambda old=store: m.children("store") not in ([], old)))
        bench.assertFalse((m.point / "local/nobody").exists())  # the successor answers
    time.sleep(BETWEEN)
    return killed


def waits_of(loop, killed):
    """The longest wait, in milliseconds, that began or ended after each kill and before the next."""
    longest = []
    for begin, end in zip(killed, killed[1:] + [float("inf")]):
        longest.append(max((length for start, length in loop.waits
                            if start < end and start + length / 1000 > begin), default=0.0))
    return longest


def under_kills(bench, m, title):
    host = m.point / "local/host0"
    what = {"read fullchain.pem": f"read:{host}/fullchain.pem",
            "read cert.pem": f"read:{host}/cert.pem",
            "stat cert.pem": f"stat:{host}/cert.pem",
            "stat of a missing name": f"miss:{host}/nothing",
            "ls of an id": f"list:{host}"}
    process = loops_start(3600, *what.values(), waits=NOTICED)
    try:
        killed = kill_again_and_again(bench, m)
    finally:
        process.terminate()
    found = loops_end(process, 3600)
    every = sorted(max(waits) for waits in zip(*(waits_of(loop, killed) for loop in found)))
    for name, loop in zip(what, found):
        waits = sorted(waits_of(loop, killed))
        yield Row(f"{title}: {name}", f"{waits[-1]:.1f} ms, median {statistics.median(waits):.1f}")
    yield limit_row(f"{title}: the longest wait of all in {len(killed)} kills (half of the kills: "
                    f"{statistics.median(every):.1f} ms, 90 %: {every[len(every) * 9 // 10]:.1f})",
                    every[-1], 50, "ms")


def measure():
    for size in (1, WHOLE):
        with Bench() as bench:
            folder = bench.folder / "ids"
            shutil.copytree(prepared(size), folder)
            bench.mounts.append(m := Mount(folder).start())
            yield from under_kills(bench, m, f"take-over, {size:,} id" + "s" * (size > 1))


NOTE = f"""\
**Take-over**: the store is killed {KILLS} times, {BETWEEN} s apart, under five processes that read \
without a pause. Each figure is the longest wait of that reader for any kill, and the median of its \
longest waits; ids have a config, a key and a certificate."""
