"""Processes that do something with a mount again and again, and must never see an error or hang."""

import multiprocessing
import os
import time

from harness import PATIENCE, PAUSE, until

HANG = PATIENCE  # seconds: no call may take that long


class Reader(multiprocessing.Process):
    """
    Does ONE thing again and again, with a PAUSE in between. ONE raises or returns what is wrong.
    """

    def __init__(self, one, pause=PAUSE):
        super().__init__(daemon=True)
        self.one, self.pause = one, pause
        self.end, self.said = multiprocessing.Event(), multiprocessing.Queue()
        self.rounds = multiprocessing.Value("q", 0)

    def run(self):
        times, longest, wrong = 0, 0, None
        while not self.end.is_set() and not wrong:
            begin = time.monotonic()
            try:
                wrong = self.one()
            except (OSError, LookupError, ValueError) as error:
                wrong = f"{self.one.__name__}: {error!r:.300}"
            longest = max(longest, time.monotonic() - begin)
            times += 1
            self.rounds.value = times
            time.sleep(self.pause)
        self.said.put((times, longest, wrong))

    def result(self):
        """(times, longest wait, what was wrong); None where it hangs."""
        self.end.set()
        if not until(lambda: not self.said.empty(), HANG):
            self.kill()
            return None
        result = self.said.get()
        self.join()
        return result


def start(*ones, pause=PAUSE):
    readers = [Reader(one, pause) for one in ones]
    for reader in readers:
        reader.start()
    return readers


def finish(test, readers):
    """Ends READERS, of which none may have met anything wrong. Their (times, longest wait)."""
    for reader in readers:
        reader.end.set()
    results = [reader.result() for reader in readers]
    test.assertNotIn(None, results, "a reader hangs")
    test.assertEqual([wrong for _, _, wrong in results if wrong], [])
    return [(times, longest) for times, longest, _ in results]


def told(results):
    """What RESULTS of `finish` come to, in words."""
    return (f"{sum(times for times, _ in results)} calls of {len(results)} readers, 0 errors, "
            f"longest wait {max(longest for _, longest in results) * 1000:.0f} ms")


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


def status_of(path):
    os.stat(path)


def around(mount, name="www"):
    """
    Stat, open, read and list round the certificate id NAME, which is self-signed here, and
    which nobody may change meanwhile.
    """
    folder, local = mount.point / "local" / name, mount.point / "local"
    if not folder.exists():
        os.mkdir(folder)
        mount.write(f"local/{name}/config", f"subject = CN={name}\nkey-type = ecdsa\n")
        answer = mount.request(f"local/{name}", "generate-self-signed")
        if answer != "ok":
            raise AssertionError(answer)
    bundle = mount.read(f"local/{name}/bundle.pem")
    certificate = mount.read(f"local/{name}/cert.pem")
    names, objects = sorted(os.listdir(folder)), sorted(os.listdir(local))
    return (lambda: status_of(folder / "cert.pem"),
            lambda: content_of(folder / "cert.pem", certificate),
            lambda: content_of(folder / "bundle.pem", bundle),
            lambda: content_of(folder / "versions/1/bundle.pem", bundle),
            lambda: names_of(folder, names),
            lambda: names_of(local, objects),
            lambda: status_of(mount.point / "status"),
            lambda: a_miss(local / "nobody/cert.pem"))
