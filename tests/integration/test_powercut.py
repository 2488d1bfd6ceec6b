"""The power fails at each write of a certificate's life: what was acknowledged is on the disk."""

import random
import shutil
import sys
import unittest

from harness import LAB, SANITIZED, Mount, Test, main, some_of
from life import Life, Stock, wrong

sys.path.insert(0, str(LAB))
from powercut import Disk, changes, put, recorder  # noqa: E402

RANDOM = 3  # disks of any part of what was not synced, at each write


@unittest.skipUnless(shutil.which("strace"), "strace is not installed")
@unittest.skipIf(SANITIZED, "LeakSanitizer does not work under strace")
class PowerCut(Test):
    def recorded(self):
        """(changes, history) of a life that nothing disturbs."""
        log = self.folder / "changes"
        m = self.mount(start=False)
        m.under = recorder(log)
        m.start()
        life = Life(m, Stock(self))
        life.live()
        self.assertEqual(life.wrong(), [])
        self.assertEqual(m.stop(), 0)
        shutil.copy(m.folder / "store.key", self.folder)
        return [change for change in changes(log, m.folder)
                if change.path.startswith(str(m.folder / "store.db"))], life.history, m.folder

    def looked_at(self, image, may):
        """What is wrong with the store that IMAGE leaves."""
        put(image, self.folder / "disk")
        shutil.copy(self.folder / "store.key", self.folder / "disk")
        m = Mount(self.folder / "disk")
        try:
            m.start()
            found = wrong(m.point, may)
        except (AssertionError, OSError) as error:
            found = [str(error)]
        finally:
            m.stop()
        shutil.rmtree(m.folder)
        return found

    def test_attack_64_the_power_fails_at_each_write(self):
        recorded, history, folder = self.recorded()
        self.assertGreater(len([c for c in recorded if c.what == "sync"]), 20)
        cuts = some_of(range(1, len(recorded) + 1), 100)
        disk, seen = Disk(folder), set()
        for count, change in enumerate(recorded, 1):
            disk.change(change)
            if count not in cuts:
                continue
            # a change that was seen after an acknowledgement was not needed for it
            end = recorded[count].time if count < len(recorded) else float("inf")
            may = next((may for time, may in reversed(history) if time < end), {})
            for how, seed in (("all", 0), ("none", 0), *(("some", n) for n in range(RANDOM))):
                image = disk.image(how, random.Random(count * RANDOM + seed))
                what = (frozenset(image.items()), id(may))
                if what in seen:
                    continue
                seen.add(what)
                with self.subTest(after=f"{count} of {len(recorded)}: {change.what}", left=how,
                                  seed=seed):
                    self.assertEqual(self.looked_at(image, may), [])
        print(f"{len(recorded)} changes, {len(seen)} disks looked at")


if __name__ == "__main__":
    main()
