"""CRLs of growing size, from the fetch to the first check, next to those who read them whole."""

import os
import pathlib
import shutil
import statistics
import subprocess
import time

from bench import SMOKE, TESTS, Bench, Row, limit_row, loops_end, loops_start, run, until
from revoking import Authority, Server, entry, many

SIZES = [1000, 10_000] if SMOKE else [1000, 10_000, 100_000, 1_000_000]
ROUNDS = 9  # a pause is the median of so many CRLs
LARGER = int(os.environ.get("BENCH_CRL", 0))  # one more size: 7,000,000 come near to 256 MiB
NOTE = ("**CRLs**: a profile is told of a `crl-url`; the time ends when `status` of a certificate "
        "says that it is revoked, with all that lies between: the fetch from a server of this "
        "machine, the signature, the index, the commit. The peers have the CRL as a file, and check "
        "one certificate. Memory is the peak of the process that reads the CRL (worker, peer; RSS). "
        "The pause is the longest read of a file of the mount meanwhile, the median of nine CRLs; "
        "beside it stands that of the same reader while the store has nothing to do and "
        "`openssl crl -verify` reads the CRL: the machine's own. Look-ups and path checks "
        "are OpenSSL's on the stub, in a loop. `BENCH_CRL=7000000` adds a size.")


def cost(command):
    """(seconds, peak memory in MiB, output) of a peer, which says that a certificate is revoked."""
    begin = time.monotonic()
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:
        said = process.stdout.read()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    if "revoked" not in said.lower():
        raise RuntimeError(f"{command[0]}: {said}")
    return time.monotonic() - begin, usage.ru_maxrss / 1024


class World(Bench):
    def set_up(self):
        self.ca = Authority(self.folder, "Corp CA")
        self.key = self.folder / "www.key"
        Authority.made("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                       "ec_paramgen_curve:P-256", "-out", self.key)
        self.leaf = self.folder / "leaf.pem"
        self.leaf.write_text(self.ca.issue("www", key=self.key))
        self.serial = int(Authority.made("openssl", "x509", "-in", self.leaf, "-noout",
                                         "-serial").split("=")[1], 16)
        self.http = Server(self)
        self.m = self.mount()
        for i, name in enumerate(("ca/corp", "local/www")):
            os.mkdir(self.m.point / name)
        self.m.write("ca/corp/cert.pem", self.ca.certificate)
        self.m.write("local/www/config", "ca-profile = corp\n")
        self.m.write("local/www/key.pem", self.key.read_text())
        self.m.write("local/www/cert.pem", self.leaf.read_text())
        self.number = 0
        return self

    def make(self, count):
        self.number += 1
        body = self.ca.crl(entry(self.serial, time.time()), raw=many(count), number=self.number,
                           since=self.number - 60, more=self.ca.key_id())
        path = self.folder / f"{count}.crl"
        path.write_bytes(body)
        return path

    def peak(self):
        """MiB of the largest worker."""
        peaks = [0]
        for pid in self.m.children("enroll"):
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    peaks.append(int(line.split()[1]) / 1024)
        return max(peaks)

    def beside(self, path):
        """The longest pause of a reader while another program reads the CRL, in ms: the machine's."""
        loops = loops_start(300, f"read:{self.m.point}/local/www/cert.pem")
        time.sleep(0.2)
        begin = time.monotonic()
        Authority.made("openssl", "crl", "-inform", "DER", "-in", path, "-noout", "-CAfile",
                       self.ca.pem, "-verify")
        loops.terminate()
        return loops_end(loops, time.monotonic() - begin)[0].longest / 1000

    def pauses(self, count):
        """(median, longest, median beside another program) of CRLs that arrive, in ms."""
        ours, others = [], []
        for _ in range(ROUNDS):
            path = self.make(count)
            ours.append(self.fetch(path)[2])
            others.append(self.beside(path))
        return statistics.median(ours), max(ours), statistics.median(others)

    def fetch(self, path):
        """(seconds, peak of the worker in MiB, longest pause of a reader in ms)."""
        self.m.request("ca/corp", "clear-crl")
        self.m.kill("enroll")
        self.http.pages["/crl"] = path.read_bytes()
        loops = loops_start(300, f"read:{self.m.point}/local/www/cert.pem")
        time.sleep(0.2)
        begin = time.monotonic()
        self.m.write("ca/corp/config", f"crl-url = {self.http.url}/crl\n# {self.number}\n")
        if not until(lambda: f"revoked (CRL {self.number}," in self.m.read("local/www/status"), 300):
            raise RuntimeError(self.m.read("ca/corp/status"))
        seconds, peak = time.monotonic() - begin, self.peak()
        loops.terminate()
        return seconds, peak, loops_end(loops, seconds)[0].longest / 1000


def peers(world, path):
    pem = world.folder / "crl.pem"
    Authority.made("openssl", "crl", "-inform", "DER", "-in", path, "-out", pem)
    commands = {"openssl verify": ["openssl", "verify", "-crl_check", "-CAfile", world.ca.pem,
                                   "-CRLfile", pem, world.leaf],
                "certtool": ["certtool", "--verify", "--load-ca-certificate", world.ca.pem,
                             "--load-crl", pem, "--infile", world.leaf],
                "pki --verify": ["pki", "--verify", "--in", world.leaf, "--cacert", world.ca.pem,
                                 "--crl", path]}
    for name, command in commands.items():
        if shutil.which(command[0]):
            yield name, *cost(command)


def measure():
    with World() as world:
        world.set_up()
        for count in SIZES + ([LARGER] if LARGER else []):
            path = world.make(count)
            seconds, peak, _ = world.fetch(path)
            title = f"CRL of {count:,} entries"
            large = count >= 1_000_000
            for name, theirs, memory in peers(world, path):
                yield Row(f"{title}: to the first check", f"{seconds:.3f} s",
                          f"{name} {theirs:.3f} s", seconds / theirs)
                if memory > 40:  # below that it is this program's own, from before exec
                    yield Row(f"{title}: peak memory", f"{peak:.1f} MiB", f"{name} {memory:.1f} MiB",
                              peak / memory, "<= 0.25" if large and "openssl" in name else None)
            done = run(TESTS / "bench-crls", path, world.ca.pem, world.leaf, world.folder,
                       timeout=600)
            if done.returncode:
                raise RuntimeError(done.stderr)
            words = [float(word) for word in done.stdout.split()]
            yield Row(f"{title}: read and indexed", f"{words[0]:.3f} s")
            if large:
                yield limit_row(f"{title}: a look-up", words[1], 2, "µs")
                pause, longest, other = world.pauses(count)
                yield limit_row(f"{title}: longest pause of a reader", pause, 5, "ms")
                yield Row(f"{title}: the same beside a program that reads it",
                          f"{pause:.1f} ms, once {longest:.1f}", f"openssl crl {other:.1f} ms",
                          pause / other)
            yield Row(f"{title}: path checks a second", f"{1e6 / words[3]:.0f}",
                      f"the first {words[2]:.0f} µs")
            path.unlink()
