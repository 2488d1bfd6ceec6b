"""Processes of the daemon are killed: readers notice nothing, requests end well."""

import multiprocessing
import os
import signal
import time

from harness import PATIENCE, Test, main, many, until
from scep import Ca, assert_valid

KILLS = many(2000)
READERS = 8
HANG = 20  # seconds: no call may take that long


class Reader(multiprocessing.Process):
    """Does ONE thing with the mount again and again; reports (times, longest wait, what failed)."""

    def __init__(self, one):
        super().__init__(daemon=True)
        self.one, self.end, self.said = one, multiprocessing.Event(), multiprocessing.Queue()
        self.rounds = multiprocessing.Value("q", 0)

    def run(self):
        times, longest, wrong = 0, 0, None
        while not self.end.is_set() and not wrong:
            begin = time.monotonic()
            try:
                wrong = self.one()
            except OSError as error:
                wrong = repr(error)
            longest = max(longest, time.monotonic() - begin)
            times += 1
            self.rounds.value = times
        self.said.put((times, longest, wrong))

    def result(self):
        """What it reports; None where it hangs."""
        self.end.set()
        if not until(lambda: not self.said.empty(), HANG):
            self.kill()
            return None
        result = self.said.get()
        self.join()
        return result


def status_of(path):
    os.stat(path)


def content_of(path, expected):
    with open(path) as file:
        text = file.read()
    if text != expected:
        return f"{path}: {len(text)} bytes, not the {len(expected)} expected"
    return None


def names_of(path, expected):
    found = sorted(os.listdir(path))
    return None if found == expected else f"{path}: {found}"


def a_miss(path):
    try:
        os.stat(path)
    except FileNotFoundError:
        return None
    return f"{path} exists"


class Kill(Test):
    def readers(self, m):
        www = m.point / "local/www"
        bundle = (www / "bundle.pem").read_text()
        certificate = (www / "cert.pem").read_text()
        names = sorted(os.listdir(www))
        ones = [lambda: status_of(www / "cert.pem"),
                lambda: content_of(www / "cert.pem", certificate),
                lambda: content_of(www / "bundle.pem", bundle),
                lambda: content_of(www / "versions/1/bundle.pem", bundle),
                lambda: names_of(www, names),
                lambda: names_of(m.point / "local", ["www"]),
                lambda: status_of(m.point / "status"),
                lambda: a_miss(m.point / "local/nobody/cert.pem")]
        self.assertEqual(len(ones), READERS)
        return [Reader(one) for one in ones]

    def test_readers_do_not_notice_a_killed_store(self):
        m = self.mount()
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "subject = CN=www\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        m.write("local/www/config", "subject = CN=other\n")
        readers = self.readers(m)
        begin = time.monotonic()
        for reader in readers:
            reader.start()
        store, slowest, kills = [], 0, 0
        # goes on, on a slow machine, until each reader has come round often enough to have met it
        while kills < KILLS or (time.monotonic() - begin < 4 * PATIENCE and
                                any(r.rounds.value <= KILLS / 2 for r in readers)):
            kills += 1
            self.assertTrue(until(lambda: m.children("store") not in ([], store)))
            store = m.children("store")
            asked = time.monotonic()
            self.assertEqual(m.read("local/www/config"), "subject = CN=other\n")
            slowest = max(slowest, time.monotonic() - asked)
            os.kill(store[0], signal.SIGKILL)
        m.read("status")
        seconds = time.monotonic() - begin
        results = [reader.result() for reader in readers]
        self.assertNotIn(None, results, "a reader hangs")
        self.assertEqual([wrong for _, _, wrong in results if wrong], [])
        for times, _, _ in results:
            self.assertGreater(times, KILLS / 2)
        print(f"{kills} kills in {seconds:.1f} s, {sum(r[0] for r in results)} calls of "
              f"{len(results)} readers, 0 errors, longest wait "
              f"{max(max(r[1] for r in results), slowest) * 1000:.0f} ms")
        self.assertIsNone(m.daemon.poll())

    def test_writers_do_not_notice_a_killed_store(self):
        m = self.mount()
        os.mkdir(m.point / "local/www")
        end = time.monotonic() + 10
        kills = writes = 0
        while time.monotonic() < end:
            m.write("local/www/config", f"subject = CN=host{writes}\n")
            if writes % 3 == 0:
                m.kill("store")
                kills += 1
            self.assertEqual(m.read("local/www/config"), f"subject = CN=host{writes}\n")
            writes += 1
        print(f"{writes} writes, {kills} kills")
        self.assertGreater(writes, 20)

    def enrollments_under(self, role, seconds=6):
        """Enrollments while ROLE is killed again and again: all end valid."""
        ca = Ca(self, "-w", 1)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        names = [f"host{i}" for i in range(6)]
        for name in names:
            self.certificate_id(m, name)
            m.write(f"local/{name}/request", "enroll\n")
        kills, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            kills += len(m.children(role))
            m.kill(role)
            until(lambda: m.children(role), 0.5)
            states = [m.status(f"local/{name}")["state"] for name in names]
            if role != "publisher" and "valid" in states and "key" not in states:
                break
        for name in names:
            self.assertTrue(until(lambda: m.status(f"local/{name}")["state"] == "valid", 60),
                            m.status(f"local/{name}"))
            assert_valid(self, m, name, version=1)
        ids = {line.split()[-1] for line in ca.said("sent SUCCESS")}
        self.assertEqual(len(ids), len(names), "a request was asked for in two transactions")
        print(f"{kills} times {role} killed")
        self.assertGreater(kills, 0)

    def test_workers(self):
        self.enrollments_under("enroll")

    def test_keys(self):
        self.enrollments_under("keys")

    def test_the_publisher(self):
        self.enrollments_under("publisher", 3)

    def test_the_store(self):
        self.enrollments_under("store")


if __name__ == "__main__":
    main()
