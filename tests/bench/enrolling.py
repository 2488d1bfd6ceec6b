"""Enrollments with ready-made keys, next to scepclient, a process each."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess

from bench import (BIN, CACHE, LAB, Bench, Row, cpu_seconds, in_turns, run, scaled, seconds_of,
                   write_file)

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

    def __init__(self, keys):
        self.keys, self.number, self.cpu = keys, 0, 0.0

    def batch(self, together):
        """Seconds for one enrollment, BATCH of them, TOGETHER at a time."""
        names = []
        for _ in range(BATCH):
            self.number += 1
            names.append(f"{type(self).__name__.lower()}{self.number}")
            self.prepare(names[-1], self.keys[self.number % len(self.keys)])
        with concurrent.futures.ThreadPoolExecutor(together) as pool:
            return seconds_of(lambda: list(pool.map(self.enroll, names))) / BATCH


class Pkifs(Side):
    def __init__(self, keys, bench, url):
        super().__init__(keys)
        self.bench, self.m = bench, bench.mount()
        bench.trusted_profile(self.m, url)

    def prepare(self, name, key):
        self.bench.certificate_id(self.m, name)
        self.m.write(f"local/{name}/key.pem", key.read_text())

    def enroll(self, name):
        write_file(self.m.point / f"local/{name}/request", "enroll\n")
        with open(self.m.point / f"local/{name}/wait") as wait:
            said = wait.read()
        self.bench.assertEqual(said, "ok\n")

    def batch(self, together):
        before = cpu_seconds(self.m.daemon.pid)
        seconds = super().batch(together)
        self.cpu += cpu_seconds(self.m.daemon.pid) - before
        return seconds


class Scepclient(Side):
    def __init__(self, keys, bench, url):
        super().__init__(keys)
        self.bench, self.url, self.folder = bench, url, bench.folder / "clients"
        self.folder.mkdir()

    def prepare(self, name, key):
        folder = self.folder / name
        folder.mkdir()
        shutil.copy(key, folder / "key.pem")
        (folder / "request.conf").write_text(CSR.format(name=name))
        made = run("openssl", "req", "-new", "-key", key, "-config", folder / "request.conf",
                   "-out", folder / "csr.pem")
        self.bench.assertEqual(made.returncode, 0, made.stderr)

    def enroll(self, name):
        folder = self.folder / name
        client = subprocess.Popen(
            ["scepclient", "-server-url", self.url, "-challenge", "secret", "-private-key",
             folder / "key.pem", "-certificate", folder / "client.pem"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
        self.cpu += usage.ru_utime + usage.ru_stime
        self.bench.assertEqual(client.returncode, 0)
        self.bench.assertTrue((folder / "client.pem").exists())
