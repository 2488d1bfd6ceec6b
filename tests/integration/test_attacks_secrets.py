"""Attacks by those who share the machine: on secrets, memory, sentences, and what was checked."""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import resource
import shutil
import signal
import ssl
import stat
import subprocess
import threading
import unittest

from harness import (BIN, DAEMON, GAMES, NOBODY, PATIENCE, SANITIZED, Test, as_user, attempt, call,
                     main, make_pairs, needs_root, run, shell, until)
from scep import Ca


class Secrets(Test):
    SECRETS = {"challenge-password": "hunter2-challenge", "ca-secret": "hunter2-ca-secret",
               "est-password": "hunter2-est"}
    CA_SECRETS = {"crl-url-password": "hunter2-crl", "acme-eab-key": "aHVudGVyMi1lYWI"}

    def texts(self, mount):
        """All that anybody can see of the daemon, as (where, bytes)."""
        yield "the log", mount.log.read_bytes()
        for folder, _, names in os.walk(mount.point):
            for name in names:
                path = pathlib.Path(folder, name)
                if name in ("wait", "watch", "confirm"):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    yield str(path), path.read_bytes()
                with contextlib.suppress(OSError):
                    yield f"error of {path}", os.getxattr(path, "user.pkifs.error")
        pids = [mount.daemon.pid] + [pid for role in ("store", "keys", "publisher", "enroll")
                                     for pid in mount.children(role)]
        self.assertGreaterEqual(len(pids), 3)
        for pid in pids:
            for name in ("cmdline", "environ", "comm"):
                yield f"{name} of {pid}", pathlib.Path(f"/proc/{pid}/{name}").read_bytes()

    def assert_nowhere(self, mount, *secrets):
        for where, text in self.texts(mount):
            for secret in secrets:
                self.assertNotIn(secret.encode(), text, where)

    def test_attack_61_secrets_are_seen_nowhere(self):
        m = self.mount("log-level=debug")
        ca = Ca(self)
        self.trusted_profile(m, ca.url, more="crl-url = http://127.0.0.1:9/crl\n"
                             "crl-url-user = me\n" +
                             "".join(f"{key} = {value}\n" for key, value in
                                     self.CA_SECRETS.items()))
        self.certificate_id(m, more="key-type = rsa\n" + "".join(
            f"{key} = {value}\n" for key, value in self.SECRETS.items()))
        for text in ("enroll", "action = re-enroll\nchallenge-password = hunter2-asked"):
            m.request("local/www", text)
        self.assertIn("***", m.read("local/www/config"))
        self.assertIn("***", m.read("local/www/request"))
        m.request("ca/corp", "refresh-crl")
        self.assert_nowhere(m, "hunter2", "aHVudGVyMi1lYWI")

    def test_attack_61_a_refused_secret_is_not_quoted(self):
        m = self.mount("log-level=debug")
        for path in ("ca/corp", "local/www"):
            os.mkdir(m.point / path)
        for path, line in (("local/www", "challenge-password = hunter2" + "x" * 300),
                           ("local/www", "challenge-password hunter2"),
                           ("local/www", "challenge-pasword = hunter2"),
                           ("local/www", 'challenge-password = "hunter2'),
                           ("local/www", "challenge-password = hunter2\x01"),
                           ("ca/corp", "acme-eab-key = hunter2 !"),
                           ("ca/corp", "acme-dns-tsig = hunter2")):
            for file in ("config", "request"):
                got = attempt(m.write, f"{path}/{file}", line + "\n")
                self.assertEqual(got, -errno.EINVAL, line)
                self.assert_nowhere(m, "hunter2")

    @unittest.skipIf(SANITIZED, "sanitizers tell of each crash themselves")
    def test_attack_61_a_process_that_crashes_leaves_no_core(self):
        place = self.folder / "crashed"
        place.mkdir()
        limit = resource.getrlimit(resource.RLIMIT_CORE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, limit)
        resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
        shell("kill -SEGV $$", cwd=place)
        if not os.listdir(place):
            self.skipTest("nothing leaves a core here")
        shutil.rmtree(place)
        place.mkdir()
        m = self.mount(start=False)
        m.under = ["env", "-C", place]
        m.start()
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        for role in ("enroll", "publisher", "keys", "store"):
            pid = m.children(role)[0]
            self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), str(place))
            os.kill(pid, signal.SIGSEGV)
            self.assertTrue(until(lambda: pid not in m.children(role)), role)
            self.assertEqual(os.listdir(place), [], role)
        m.daemon.send_signal(signal.SIGSEGV)
        self.assertEqual(m.daemon.wait(PATIENCE), -signal.SIGSEGV)
        m.stop()
        self.assertEqual(os.listdir(place), [])

    def test_attack_61_what_is_exported_is_the_owner_s_alone(self):
        m = self.mount()
        m.self_signed()
        new, old = self.folder / "new.pem", self.folder / "old.pem"
        old.touch(0o644)
        spy = os.open(old, os.O_RDONLY)
        for option in ("--key", "--bundle"):
            for path in (new, old):
                done = shell(f"umask 0; {BIN}/pkictl -m {m.point} export www {option} -o {path}")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
                self.assertIn("PRIVATE KEY", path.read_text())
        self.assertEqual(os.read(spy, 4096), b"", "who had it open reads no key")
        os.close(spy)


