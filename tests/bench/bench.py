"""What the measures share: programs that loop, rows of the table, what processes cost."""

import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from harness import BIN, PATIENCE, Mount, Test, free_port, run, until  # noqa: E402,F401

TESTS = BIN.parent / "tests"
SMOKE = bool(os.environ.get("BENCH_SMOKE"))
CACHE = BIN.parent / "bench"  # what takes long to make and can be used again


def scaled(full, smoke):
    """FULL of something in a real run, SMOKE where only is seen that it works."""
    return smoke if SMOKE else full


class Row:
    """A line of the table. RATIO is held against AIM, a text as `<= 1.3`; both may be None."""

    def __init__(self, measure, ours, peer="", ratio=None, aim=None):
        self.measure, self.ours, self.peer, self.ratio, self.aim = measure, ours, peer, ratio, aim

    def met(self):
        if self.aim is None or self.ratio is None:
            return ""
        sign, limit = self.aim.split()
        return "yes" if (self.ratio <= float(limit) if sign == "<=" else
                         self.ratio >= float(limit)) else "**no**"

    def cells(self):
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        aim = (self.aim or "").replace("<=", "≤").replace(">=", "≥")
        return [self.measure, self.ours, self.peer, ratio, aim, self.met()]


def limit_row(measure, value, limit, unit):
    """A value that has a limit of its own: the ratio is the share of it that was used."""
    return Row(measure, f"{value:.4g} {unit}", f"{limit:g} {unit} at most", value / limit, "<= 1")


class Bench(Test):
    """The folder, servers and mounts of one measure; `with Bench() as bench`."""

    def runTest(self):
        pass

    def __enter__(self):
        self.setUp()
        return self

    def __exit__(self, *_):
        try:
            self.tearDown()
        finally:
            self.doCleanups()


class Loop:
    """What `loops` said of one KIND:PATH."""

    def __init__(self, line, seconds):
        times, self.median, self.p99, self.longest = (float(word) for word in line.split())
        self.rate = times / seconds
        self.waits = []  # (begin in seconds, length in milliseconds)


def loops_start(seconds, *what, waits=None, cpu=None):
    pinned = ["taskset", "-c", str(cpu)] if cpu is not None else []
    wanted = ["-w", str(waits)] if waits else []
    return subprocess.Popen([*pinned, TESTS / "bench-loops", "-t", str(seconds), *wanted, *what],
                            stdout=subprocess.PIPE, text=True)


def loops_end(process, seconds):
    lines = process.communicate()[0].splitlines()
    if process.returncode:
        raise AssertionError(f"{process.args}: a call failed")
    found = [Loop(line, seconds) for line in lines if not line.startswith("wait")]
    for line in lines:
        if line.startswith("wait"):
            _, number, begin, length = line.split()
            found[int(number)].waits.append((int(begin) / 1e6, int(length) / 1e3))
    return found


def loops(seconds, *what, cpu=None):
    return loops_end(loops_start(seconds, *what, cpu=cpu), seconds)


def rate(seconds, what, copies=1, cpu=None):
    """How often a second COPIES processes together did WHAT."""
    return sum(loop.rate for loop in loops(seconds, *[what] * copies, cpu=cpu))


def in_turns(rounds, *measures):
    """The median of each measure, taken in turns: what disturbs one disturbs the others too."""
    found = [[measure() for measure in measures] for _ in range(rounds)]
    return [statistics.median(values) for values in zip(*found)]


def pin(pids, cpu):
    """These processes run on CPU alone; None: wherever this one may."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {cpu} if cpu is not None else
                                     os.sched_getaffinity(0))


def family(pid):
    """PID and its children, theirs as well."""
    found = [pid]
    with contextlib.suppress(OSError):
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
        for child in children.split():
            found += family(int(child))
    return found


def cpu_seconds(pid):
    """What PID, its children and those of them that have ended took of the processor."""
    total = 0
    for process in family(pid):
        with contextlib.suppress(OSError):
            stat = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(int(field) for field in stat[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """MiB of PID and its children, pages that several share counted once (Pss)."""
    total = 0
    for process in family(pid):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def seconds_of(action):
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def write_file(path, text):
    with open(path, "w") as file:
        file.write(text)
