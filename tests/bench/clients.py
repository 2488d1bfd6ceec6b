"""Who gets certificates from a CA in a measure: pkifs, or a client that is a process each time."""

import concurrent.futures
import os
import shutil
import subprocess

from bench import CACHE, cpu_seconds, in_turns, run, scaled, seconds_of

TOGETHER = 16
BATCH = scaled(2 * TOGETHER, 2)
ROUNDS = scaled(3, 1)
CSR = """
[req]
prompt = no
distinguished_name = names
attributes = attributes
req_extensions = extensions
[names]
O = Example
CN = {name}.example.net
[attributes]
challengePassword = secret
[extensions]
subjectAltName = DNS:{name}.example.net
"""


def ready_made_keys():
    """RSA keys of 2048 bits, made once for all runs."""
    folder = CACHE / "keys"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(BATCH):
        path = folder / f"{number}.pem"
        if not path.exists():
            made = run("openssl", "genrsa", "-traditional", "-out", f"{path}.new", 2048)
            if made.returncode:
                raise AssertionError(made.stderr)
            os.rename(f"{path}.new", path)
    return [folder / f"{number}.pem" for number in range(BATCH)]


class Side:
    """`prepare` makes an enrollment ready, `enroll` is what is measured."""

    slow = False  # seconds for one: few are enough where one follows another

    def __init__(self, bench):
        self.bench, self.keys = bench, ready_made_keys()
        self.number, self.cpu = 0, 0.0

    def batch(self, together):
        """Enrollments a second: a batch of them, TOGETHER at a time."""
        names = []
        for _ in range(max(BATCH // 16, 2) if self.slow and together == 1 else BATCH):
            self.number += 1
            names.append(f"{type(self).__name__.lower()}{self.number}")
            self.prepare(names[-1], self.keys[self.number % len(self.keys)])
        before = self.cpu_until_now()
        with concurrent.futures.ThreadPoolExecutor(together) as pool:
            seconds = seconds_of(lambda: list(pool.map(self.enroll, names)))
        self.cpu += self.cpu_until_now() - before
        return len(names) / seconds

    def enroll(self, name):
        """Until it is there: scepserver now and then refuses one of several at the same time."""
        for _ in range(5):
            reason = self.try_once(name)
            if not reason:
                return
        raise AssertionError(f"{name}: {reason}")

    def cpu_of_one(self):
        return self.cpu / self.number * 1000


class Pkifs(Side):
    """In MOUNT, whose profile `corp` asks the CA."""

    def __init__(self, bench, mount):
        super().__init__(bench)
        self.m = mount

    def prepare(self, name, key):
        self.bench.certificate_id(self.m, name)
        self.m.write(f"local/{name}/key.pem", key.read_text())

    def try_once(self, name):
        self.m.write(f"local/{name}/request", "enroll\n")
        said = self.m.read(f"local/{name}/wait").strip()
        return "" if said == "ok" else said

    def cpu_until_now(self):
        return cpu_seconds(self.m.daemon.pid)


class Client(Side):
    """A program that is started for each; `command` says how, and brings `done` if it went well."""

    done = "cert.pem"

    def __init__(self, bench, url):
        super().__init__(bench)
        self.url, self.used = url, 0.0
        self.folder = bench.folder / type(self).__name__.lower()
        self.folder.mkdir()
        self.environment = dict(os.environ)

    def prepare(self, name, key):
        folder = self.folder / name
        folder.mkdir()
        shutil.copy(key, folder / "key.pem")
        (folder / "request.conf").write_text(CSR.format(name=name))
        self.must("openssl", "req", "-new", "-key", key, "-config", folder / "request.conf",
                  "-out", folder / "csr.pem")

    def must(self, *command, **options):
        done = run(*command, **options)
        self.bench.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def try_once(self, name):
        folder = self.folder / name
        with open(folder / "log", "w") as log:
            client = subprocess.Popen(self.command(name), cwd=folder, env=self.environment,
                                      stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _, status, usage = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
        self.used += usage.ru_utime + usage.ru_stime
        done = client.returncode == 0 and (folder / self.done).exists()
        return "" if done else (folder / "log").read_text()

    def cpu_until_now(self):
        return self.used


def rates(*sides):
    """Of each side: enrollments a second, one at a time, and TOGETHER."""
    found = in_turns(ROUNDS, *(lambda side=side, together=together: side.batch(together)
                               for together in (1, TOGETHER) for side in sides))
    return found[:len(sides)], found[len(sides):]