def find(pid, *needles):
    """How often NEEDLES stand in the memory of PID."""
    count = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            at, end = (int(word, 16) for word in line.split()[0].split("-"))
            if end - at > 1 << 30 or "r" not in line.split()[1] or "[v" in line:
                continue  # a sanitizer's, or the kernel's
            with contextlib.suppress(OSError):
                memory.seek(at)
                text = memory.read(end - at)
                count += sum(text.count(needle) for needle in needles)
    return count


class Memory(Test):
    def peek(self, pid):
        """The ways into the memory of PID that are open to who asks."""
        def steal_descriptor():
            return call("syscall", 438, os.pidfd_open(pid), 0, 0)  # pidfd_getfd

        def vm_read():
            buffer = (ctypes.c_char * 8)()
            here = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
            return call("process_vm_readv", pid, here, 1, here, 1, 0)

        refused = (-errno.EACCES, -errno.EPERM)
        return [way for way, act in (
            ("mem", lambda: os.open(f"/proc/{pid}/mem", os.O_RDONLY)),
            ("mem to write", lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR)),
            ("maps", lambda: pathlib.Path(f"/proc/{pid}/maps").read_bytes()),
            ("environ", lambda: pathlib.Path(f"/proc/{pid}/environ").read_bytes()),
            ("auxv", lambda: pathlib.Path(f"/proc/{pid}/auxv").read_bytes()),
            ("fd", lambda: os.listdir(f"/proc/{pid}/fd")),
            ("exe", lambda: os.readlink(f"/proc/{pid}/exe")),
            ("a descriptor", steal_descriptor), ("process_vm_readv", vm_read),
            ("ptrace", lambda: call("ptrace", 0x4206, pid, 0, 0))) if attempt(act) not in refused]

    @needs_root
    def test_attack_62_the_daemon_s_own_user_reads_no_memory(self):
        m = self.mount(f"store={self.folder}/var/store.db", "privilege-separation=yes",
                       "user=daemon", "worker-user=games", start=False)
        m.start()
        m.self_signed()
        for role, uid in (("store", DAEMON), ("keys", DAEMON), ("enroll", GAMES)):
            pids = m.children(role)
            self.assertTrue(pids, role)
            for pid in pids:
                self.assertIn(f"Uid:\t{uid}\t", pathlib.Path(f"/proc/{pid}/status").read_text())
                self.assertEqual(as_user(uid, lambda: self.peek(pid)), [], role)

    @needs_root
    def test_attack_62_a_user_s_own_daemon_is_no_open_book(self):
        m = self.mount(start=False)
        m.by_nobody()
        for role, pid in (("store", m.children("store")[0]), ("keys", m.children("keys")[0]),
                          ("supervisor", m.daemon.pid)):
            self.assertTrue(until(lambda: not as_user(NOBODY, lambda: self.peek(pid)), 5), role)

    @needs_root
    def test_attack_62_what_was_used_is_wiped(self):
        m = self.mount()
        www = m.point / "local/www"
        os.mkdir(www)
        (key, certificate), = make_pairs(self.folder, 1)
        der = subprocess.run(["openssl", "pkey", "-outform", "DER"], input=key.encode(),
                             capture_output=True, check=True).stdout
        number = der[der.index(b"\x02\x01\x01\x04\x20") + 5:][:32]
        needles = (number, number[::-1], key.splitlines()[1].encode()[8:56],
                   key.splitlines()[2].encode()[:20])
        m.write("local/www/key.pem", key)
        m.write("local/www/cert.pem", certificate)
        for name in ("key.pem", "bundle.pem", "versions/1/key.pem"):
            self.assertEqual(m.read(f"local/www/{name}")[:len(key)], key)
        self.assertEqual(m.request("local/www", "action = generate-csr\nsubject = CN=x"), "ok")
        for role in ("store", "keys", "enroll", "publisher"):
            for pid in m.children(role):
                self.assertTrue(until(lambda: find(pid, *needles) == 0, 5),
                                f"{role}: {[find(pid, needle) for needle in needles]}")
        self.assertEqual(find(m.daemon.pid, *needles), 0, "the supervisor")
        with open(www / "key.pem") as file:  # that they would be found
            self.assertEqual(file.read(), key)
        self.assertGreater(find(os.getpid(), *needles), 0)


