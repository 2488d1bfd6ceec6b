"""The worst days of a store: no room on its disk, bytes that changed, another key, another clock,
a worker that was taken over."""

import contextlib
import errno
import json
import os
import shutil
import signal
import time
import unittest

from harness import BIN, Clock, Test, main, run, some_of, until
from life import Life, Stock
from scep import Ca, assert_valid
from storefile import sql

YEAR = 365 * 86400


class Disk(Test):
    """A disk of its own for the store: ext4 with blocks of 1 KiB, as on small ones."""

    def setUp(self):
        super().setUp()
        self.m = self.mount(start=False)
        image = self.folder / "disk"
        with open(image, "wb") as file:
            file.truncate(8 << 20)
        run("mkfs.ext4", "-q", "-b", 1024, image)
        if run("mount", "-o", "loop", image, self.m.folder).returncode != 0:
            self.skipTest("no loop device can be mounted")
        self.addCleanup(run, "umount", "-l", self.m.folder)
        self.m.point.mkdir()
        self.m.log = self.folder / "log"

    def fill(self):
        """Leaves no byte of room, in the log's file neither: what was full may take one more."""
        with open(self.m.folder / "filler", "ab", buffering=0) as filler:
            for size in (1 << 16, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(bytes(size))

    def make_room(self):
        (self.m.folder / "filler").unlink()

    def write_until_refused(self, path):
        """The text that was taken last."""
        last = None
        for count in range(100):
            text = f"# {count}\n" + "# much of it\n" * 4000
            try:
                self.m.write(path, text)
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)
                return last
            last = text
        self.fail("the disk is full, and writes are taken")

    def test_attack_65_a_full_disk_refuses_writers_and_serves_readers(self):
        stock = Stock(self)
        self.m.start()
        life = Life(self.m, stock)
        life.live()
        store = self.m.children("store")
        config = f"{life.own}/config"
        for again in range(2):
            self.fill()
            last = self.write_until_refused(config) or self.m.read(config)
            life.may[config] = (last,)
            for _ in range(3):
                self.assertEqual(life.wrong(), [])
                self.assertIn("valid", self.m.status(life.www)["state"])
            with self.assertRaises(OSError) as caught:
                for count in range(100):
                    os.mkdir(self.m.point / f"local/more{again}-{count}")
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            # also when it starts on the full disk
            self.assertEqual(self.m.stop(), 0)
            self.m.start()
            self.assertEqual(life.wrong(), [])
            self.make_room()
            self.m.write(config, "subject = CN=own\n")
            life.may[config] = ("subject = CN=own\n",)
            self.assertEqual(life.wrong(), [])
            store, before = self.m.children("store"), store
            self.assertNotEqual(store, before)
        self.assertNotIn("the store ended", self.m.log.read_text())

    def test_what_is_declared_on_a_full_disk_comes_when_there_is_room(self):
        self.m.conf = self.folder / "pkifs.conf"
        self.m.conf.write_text("[local www]\n")
        self.m.start()
        self.fill()
        self.write_until_refused("local/www/config")
        self.m.conf.write_text("[local www]\n" + "".join(
            f"[local mail{i}]\nkey-size = 3072\n" for i in range(150)))
        self.m.daemon.send_signal(signal.SIGHUP)
        self.assertTrue(until(lambda: "what is declared cannot be stored" in
                              self.m.log.read_text()))
        self.assertEqual(os.listdir(self.m.point / "local"), ["www"])
        self.make_room()
        for i in (0, 149):
            path = f"local/mail{i}/config"
            self.assertTrue(until(lambda: (self.m.point / path).exists() and
                                  self.m.read(path) == "key-size = 3072\n"))

    def test_attack_65_a_request_goes_on_when_there_is_room(self):
        self.m.start()
        ca = Ca(self)
        self.trusted_profile(self.m, ca.url)
        self.certificate_id(self.m)
        os.mkdir(self.m.point / "local/other")
        ca.stop()
        self.m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: self.m.status("local/www")["request"] == "waiting"))
        self.fill()
        self.write_until_refused("local/other/config")
        ca.start()
        self.assertTrue(until(lambda: "cannot be written" in self.m.log.read_text()))
        self.assertIn(self.m.status("local/www")["request"], ("waiting", "running"))
        self.make_room()
        self.assertTrue(until(lambda: self.m.status("local/www")["state"] == "valid", 90),
                        self.m.status("local/www"))
        assert_valid(self, self.m, "www", version=1)
        self.assertEqual(len(ca.said("received PKCSReq")), len(ca.said("sent SUCCESS")))


