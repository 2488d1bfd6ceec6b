"""Processes of the daemon die at each of their system calls, and each call fails: what was
acknowledged during a certificate's life is there, and the life goes on."""

import contextlib
import shutil
import threading
import unittest

from harness import Test, main, some_of, until
from life import Life, Stock
from trace import Guard, Killer, calls_of, let_go, tracing

HANG = 120  # seconds: no life takes that long, however loaded the machine
# A request that ends three processes in a row is given up: the calls between two kills are more
# than any request needs.
GAP = 60
# A store reads the whole log of its predecessor.
GAPS = {"pread64": 5000}
# What fails without a process noticing, or is no call to the outside.
# Of memory and the like: a new process makes them all as it starts, so a kill at each is a kill of
# each.
HARMLESS = {"brk", "madvise", "mmap", "mprotect", "munmap", "getpid", "getrandom", "restart_syscall",
            "rt_sigreturn"}
BAD = 5  # seconds that a bad disk stays bad, at most
# What reaches the disk.
DISK = {"openat", "pwrite64", "pread64", "write", "fdatasync", "fsync", "ftruncate", "renameat",
        "unlinkat"}


@unittest.skipUnless(shutil.which("strace"), "strace is not installed")
class Calls(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.stock = Stock(self)
        self.lives = 0

    def life(self):
        self.lives += 1
        return Life(self.m, self.stock, f"life{self.lives}")

    def calls(self, role):
        """What ROLE does in a life, once it is warm: {call: times}."""
        first = self.life()
        first.live()
        first.end()
        again = self.life()
        calls = calls_of(self.m, role, self.folder, again.live)
        again.end()
        return {call: times for call, times in sorted(calls.items()) if call not in HARMLESS}

    def whole(self, life):
        self.assertEqual(life.wrong(), [])
        life.end()

    def killed_at(self, role, number):
        calls = self.calls(role)
        points = [(call, first) for call, times in calls.items()
                  for first in range(1, min(times, GAP) + 1)]
        # the first call of the commonest kind is reached in any life
        chosen = [(max(calls, key=calls.get), 1), *some_of(points, number)]
        kills = 0
        for call, first in chosen:
            with self.subTest(call=call, first=first):
                life = self.life()
                with (Guard(self.m, HANG),
                      Killer(self.m, role, call, first, GAPS.get(call, GAP)) as killer):
                    life.live()
                kills += killer.kills
                self.assertTrue(until(lambda: self.m.children("store")))
                self.whole(life)
        print(f"{kills} kills of {role} in {len(chosen)} lives of {len(points)}")
        self.assertGreater(kills, 0)

    def test_attack_64_the_store_dies_at_each_call(self):
        self.killed_at("store", 80)

    def test_attack_64_the_keys_process_dies_at_each_call(self):
        self.killed_at("keys", 40)

    def test_attack_64_all_die_at_each_call_of_the_store(self):
        points = [(call, n) for call, times in self.calls("store").items()
                  for n in range(1, times + 1)]
        cut = 0
        for call, n in some_of(points, 80):
            with self.subTest(call=call, n=n):
                life = self.life()

                def died():
                    self.m.kill_all()
                    return False
                with Guard(self.m, HANG):
                    with Killer(self.m, "store", call, n, GAPS.get(call, GAP), died) as killer:
                        with contextlib.suppress(OSError, AssertionError):
                            life.live()
                    if killer.kills:
                        cut += 1
                        self.m.start()
                    self.assertEqual(life.wrong(), [])
                    for path in (life.www, life.own):
                        if (self.m.point / path).exists():
                            self.assertTrue(self.m.ends(path))
                            self.assertIn(self.m.wait(path), ("ok", "none"))
                    self.whole(life)
        print(f"{cut} of {len(points)} lives cut short")
        self.assertGreater(cut, 0)

    def failing(self, again, number):
        """Each call of the store that reaches the disk fails once, or (AGAIN) from then on until
        somebody has been told, or some time has passed."""
        points = [(error, call, n) for error in ("EIO", "ENOSPC")
                  for call, times in self.calls("store").items() if call in DISK
                  for n in range(1, times + 1)]
        lives, told = some_of(points, number), 0
        for error, call, n in lives:
            with self.subTest(error=error, call=call, n=n):
                life = self.life()

                def refused(_):
                    self.assertEqual(life.wrong(), [])
                    if trace.poll() is None:
                        let_go(trace)
                    nonlocal told
                    told += 1
                life.refused = refused
                with Guard(self.m, HANG), tracing(
                        self.m, "store", "-e", f"trace={call}", "-e",
                        f"inject={call}:error={error}:when={n}{'+' if again else ''}") as trace:
                    # who waits for a request that cannot be stored is told nothing till it can
                    mended = threading.Timer(BAD, lambda: let_go(trace))
                    mended.start()
                    life.live()
                    mended.cancel()
                self.whole(life)
                self.assertEqual(len(self.m.children("store")), 1)
        print(f"{len(lives)} of {len(points)} lives, {told} times somebody was told")
        if len(lives) >= 10:
            self.assertGreater(told, 0)

    def test_attack_64_each_call_fails_once(self):
        self.failing(False, 50)

    def test_attack_64_the_disk_fails_from_each_call_on(self):
        self.failing(True, 50)


if __name__ == "__main__":
    main()