UTF8, T61 = b"\x0c", b"\x14"  # tags of ASN.1 strings


def self_signed(key, name, tag=UTF8):
    """A certificate, in PEM, of a CA whose CN is NAME, bytes as they are."""
    def openssl(*arguments, text):
        return subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True,
                              check=True).stdout

    place = b"A" * len(name)
    pem = openssl("req", "-x509", "-key", key, "-days", "9", "-subj", f"/O=Lab/CN={place.decode()}",
                  "-utf8", "-addext", "keyUsage=critical,keyCertSign,cRLSign", text=b"")
    size = bytes([len(name)])
    der = ssl.PEM_cert_to_DER_cert(pem.decode()).replace(UTF8 + size + place, tag + size + name)
    body = der[4:8 + int.from_bytes(der[6:8], "big")]
    signature = openssl("dgst", "-sha256", "-sign", key, text=body)
    return ssl.DER_cert_to_PEM_cert(der[:-len(signature)] + signature)


class Subjects(Test):
    #       one line             clears     quotes    C1: CSI       turns what follows around
    EVIL = b"a\nstate = valid" + b"\x1b[2J" + b'"\\' + b"\xc2\x9b" + b"\xe2\x80\xae" + b"z"
    NO_UTF8 = b"\xff\xc3(\x9b2J"

    def assert_harmless(self, text, where):
        self.assertNotRegex(text.decode(), "[\0-\x09\x0b-\x1f\x7f-\x9f\u202e]", where)

    def setUp(self):
        super().setUp()
        self.m = self.mount("log-level=debug")
        self.key = self.folder / "key"
        run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out",
            self.key)

    def test_attack_60_a_subject_is_one_line(self):
        names = {"plain": (b"A" * 9, UTF8), "evil": (self.EVIL, UTF8),
                 "bytes": (self.EVIL + self.NO_UTF8, T61)}
        for name, (subject, tag) in names.items():
            certificate = self_signed(self.key, subject, tag)
            os.mkdir(self.m.point / f"local/{name}")
            os.mkdir(self.m.point / f"ca/{name}")
            self.m.write(f"local/{name}/key.pem", self.key.read_text())
            self.m.write(f"local/{name}/cert.pem", certificate)
            self.m.write(f"ca/{name}/cert.pem", certificate)
        for kind in ("local", "ca"):
            keys, plain = ([line.split(" =")[0] for line in
                            self.m.read(f"{kind}/{name}/status").splitlines()]
                           for name in ("evil", "plain"))
            self.assertEqual(keys, plain)
            self.assertIn("\\0Astate", self.m.status(f"{kind}/evil")["subject"])
            self.assertEqual(self.m.status(f"{kind}/evil")["state"],
                             self.m.status(f"{kind}/plain")["state"])
        self.assertEqual(len(self.m.read("status").splitlines()), 1 + 2 * len(names))
        for entry in json.loads(self.m.read("status.json"))["local"]:
            self.assertNotIn("\n", entry["subject"])
        for line in self.m.read("events").splitlines():
            json.loads(line)
        for name in names:
            for path in ("status", "status.json", "events", f"local/{name}/status",
                         f"ca/{name}/status", f"ca/{name}/fingerprint"):
                self.assert_harmless((self.m.point / path).read_bytes(), path)
            for words in (("show",), ("show", f"local/{name}"), ("ca", "show", name)):
                done = subprocess.run([BIN / "pkictl", "-m", self.m.point, *words],
                                      capture_output=True, check=True)
                self.assert_harmless(done.stdout + done.stderr, words)
        self.assert_harmless(self.m.log.read_bytes(), "the log")

    def test_attack_60_a_subject_that_is_no_utf8_is_refused(self):
        os.mkdir(self.m.point / "ca/corp")
        got = attempt(self.m.write, "ca/corp/cert.pem", self_signed(self.key, self.NO_UTF8))
        self.assertEqual(got, -errno.EINVAL)
        self.assert_harmless((self.m.point / "ca/corp/status").read_bytes(), "status")
        self.assert_harmless(self.m.log.read_bytes(), "the log")

    def test_attack_60_a_value_that_is_refused_is_one_line(self):
        os.mkdir(self.m.point / "ca/corp")
        config = self.m.point / "ca/corp/config"
        for value in (b"\x1b[2J", b"a\x07", b"\xff\xfe", b"\xc3(", b"\xc2\x9b2J", b"a\r",
                      b"\xe2\x80\xae1", b"\xed\xa0\x80", b"\0", b"x" * 37 + "ü".encode() * 9):
            for key in (b"enrollment-retry", b"protocol", b"enrollment-url", b"x" + value):
                self.assertEqual(attempt(config.write_bytes, key + b" = " + value + b"\n"),
                                 -errno.EINVAL, value)
                for where, text in (("status", self.m.point / "ca/corp/status"),
                                    ("all", self.m.point / "status"), ("log", self.m.log),
                                    ("events", self.m.point / "events")):
                    self.assert_harmless(text.read_bytes(), f"{where}: {key} = {value}")
                self.assert_harmless(os.getxattr(config, "user.pkifs.error"), value)
                last = json.loads(self.m.read("events").splitlines()[-1])
                self.assertEqual(last["reason"], self.m.status("ca/corp")["last-error"])
                json.loads(self.m.read("status.json"))
        self.assertEqual(config.read_bytes(), b"")


