"""Enrollments with ready-made keys, next to scepclient, a process each."""

import concurrent.futures
import os
import shutil
import subprocess

from bench import CACHE, Bench, Row, cpu_seconds, in_turns, run, scaled, seconds_of

BATCH = scaled(32, 2)
ROUNDS = scaled(3, 1)
KEYS = scaled(32, 2)
TOGETHER = 16
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
    for number in range(KEYS):
        path = folder / f"{number}.pem"
        if not path.exists():
            made = run("openssl", "genrsa", "-traditional", "-out", f"{path}.new", 2048)
            if made.returncode:
                raise AssertionError(made.stderr)
            os.rename(f"{path}.new", path)
    return [folder / f"{number}.pem" for number in range(KEYS)]


class Side:
    """Who enrolls: pkifs or scepclient. `prepare` makes one ready, `enroll` is what is measured."""

    def __init__(self, bench, keys, ca):
        self.bench, self.keys, self.ca = bench, keys, ca
        self.number, self.cpu, self.ca_cpu = 0, 0.0, 0.0

    def batch(self, together):
        """Enrollments a second: BATCH of them, TOGETHER at a time."""
        names = []
        for _ in range(BATCH):
            self.number += 1
            names.append(f"{type(self).__name__.lower()}{self.number}")
            self.prepare(names[-1], self.keys[self.number % len(self.keys)])
        before, ca_before = self.cpu_until_now(), cpu_seconds(self.ca)
        with concurrent.futures.ThreadPoolExecutor(together) as pool:
            seconds = seconds_of(lambda: list(pool.map(self.enroll, names)))
        self.cpu += self.cpu_until_now() - before
        self.ca_cpu += cpu_seconds(self.ca) - ca_before
        return BATCH / seconds

    def enroll(self, name):
        """Until it is there: scepserver now and then refuses one of several at the same time."""
        for _ in range(5):
            reason = self.try_once(name)
            if not reason:
                return
        raise AssertionError(f"{name}: {reason}")

    def cpu_of_one(self):
        return self.cpu / self.number * 1000

    def ca_cpu_of_one(self):
        return self.ca_cpu / self.number * 1000


class Pkifs(Side):
    def __init__(self, bench, keys, ca, url):
        super().__init__(bench, keys, ca)
        self.m = bench.mount()
        bench.trusted_profile(self.m, url)

    def prepare(self, name, key):
        self.bench.certificate_id(self.m, name)
        self.m.write(f"local/{name}/key.pem", key.read_text())

    def try_once(self, name):
        self.m.write(f"local/{name}/request", "enroll\n")
        said = self.m.read(f"local/{name}/wait").strip()
        return "" if said == "ok" else said

    def cpu_until_now(self):
        return cpu_seconds(self.m.daemon.pid)


class Scepclient(Side):
    def __init__(self, bench, keys, ca, url):
        super().__init__(bench, keys, ca)
        self.url, self.folder, self.used = url, bench.folder / "clients", 0.0
        self.folder.mkdir()

    def prepare(self, name, key):
        folder = self.folder / name
        folder.mkdir()
        shutil.copy(key, folder / "key.pem")
        (folder / "request.conf").write_text(CSR.format(name=name))
        made = run("openssl", "req", "-new", "-key", key, "-config", folder / "request.conf",
                   "-out", folder / "csr.pem")
        self.bench.assertEqual(made.returncode, 0, made.stderr)

    def try_once(self, name):
        folder = self.folder / name
        with open(folder / "log", "w") as log:
            client = subprocess.Popen(
                ["scepclient", "-server-url", self.url, "-challenge", "secret", "-private-key",
                 folder / "key.pem", "-certificate", folder / "client.pem"], stdout=log, stderr=log)
        _, status, usage = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
        self.used += usage.ru_utime + usage.ru_stime
        done = client.returncode == 0 and (folder / "client.pem").exists()
        return "" if done else (folder / "log").read_text()

    def cpu_until_now(self):
        return self.used


def measure():
    keys = ready_made_keys()
    with Bench() as bench:
        folder, _, url = bench.server("scep-server")
        ca = int((folder / "pid").read_text())
        pkifs, client = Pkifs(bench, keys, ca, url), Scepclient(bench, keys, ca, url)
        rates = in_turns(ROUNDS, lambda: pkifs.batch(1), lambda: client.batch(1),
                         lambda: pkifs.batch(TOGETHER), lambda: client.batch(TOGETHER))
        for together, ours, theirs in ((1, *rates[:2]), (TOGETHER, *rates[2:])):
            yield Row(f"enrollments a second, {together} at a time", f"{ours:.1f}",
                      f"scepclient {theirs:.1f}", ours / theirs, ">= 1")
        yield Row("CPU of one enrollment", f"{pkifs.cpu_of_one():.1f} ms",
                  f"scepclient {client.cpu_of_one():.1f} ms",
                  pkifs.cpu_of_one() / client.cpu_of_one(), "<= 0.5")
        yield Row("the same next to the CA's own", f"{pkifs.cpu_of_one():.1f} ms",
                  f"scepserver {pkifs.ca_cpu_of_one():.1f} ms",
                  pkifs.cpu_of_one() / pkifs.ca_cpu_of_one(), "<= 1")


NOTE = f"""\
**Enrollments** by SCEP at Debian's scepserver, RSA keys of 2048 bits made before. pkifs: write \
`enroll`, read `wait`; it makes the PKCS#10 and commits each step. scepclient: a process for each, \
key and PKCS#10 ready, three questions to the CA (pkifs knows its certificate and capabilities). \
CPU is user and system time of all processes of pkifs, those that have ended as well. Below 1 next \
to the CA's own the CA is the bottleneck. {BATCH} enrollments, {ROUNDS} rounds in turns, median."""