class Store(Test):
    """A store as a life has left it, changed while no daemon has it open."""

    def setUp(self):
        super().setUp()
        self.stock = Stock(self)
        self.m = self.mount()
        self.life = Life(self.m, self.stock)
        self.life.live()
        self.m.stop()
        self.store, self.key = self.m.folder / "store.db", self.m.folder / "store.key"

    def files(self):
        """What there is; a log without a byte in it is none."""
        return {path.relative_to(self.m.folder): path.read_bytes()
                for path in self.m.folder.glob("store*")
                if path.is_file() and path.stat().st_size}

    def refused(self, words):
        """The daemon does not start, says WORDS, and leaves all as it was."""
        before = self.files()
        self.assertIn(words, self.m.refuses())
        self.assertTrue(self.files() == before, "something has changed")

    def serves(self):
        self.m.start()
        self.assertEqual(self.life.wrong(), [])
        self.m.stop()

    def sql(self, text):
        return sql(self.store, text)

    def test_attack_66_another_file_is_refused_as_it_is(self):
        whole = self.store.read_bytes()
        for content, words in ((b"no database at all" * 100, "not a database"),
                               (whole[:5000], "the store"), (whole[:-8192], "the store")):
            self.store.write_bytes(content)
            self.refused(words)
        self.store.write_bytes(whole)
        self.sql("PRAGMA application_id = 7")
        self.refused("another program")
        self.store.write_bytes(whole)
        self.sql("PRAGMA user_version = 1000")
        self.refused("written by a newer pkifs")
        self.store.write_bytes(whole)
        self.serves()

    def test_attack_66_a_flipped_byte_is_found(self):
        whole = self.store.read_bytes()
        for place in (0, *some_of(range(1, len(whole), 251), 100)):  # the first: SQLite's name
            with self.subTest(place=place):
                self.store.write_bytes(
                    whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1:])
                self.refused("the store")
        self.store.write_bytes(whole)
        self.serves()

    def test_attack_66_a_byte_flipped_under_a_store_that_serves_is_told(self):
        self.m.start()
        long = "".join(f"# line {i} of a config that fills pages of its own\n" for i in range(800))
        self.m.write(f"{self.life.own}/config", long)
        self.m.stop()  # so that it stands in the file
        self.m.start()
        self.assertNotIn("notice", json.loads(self.m.read("status.json")))
        pages = self.store.read_bytes()
        with open(self.store, "r+b") as file:
            file.seek(pages.index(b"# line 400 "))
            file.write(b"# LINE")
        self.m.kill("store")  # what its successor reads comes from the file
        with self.assertRaises(OSError) as caught:
            self.m.read(f"{self.life.own}/config")
        self.assertEqual(caught.exception.errno, errno.EIO)
        self.assertTrue(until(lambda: "changed on its disk" in self.m.read("status")))
        self.assertIn("changed on its disk", json.loads(self.m.read("status.json"))["notice"])
        self.assertIn("of the store is damaged", self.m.log.read_text())
        self.assertIn("BEGIN CERTIFICATE", self.m.read(f"{self.life.www}/cert.pem"))

    def test_attack_66_a_flipped_byte_in_a_crls_index_turns_nobody_good(self):
        self.m.start()
        serial = self.m.status(self.life.www)["serial"]
        config = self.m.read(f"{self.life.www}/config")
        for revoked, now, words in (("7777", "good", "unknown ("),
                                    (serial, "revoked", "revoked")):
            self.m.write(f"{self.life.profile}/crl.pem", self.stock.revoking(revoked))
            self.assertTrue(until(lambda: now in self.m.status(self.life.www)["revocation"]))
            self.assertTrue(until(lambda: now != "revoked" or
                                  '"event":"revoked"' in self.m.read("events")))
            index = max((self.store.parent / "store.db.d").glob("crl-*.idx"),
                        key=lambda file: file.stat().st_mtime_ns)
            whole = index.read_bytes()
            end = (len(whole) - 32 - 24) // 32 * 32  # behind the entries: a fence, and the end
            for place in range(end):
                index.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1:])
                self.m.write(f"{self.life.www}/config", f"{config}\n# {place}\n")  # another look
                self.assertIn(words, self.m.status(self.life.www)["revocation"], place)
            for place in (end, end + 25, len(whole) - 1):  # is read once
                self.m.stop()
                index.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1:])
                self.m.start()
                self.m.write(f"{self.life.www}/config", f"{config}\n# {place}\n")
                self.assertIn(words, self.m.status(self.life.www)["revocation"], place)
            self.m.stop()
            index.write_bytes(whole)
            self.m.start()
            self.m.write(f"{self.life.www}/config", f"{config}\n# again\n")
            self.assertIn(now, self.m.status(self.life.www)["revocation"])
            index.write_bytes(b"")  # under a store that has it open
            self.m.write(f"{self.life.www}/config", f"{config}\n# empty\n")
            self.assertIn(words, self.m.status(self.life.www)["revocation"])
            index.write_bytes(whole)

    def test_attack_66_an_old_backup_put_back_is_found_out(self):
        self.serves()
        backup = self.store.read_bytes()
        self.serves()  # the same once more: nothing was put back
        self.m.start()
        os.mkdir(self.m.point / "local/later")
        newest = self.store.parent / "store.db.d/.newest"
        before = newest.read_bytes()
        self.assertTrue(until(lambda: newest.read_bytes() != before))
        self.assertNotIn("older copy", self.m.read("status"))
        self.m.stop()
        self.store.write_bytes(backup)
        self.m.start()
        self.m.kill("store")  # its successor knows it too
        self.assertIn("# this store is an older copy", self.m.read("status"))
        self.assertIn("older copy", json.loads(self.m.read("status.json"))["notice"])
        self.assertIn('"older-store"', self.m.read("events"))
        self.assertIn("older copy", self.m.log.read_text())
        self.assertTrue(until(lambda: newest.read_bytes() != before))
        self.m.stop()
        self.m.start()
        self.assertNotIn("older copy", self.m.read("status"))
        self.assertEqual(self.m.stop(), 0)

    def test_attack_66_a_sealed_key_in_another_row_is_found_out(self):
        rows = self.sql("SELECT id, object FROM key_pair ORDER BY id")
        self.assertGreater(len({owner for _, owner in rows}), 1)
        first, last = rows[0][0], rows[-1][0]
        self.sql(f"UPDATE key_pair SET sealed = (SELECT sealed FROM key_pair WHERE id = {last}),"
                 f" pem_size = (SELECT pem_size FROM key_pair WHERE id = {last}) WHERE id = {first}")
        self.m.start()
        with self.assertRaises(OSError) as caught:
            self.m.read(f"{self.life.www}/versions/1/key.pem")
        self.assertEqual(caught.exception.errno, errno.EIO)
        self.assertIn("was changed or moved", self.m.log.read_text())
        # nor with its public key beside it: the owner is another one
        self.m.stop()
        self.sql(f"UPDATE key_pair SET public = (SELECT public FROM key_pair WHERE id = {last})"
                 f" WHERE id = {first}")
        self.m.start()
        with self.assertRaises(OSError):
            self.m.read(f"{self.life.www}/versions/1/key.pem")

    def test_attack_67_a_store_without_its_key_is_refused(self):
        good = self.key.read_text()
        self.key.unlink()
        self.refused("is not there, but the store")
        self.assertFalse(self.key.exists(), "a new key over old data")
        (self.m.folder / "elsewhere").write_text(good)
        self.key.symlink_to(self.m.folder / "elsewhere")
        self.refused("is no plain file")
        self.key.unlink()
        self.key.mkdir()
        self.refused("is no plain file")
        self.key.rmdir()
        for content, words in (("ab" * 32 + "\n", "another one than it was sealed with"),
                               ("", "32 bytes or 64 hex digits"),
                               (good[:-2], "32 bytes or 64 hex digits")):
            self.key.write_text(content)
            self.key.chmod(0o600)
            self.refused(words)
        self.key.write_text(good)
        for mode in (0o644, 0o640, 0o602):
            self.key.chmod(mode)
            self.refused("can be read by others: chmod 600")
        self.key.chmod(0o600)
        self.serves()

    def test_attack_67_a_sealed_store_is_not_opened_without_a_key(self):
        self.m.options = ("store-key=none",)
        self.refused("made with a store key")