class Swaps(Test):
    """What was checked is what is stored."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.www = self.m.point / "local/www"
        os.mkdir(self.www)
        (self.one, _), (self.two, _) = make_pairs(self.folder, 2)
        self.bad = self.two.replace(self.two[80:84], "AAAA")

    def public(self, key):
        return subprocess.run(["openssl", "pkey", "-pubout"], input=key, capture_output=True,
                              text=True, check=True).stdout

    def assert_has(self, key):
        self.assertEqual(self.m.read("local/www/key.pem"), key)
        self.assertEqual(self.m.read("local/www/public.pem"), self.public(key))

    def test_attack_63_a_key_that_is_replaced_before_it_is_closed(self):
        self.m.write("local/www/key.pem", self.one)
        for text, kept in ((self.bad, self.one), ("x" * len(self.two), self.one),
                           (self.two, self.two)):
            file = os.open(self.www / "key.pem", os.O_WRONLY | os.O_TRUNC)
            os.pwrite(file, self.one.encode(), 0)  # good so far
            got = attempt(os.pwrite, file, text.encode(), 0)
            got = (got if got < 0 else None, attempt(os.close, file))
            self.assertEqual(-errno.EINVAL in got, kept != text, got)
            self.assert_has(kept)

    def test_attack_63_two_writers_of_a_key(self):
        files = [os.open(self.www / "key.pem", os.O_WRONLY | os.O_CREAT) for _ in range(2)]
        for file, key in zip(files, (self.one, self.two)):
            os.write(file, key[:60].encode())
        for file, key in zip(files, (self.one, self.two)):
            os.write(file, key[60:].encode())
        for file, key in zip(files, (self.one, self.two)):
            os.close(file)
            self.assert_has(key)

    def test_attack_63_a_temporary_file_that_is_written_while_it_is_renamed(self):
        self.m.write("local/www/key.pem", self.one)
        end, wrong = threading.Event(), []

        def look():
            while not end.is_set():
                with contextlib.suppress(OSError):
                    key = self.m.read("local/www/key.pem")
                    if key not in (self.one, self.two):
                        wrong.append(key)

        looker = threading.Thread(target=look)
        looker.start()
        try:
            for turn in range(10):
                draft = os.open(self.www / "draft", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.write(draft, self.two.encode())
                writer = threading.Thread(target=lambda: [
                    attempt(os.pwrite, draft, text.encode(), 0)
                    for text in (self.bad, self.one, self.two, self.bad) * 3])
                writer.start()
                attempt(os.rename, self.www / "draft", self.www / "key.pem")
                writer.join()
                os.close(draft)
                attempt(os.unlink, self.www / "draft")
                key = self.m.read("local/www/key.pem")
                self.assertIn(key, (self.one, self.two))
                self.assert_has(key)
        finally:
            end.set()
            looker.join()
        self.assertEqual(wrong, [])

    def test_attack_63_a_renamed_file_is_ours_no_more(self):
        draft = os.open(self.www / "draft", os.O_RDWR | os.O_CREAT, 0o600)
        os.write(draft, self.one.encode())
        os.rename(self.www / "draft", self.www / "key.pem")
        attempt(os.pwrite, draft, self.two.encode(), 0)
        attempt(os.ftruncate, draft, 0)
        os.close(draft)
        self.assert_has(self.one)

    def test_attack_63_a_crl_that_is_judged_is_not_written_to(self):
        os.mkdir(self.m.point / "ca/corp")
        ca, crl = self.folder / "ca", self.m.point / "ca/corp/crl.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Lab CA",
            "-keyout", ca.with_suffix(".key"), "-out", ca.with_suffix(".pem"), "-addext",
            "keyUsage=critical,keyCertSign,cRLSign")
        (self.folder / "index").touch()
        (self.folder / "number").write_text("10\n")
        (self.folder / "conf").write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.folder}/index\n"
            f"crlnumber={self.folder}/number\ndefault_md=sha256\ndefault_crl_days=7\n")
        made = run("openssl", "ca", "-config", self.folder / "conf", "-cert",
                   ca.with_suffix(".pem"), "-keyfile", ca.with_suffix(".key"), "-gencrl")
        text = made.stdout[made.stdout.index("-----BEGIN"):]
        self.m.write("ca/corp/cert.pem", ca.with_suffix(".pem").read_text())
        self.m.write("ca/corp/crl.pem", text)  # so that there is a worker
        workers = self.m.children("enroll")
        self.assertTrue(workers)
        file = os.open(crl, os.O_WRONLY | os.O_TRUNC)
        os.write(file, text.encode())
        self.m.kill("enroll", signal.SIGSTOP)
        closed = []
        closer = threading.Thread(target=lambda: closed.append(attempt(os.close, os.dup(file))))
        closer.start()
        try:
            self.assertTrue(until(lambda: attempt(os.pwrite, file, text[:9].encode(), 0) ==
                                  -errno.EBUSY, 10), "it is written to while it is judged")
        finally:
            self.m.kill("enroll", signal.SIGCONT)
            closer.join(PATIENCE)
        self.assertEqual(closed, [None])
        os.close(file)
        self.assertEqual(self.m.status("ca/corp")["crl-entries"], "0")


if __name__ == "__main__":
    main()
