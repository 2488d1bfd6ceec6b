"""10,000 and 100,000 certificate ids: start, listings, status, one file, memory."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from bench import (CACHE, TESTS, Bench, Mount, Row, family, in_turns, limit_row, memory, rate, run,
                   scaled, seconds_of, write_file)
from storefile import changing

WHOLE = scaled(10_000, 20)  # ids with config, key and certificate
MORE = scaled(90_000, 20)  # beside them in the larger store: with a config alone
MAKERS = 8
ROUNDS = scaled(3, 1)
SECONDS = scaled(0.5, 0.1)


def config(number):
    return (f"ca-profile = lab\nsubject = CN=host{number}.example.net\n"
            f"domain-name = host{number}.example.net\n")


def make_ids(point, material, numbers):
    for number in numbers:
        folder = f"{point}/local/host{number}"
        os.mkdir(folder)
        write_file(f"{folder}/config", config(number))
        write_file(f"{folder}/key.pem", (material / f"{number}.key").read_text())
        write_file(f"{folder}/cert.pem", (material / f"{number}.pem").read_text())


def fill(m, ids):
    """A profile, and IDS certificate ids with all that belongs to them, through the mount."""
    material = m.folder / "material"
    material.mkdir()
    made = run(TESTS / "bench-identities", material, ids, timeout=600)
    if made.returncode:
        raise AssertionError(made.stderr)
    os.mkdir(m.point / "ca/lab")
    m.write("ca/lab/cert.pem", (material / "ca.pem").read_text())
    with concurrent.futures.ProcessPoolExecutor(MAKERS) as pool:
        for done in [pool.submit(make_ids, m.point, material, range(first, ids, MAKERS))
                     for first in range(MAKERS)]:
            done.result()


def multiply(folder, first, last):
    """Ids FIRST to LAST as the store's rows: each is what mkdir and a config leave behind."""
    with changing(f"{folder}/store.db") as db:
        kind, created = db.execute("SELECT kind, created FROM object WHERE name='host0'").fetchone()
        profile, = db.execute("SELECT id FROM object WHERE name='lab'").fetchone()
        for number in range(first, last):
            into = db.execute("INSERT INTO object (kind, name, created, since) VALUES (?,?,?,?)",
                              (kind, f"host{number}", created, created)).lastrowid
            text = db.execute("INSERT INTO config (object, created, text) VALUES (?, 1, ?)",
                              (into, config(number).encode())).lastrowid
            edition = db.execute(
                "INSERT INTO edition (object, created, key_pair, next_key, version, csr,"
                " certificate, chain, ra, pending, trusted_by, capabilities, crl)"
                " VALUES (?, 1, 0, 0, 0, x'', x'', x'', x'', x'', '', '', 0)", (into,)).lastrowid
            db.execute("UPDATE object SET config=?, edition=? WHERE id=?", (text, edition, into))
            db.execute("INSERT INTO reference VALUES (?, ?)", (into, profile))


def prepared(whole, more=0):
    """A folder with such a store, made once: in memory, where no fsync takes its time."""
    kept = CACHE / f"ids-{whole + more}"
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="pkifs-bench-") as name:
        folder = pathlib.Path(name)
        if more:
            shutil.copytree(prepared(whole), folder, dirs_exist_ok=True)
            multiply(folder, whole, whole + more)
        else:
            m = Mount(folder).start()
            try:
                fill(m, whole)
            finally:
                m.stop()
        new = pathlib.Path(f"{kept}.new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(folder, new, ignore=shutil.ignore_patterns("pki", "material", "log"))
        new.rename(kept)
    return kept


class Measured(Mount):
    """A mount whose start is measured: until a path below it answers."""

    def until_it_answers(self):
        begin = time.monotonic()
        self.spawn()
        while not (self.point / "local/host0").exists():
            time.sleep(0.001)
        return time.monotonic() - begin


def command(*words):
    return seconds_of(lambda: subprocess.run([str(word) for word in words], check=True,
                                             stdout=subprocess.DEVNULL)) * 1000


def of_size(bench, store, size, alone):
    """The rows of STORE, which has SIZE ids; ALONE is a store of one id, mounted."""
    folder = bench.folder / f"ids-{size}"
    shutil.copytree(store, folder)
    m = Measured(folder)
    bench.mounts.append(m)
    with_ids = f"{size:,} ids: "

    def start():
        m.stop()
        return m.until_it_answers()

    seconds, = in_turns(ROUNDS, start)
    yield limit_row(f"{with_ids}start until the mount answers", seconds, 1, "s")
    yield Row(f"{with_ids}store.db", f"{(folder / 'store.db').stat().st_size / 2**20:.0f} MiB")
    local, status = m.point / "local", m.point / "status"

    def changed_status():
        write_file(local / "host0/config", f"subject = CN={time.monotonic_ns()}\n")
        return command("cat", status)

    for name, measure, limit in (
            ("`ls local`", lambda: command("ls", local), 100),
            ("`ls -l local`", lambda: command("ls", "-l", local), None),
            ("`cat status`, the first after a change", changed_status, 100),
            ("`cat status` again", lambda: command("cat", status), 100),
            ("`cat local/ID/status`", lambda: command("cat", local / "host0/status"), 100)):
        value, = in_turns(ROUNDS, measure)
        yield limit_row(with_ids + name, value, limit, "ms") if limit else \
            Row(with_ids + name, f"{value:.4g} ms")
    one, other = in_turns(ROUNDS, lambda: rate(SECONDS, f"read:{local}/host0/cert.pem"),
                          lambda: rate(SECONDS, f"read:{alone.point}/local/host0/cert.pem"))
    yield Row(f"{with_ids}open+read+close cert.pem", f"{1e6 / one:.1f} µs",
              f"1 id {1e6 / other:.1f} µs", other / one, "<= 1.2")
    held = memory(m.daemon.pid)
    yield limit_row(f"{with_ids}memory of all {len(family(m.daemon.pid))} processes (Pss)", held,
                    64, "MiB") if size == WHOLE else \
        Row(f"{with_ids}memory of all processes (Pss)", f"{held:.1f} MiB")
    m.stop()


def measure():
    with Bench() as bench:
        shutil.copytree(prepared(1), bench.folder / "alone")
        alone = Mount(bench.folder / "alone").start()
        bench.mounts.append(alone)
        yield from of_size(bench, prepared(WHOLE), WHOLE, alone)
        yield from of_size(bench, prepared(WHOLE, MORE), WHOLE + MORE, alone)


NOTE = f"""\
**Ids**: of {WHOLE:,} every one has a config, a key and a certificate, made through a mount before; \
in the larger store {MORE:,} with a config alone stand beside them. Start: from \
exec of `pkifsd` until a name in `local` is found. `status` is kept until something changes, so \
both readings are shown. Memory is Pss after all that: pages that processes share count once."""