class WrongClock(Test):
    """The daemon's own clock, set while it runs."""

    def setUp(self):
        super().setUp()
        clock = Clock(self)
        self.set = clock.set
        self.m = self.mount(clock=clock)

    def since(self, name):
        """What the daemon takes for the time when it makes an object."""
        os.mkdir(self.m.point / "local" / name)
        return int(self.m.status(f"local/{name}")["since"][:4])

    def test_attack_68_nothing_is_lost_on_a_wrong_clock(self):
        ca = Ca(self)
        self.trusted_profile(self.m, ca.url)
        self.certificate_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        before = {name: self.m.read(f"local/www/{name}") for name in ("bundle.pem", "config")}

        def all_there():
            for name, text in before.items():
                self.assertEqual(self.m.read(f"local/www/{name}"), text)
            return self.m.status("local/www")

        for year in (1970, 2040, 1971, 2039):
            self.set((year - 1970) * 365.25 * 86400 - time.time() + 86400)
            self.assertEqual(self.since(f"in{year}"), year)
            status = all_there()
            if year < 2000:
                self.assertEqual(status["state"], "valid")
                self.assertIn("not trusted", status["clock"])
                self.assertNotIn("expired", self.m.read("status"))
                # and it still serves: the CA's answer is judged without the clock
                self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
                before["bundle.pem"] = self.m.read("local/www/bundle.pem")
            else:
                self.assertEqual(status["state"], "expired")
            self.m.stop()
            self.m.start()
            all_there()
        self.set(0)
        status = all_there()
        self.assertEqual(status["state"], "valid")
        self.assertNotIn("clock", status)
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        assert_valid(self, self.m, "www")
        self.assertEqual([line for line in self.m.read("events").splitlines()
                          if "expired" in line], [])

    def test_attack_68_a_visit_to_the_future_leaves_the_clock_trusted(self):
        os.mkdir(self.m.point / "local/www")
        self.m.write("local/www/config", "subject = CN=own\nkey-type = ecdsa\n")
        self.set(14 * YEAR)
        self.assertEqual(self.m.request("local/www", "generate-self-signed"), "ok")
        self.set(0)
        self.assertNotIn("clock", self.m.status("local/www"))
        self.m.stop()
        self.m.start()
        self.assertNotIn("clock", self.m.status("local/www"))

    def test_attack_68_what_waits_goes_on_when_the_clock_is_put_back(self):
        ca = Ca(self)
        self.trusted_profile(self.m, ca.url)
        self.certificate_id(self.m)
        ca.stop()
        self.set(14 * YEAR)
        self.m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: self.m.status("local/www")["request"] == "waiting"))
        self.set(0)
        ca.start()
        self.assertTrue(until(lambda: self.m.status("local/www")["state"] == "valid"),
                        self.m.status("local/www"))


