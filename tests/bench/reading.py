"""open + read + close, next to a FUSE file system that does nothing."""

import os
import subprocess

from bench import (TESTS, Bench, Row, family, in_turns, pin, rate, run, scaled, until,
                   write_file)

SECONDS = scaled(0.5, 0.1)
ROUNDS = scaled(7, 1)
CHAIN = """
set -e
openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -subj '/O=Lab/CN=Root' \
    -days 3650 -addext basicConstraints=critical,CA:TRUE
issue() { # issue ISSUER NAME SUBJECT EXTENSION
    openssl req -new -newkey rsa:2048 -nodes -keyout "$2.key" -subj "$3" -out "$2.csr"
    openssl x509 -req -in "$2.csr" -CA "$1.pem" -CAkey "$1.key" -days 800 -out "$2.pem" \
        -extfile <(echo "$4")
}
issue root issuer '/O=Lab/CN=Issuer' basicConstraints=critical,CA:TRUE
issue issuer www '/O=Lab/CN=www.example.net' subjectAltName=DNS:www.example.net
"""


class Empty:
    """The FUSE file system that does nothing, with the bytes of FILE."""

    def __init__(self, bench, name, file, *options):
        self.point = bench.folder / name
        self.point.mkdir()
        self.process = subprocess.Popen([TESTS / "bench-emptyfs", *options, file, self.point])
        bench.addCleanup(self.end)
        self.file = self.point / "local/www/file"
        if not until(self.file.exists):
            raise AssertionError("the empty file system did not start")

    def end(self):
        self.process.terminate()
        self.process.wait()


def published(bench):
    """A mount where local/www has a certificate of three levels."""
    made = run("bash", "-c", CHAIN, cwd=bench.folder)
    bench.assertEqual(made.returncode, 0, made.stderr)
    text = {name: (bench.folder / f"{name}.pem").read_text() for name in ("www", "issuer", "root")}
    m = bench.mount()
    os.mkdir(m.point / "local/www")
    m.write("local/www/key.pem", (bench.folder / "www.key").read_text())
    m.write("local/www/cert.pem", text["www"] + text["issuer"] + text["root"])
    return m


def compare(name, ours, daemon, peer, copies=1, cpu=None):
    """The row of one file: what one open, read and close costs, ours and theirs."""
    here = [process for pid in (daemon, peer.process.pid) for process in family(pid)]
    pin(here, cpu)
    us, them = in_turns(ROUNDS, lambda: rate(SECONDS, f"read:{ours}", copies, cpu),
                        lambda: rate(SECONDS, f"read:{peer.file}", copies, cpu))
    pin(here, None)
    return Row(name, f"{1e6 / us:.1f} µs", f"empty FUSE {1e6 / them:.1f} µs", them / us, "<= 1.3")


def elsewhere(name, folder, text):
    path = f"{folder}/pkifs-bench-{os.getpid()}"
    write_file(path, text)
    try:
        return Row(name, "", f"{1e6 / rate(SECONDS, f'read:{path}'):.1f} µs")
    finally:
        os.unlink(path)


def measure():
    with Bench() as bench:
        m = published(bench)
        www = m.point / "local/www"
        cases = [("fullchain.pem (cached)", www / "fullchain.pem", "cached"),
                 ("cert.pem (direct_io)", www / "cert.pem", "direct", "-d")]
        for title, ours, name, *options in cases:
            copy = bench.folder / f"{name}.bytes"
            copy.write_bytes(ours.read_bytes())
            title = f"open+read+close {title}, {copy.stat().st_size} bytes"
            peer = Empty(bench, name, copy, *options)
            yield compare(f"{title}: 1 reader", ours, m.daemon.pid, peer)
            yield compare(f"{title}: 16 readers", ours, m.daemon.pid, peer, 16)
            yield compare(f"{title}: 1 reader, all on one CPU", ours, m.daemon.pid, peer, 1,
                          min(os.sched_getaffinity(0)))
        text = (www / "fullchain.pem").read_text()
        yield elsewhere("the same bytes in tmpfs", "/dev/shm", text)
        yield elsewhere("the same bytes on the store's disk", bench.folder, text)


NOTE = f"""\
**open+read+close** by 1 and 16 processes, {SECONDS} s each, {ROUNDS} rounds in turns, median. The \
peer is `emptyfs.c`: the same bytes served by a FUSE file system that does nothing (libfuse's low \
level, one thread, no FLUSH), so the ratio is what pkifs itself adds to the price of FUSE. On one \
CPU nothing is lost in waking another one, and the difference shows best."""

