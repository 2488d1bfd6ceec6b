"""strace on the daemon's processes: their system calls counted, failed, or their last ones."""

import collections
import contextlib
import os
import pathlib
import subprocess
import threading

from harness import until


def traced(pids, *options):
    """A strace of PIDS that has taken hold of all of them."""
    trace = subprocess.Popen(
        ["strace", "-qq", *options, *[word for pid in pids for word in ("-p", str(pid))]],
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def held():
        for pid in pids:
            with contextlib.suppress(OSError):
                if "TracerPid:\t0\n" in pathlib.Path(f"/proc/{pid}/status").read_text():
                    return trace.poll() is not None
        return True
    if not until(held):
        trace.kill()
        raise AssertionError("strace does not get hold of the process")
    return trace


def let_go(trace):
    trace.terminate()
    trace.wait()


@contextlib.contextmanager
def tracing(mount, role, *options):
    trace = traced(mount.children(role), "-o", "/dev/null", *options)
    try:
        yield trace
    finally:
        let_go(trace)


def calls_of(mount, role, folder, action):
    """How often the processes with ROLE do which system call during ACTION."""
    report = folder / f"calls-{role}"
    trace = traced(mount.children(role), "-c", "-U", "name,calls", "-o", report)
    try:
        action()
    finally:
        let_go(trace)
    rows = (line.split() for line in report.read_text().splitlines())
    return collections.Counter({row[0]: int(row[1]) for row in rows
                                if len(row) == 2 and row[1].isdigit() and row[0] != "total"})


class Killer:
    """Kills the processes with ROLE of MOUNT at their FIRSTth CALL, and at each GAPth from then on.

    DIED is called after each kill, and says whether to go on."""

    def __init__(self, mount, role, call, first, gap, died=lambda: True):
        self.m, self.role, self.call, self.gap, self.died = mount, role, call, gap, died
        self.kills, self.end, self.lock = 0, False, threading.Lock()
        self.attach(first)
        self.thread = threading.Thread(target=self.run)

    def attach(self, when):
        pids = self.m.children(self.role)
        trace = traced(pids, "-o", "/dev/null", "-e", f"trace={self.call}", "-e",
                       f"inject={self.call}:signal=KILL:when={when}") if pids else None
        with self.lock:
            self.trace = trace
            if self.end and trace:
                trace.terminate()

    def run(self):
        while True:
            if self.trace:
                self.trace.wait()
            if self.end:
                return
            self.kills += self.trace is not None
            if self.trace and not self.died():
                return
            self.attach(self.gap)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        with self.lock:
            self.end = True
            if self.trace:
                self.trace.terminate()
        self.thread.join()


class Guard:
    """Nothing hangs: after SECONDS the mount is taken from whoever still waits for it."""

    def __init__(self, mount, seconds):
        self.m, self.hung = mount, False
        self.timer = threading.Timer(seconds, self.abort)

    def abort(self):
        self.hung = True
        with contextlib.suppress(OSError):
            os.kill(self.m.daemon.pid, 9)

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.timer.join()
        if self.hung:
            raise AssertionError("something hangs")