class Worker(Test):
    """The store has trusted the worker with a job, and it does something else."""

    def test_attack_69_what_a_worker_must_not_send_ends_it(self):
        for manner, words in (("nonsense", "what it must not send"),
                              ("other-job", "what it must not send"),
                              ("checkpoint", "what it must not send"),
                              ("garbage", "enrollment worker"),
                              ("two-gib", "enrollment worker"),
                              ("half", "enrollment worker")):
            with self.subTest(manner):
                programs = self.folder / manner
                programs.mkdir()
                shutil.copy(BIN / "pkifsd", programs)
                shutil.copy(BIN.parent / "tests/hostile-worker", programs / "pkifs-enroll")
                (programs / "manner").write_text(manner)
                m = self.mount(start=False)
                m.programs = programs
                m.start()
                os.mkdir(m.point / "local/www")
                store = m.children("store")
                for _ in range(3):
                    self.assertIn(words, m.request(
                        "local/www", "action = generate-csr\nsubject = CN=x"))
                self.assertEqual(m.children("store"), store, "the store died of it")
                self.assertFalse((m.point / "local/www/csr.pem").exists())

    def test_attack_69_a_worker_that_stands_still_is_replaced(self):
        programs = self.folder / "hasty"
        programs.mkdir()
        shutil.copy(BIN.parent / "tests/hasty/pkifsd", programs)
        shutil.copy(BIN / "pkifs-enroll", programs)
        m = self.mount(start=False)
        m.programs = programs
        m.start()
        ca = Ca(self)
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        m.kill("enroll", signal.SIGSTOP)  # it is idle, and gets the next job
        stopped = m.children("enroll")
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assertIn("did not answer in time", m.log.read_text() + m.read("events"))
        self.assertFalse(set(stopped) & set(m.children("enroll")))


if __name__ == "__main__":
    main()
