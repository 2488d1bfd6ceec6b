"""CRLs that deceive, are too old, too large or name what they must not; and those that do not."""

import errno
import json
import os
import ssl
import threading
import time
import unittest

import storefile
from responder import Known, Responder
from revoking import Authority, Server, der, entry, extension, integer, many, pem, uri_point
from harness import BIN, SHARE, Test, run, until

USERS, CAS, SOME = (bytes.fromhex(text) for text in
                              ("8101ff", "8201ff", "83020640"))
FRESH = extension("freshest", der(0x30, der(0x30, uri_point("http://127.0.0.1:9/"))))


class Crls(Test):
    def setUp(self):
        super().setUp()
        self.ca = Authority(self.folder, "Corp CA")
        self.m = self.mount()
        self.profile()

    def profile(self, name="corp", ca=None, config=""):
        os.mkdir(self.m.point / "ca" / name)
        if config:
            self.m.write(f"ca/{name}/config", config)
        self.m.write(f"ca/{name}/cert.pem", (ca or self.ca).certificate)

    def id(self, name="www", profile="corp", ca=None, chain="", more=()):
        """A certificate id with a certificate of the CA: its serial number."""
        key = self.folder / f"{name}.key"
        Authority.made("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                       "ec_paramgen_curve:P-256", "-out", key)
        os.mkdir(self.m.point / "local" / name)
        self.m.write(f"local/{name}/config", f"ca-profile = {profile}\nsubject = CN={name}\n")
        self.m.write(f"local/{name}/key.pem", key.read_text())
        self.m.write(f"local/{name}/cert.pem",
                     (ca or self.ca).issue(name, key=key, more=more) + chain)
        return int(self.m.status(f"local/{name}")["serial"].replace(":", ""), 16)

    def load(self, body, profile="corp"):
        with open(self.m.point / f"ca/{profile}/crl.pem", "wb") as file:
            file.write(body)

    def refused(self, body, words, code=errno.EINVAL, profile="corp"):
        with self.assertRaises(OSError) as caught:
            self.load(body, profile)
        self.assertEqual(caught.exception.errno, code)
        self.assertIn(words, self.m.status(f"ca/{profile}")["last-error"])

    def revocation(self, name="www"):
        return self.m.status(f"local/{name}")["revocation"]

    def known(self, words, name="www"):
        """`status` says so, as soon as the store has looked at it again."""
        self.assertTrue(until(lambda: words in self.revocation(name)),
                        self.m.read(f"local/{name}/status"))

    def events(self, kind):
        lines = [json.loads(line) for line in self.m.read("events").splitlines()]
        return [line for line in lines if line["event"] == kind]

    def number(self, profile="corp"):
        return self.m.status(f"ca/{profile}").get("crl-number")

    def fetched(self, number, profile="corp"):
        self.assertTrue(until(lambda: self.number(profile) == str(number)),
                        self.m.read(f"ca/{profile}/status"))


class Attacks(Crls):
    def test_attack_34_a_crl_of_somebody_else(self):
        self.load(self.ca.crl(number=5))
        evil = Authority(self.folder, "Corp CA")  # the same name
        weak = Authority(self.folder, "Corp CA", key=self.ca.key, usage="keyCertSign")
        good = self.ca.crl(number=6)
        self.refused(evil.crl(number=6), "its signature is wrong")
        self.refused(good[:-1] + bytes([good[-1] ^ 1]), "its signature is wrong")
        self.refused(pem(evil.crl(number=6)).encode() + evil.certificate.encode(),
                     "its signature is wrong")
        self.profile("weak", weak)
        self.refused(self.ca.crl(number=6), "lacks cRLSign", profile="weak")
        self.assertEqual(self.number(), "5")
        server = Server(self)
        server.pages = {"/evil": evil.crl(number=7), "/good": self.ca.crl(number=8)}
        self.m.write("ca/corp/config", f"crl-url = {server.url}/evil\n")
        self.assertTrue(until(lambda: self.events("crl-failed")))
        self.assertIn("its signature is wrong", self.m.status("ca/corp")["crl-fetch-error"])
        self.assertEqual(self.number(), "5")
        self.m.write("ca/corp/config",
                     f"crl-url = {server.url}/evil\ncrl-url = {server.url}/good\n")
        self.fetched(8)

    def test_attack_35_an_older_crl_comes_back(self):
        self.load(self.ca.crl(number=300))
        self.refused(self.ca.crl(number=99), "the CRL has number 99, the one in force 300")
        self.refused(self.ca.crl(number=301, since=-7200), "the CRL is older than the one in force")
        delta = self.ca.crl(number=310, base=300)
        self.load(delta)
        self.refused(self.ca.crl(number=309, base=300), "number 309")
        server = Server(self)
        server.pages["/crl"] = self.ca.crl(number=299)
        self.m.write("ca/corp/config", f"crl-url = {server.url}/crl\n")
        self.assertTrue(until(lambda: self.events("crl-refused")))
        self.assertIn("number 299", self.events("crl-refused")[-1]["reason"])
        self.assertEqual(self.number(), "300")

    def test_attack_36_an_expired_crl_makes_nobody_good(self):
        serial = self.id()
        self.refused(self.ca.crl(number=1, since=900), "from the future")
        self.load(self.ca.crl(number=1, since=-7200, until=-60))
        self.known("unknown")
        number = 2 ** 158  # of 20 bytes
        self.load(self.ca.crl(entry(serial, time.time()), number=number, since=-3600, until=-60))
        self.known(f"revoked (CRL {number}, ")
        self.assertEqual(self.number(), str(number))
        self.m.write("ca/corp/config", "crl-on-download-failure = accept\n")
        self.known("revoked")

    def test_attack_37_no_part_is_taken_for_the_whole(self):
        serial = self.id()
        self.refused(self.ca.crl(base=1), "a delta CRL without a number")
        self.load(self.ca.crl(number=7, base=6))  # without its base
        self.known("unknown")
        for i, scope in enumerate((CAS, SOME)):
            self.load(self.ca.crl(number=10 + i, scope=scope))
            self.known("unknown")
        self.assertFalse((self.m.point / "ca/corp/crl.pem").exists())
        self.load(self.ca.crl(number=20))
        self.known("good")
        self.load(self.ca.crl(entry(serial, time.time(), 1), number=21, scope=SOME))
        self.known("revoked")

    def test_attack_38_names_of_every_kind_in_distribution_points(self):
        x400 = der(0xa3, der(0x30, der(0x30)))
        edi = der(0xa5, der(0xa1, der(0x0c, b"party")))
        points = der(0x30, *[der(0x30, der(0xa0, der(0xa0, name))) for name in
                             (x400, edi, der(0x86, b"http://\0/"), der(0x86, b"file:///etc/passwd"))],
                     der(0x30, der(0xa0, der(0xa1, der(0x30, der(6, b"\x55\4\3"),
                                                              der(12, b"x"))))))
        self.id(more=[f"2.5.29.31=DER:{points.hex()}"])
        self.load(self.ca.crl(number=1, scope=der(0xa0, der(0xa0, x400, edi))))
        self.load(self.ca.crl(number=2, more=extension("freshest", points)))
        self.known("good")
        self.assertNotIn("crl-next-fetch", self.m.status("ca/corp"))

    def test_attack_39_as_many_entries_as_there_may_be(self):
        size, count = (256 << 20, 7_600_000) if SHARE >= 100 else (40 << 20, 1_150_000)
        serial = self.id()
        body = self.ca.crl(entry(serial, time.time()), raw=many(count), number=1)
        self.assertLess(len(body), size)
        worst, done = 0, threading.Event()

        def read():
            nonlocal worst
            while not done.is_set():
                begun = time.monotonic()
                self.m.read("local/www/config")
                worst = max(worst, time.monotonic() - begun)
                time.sleep(0.002)
        reader = threading.Thread(target=read)
        reader.start()
        try:
            self.load(body)
        finally:
            done.set()
            reader.join()
        self.known("revoked")
        self.assertEqual(self.m.status("ca/corp")["crl-entries"], str(count + 1))
        self.assertLess(worst, 1)  # the bench measures
        with self.assertRaises(OSError) as caught, \
                open(self.m.point / "ca/corp/crl.pem", "r+b") as file:
            file.seek(256 << 20)
            file.write(b"x")
        self.assertEqual(caught.exception.errno, errno.EFBIG)

    def test_attack_42_only_validated_certificates_say_where(self):
        server = Server(self)
        point = [f"crlDistributionPoints=URI:{server.url}/crl"]
        stranger = Authority(self.folder, "Stranger", more=point)
        with self.assertRaises(OSError):
            self.id("evil", ca=stranger, chain=stranger.certificate, more=point)
        os.mkdir(self.m.point / "local/free")
        key = self.folder / "free.key"
        Authority.made("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                       "ec_paramgen_curve:P-256", "-out", key)
        self.m.write("local/free/key.pem", key.read_text())
        self.m.write("local/free/cert.pem", stranger.issue("free", key=key, more=point))
        self.assertEqual(self.m.status("local/free")["trust"], "none")
        time.sleep(1.5)
        self.assertEqual(server.asked, [])
        server.pages["/crl"] = self.ca.crl(number=1)
        with open(self.m.point / "ca/corp/verify", "r+") as file:
            file.write(stranger.issue("peer", more=point) + stranger.certificate)
            file.flush()
            file.seek(0)
            self.assertIn("failed", file.read())
        self.m.write("ca/corp/config", "# another look\n")
        self.id("www")
        time.sleep(1.5)
        self.assertEqual(server.asked, [])
        peer = self.ca.issue("peer", more=point)
        with open(self.m.point / "ca/corp/verify", "r+") as file:
            file.write(peer)
            file.flush()
            file.seek(0)
            self.assertIn("failed", file.read())  # not known yet
        self.fetched(1)

    def test_attack_43_the_crl_of_its_own_server(self):
        key = self.folder / "https.key"
        Authority.made("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                       "ec_paramgen_curve:P-256", "-out", key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        names = ["subjectAltName=IP:127.0.0.1", "crlDistributionPoints=URI:https://127.0.0.1/crl"]
        (self.folder / "https.pem").write_text(Authority.made(
            "openssl", "req", "-x509", "-new", "-key", key, "-CA", self.ca.pem, "-CAkey",
            self.ca.key, "-subj", "/CN=server", "-addext", names[0], "-addext", names[1]))
        context.load_cert_chain(self.folder / "https.pem", key)
        server = Server(self, tls=context)
        server.pages["/crl"] = self.ca.crl(number=3)
        self.m.write("ca/corp/config", f"crl-url = {server.url}/crl\ntls-ca = corp\n")
        self.fetched(3)
        self.assertEqual(server.count("/crl"), 1)


class Set(Crls):
    def test_a_delta_holds_and_frees(self):
        serial = self.id()
        self.load(self.ca.crl(number=10))
        self.known("good")
        self.load(self.ca.crl(entry(serial, time.time(), 6), number=12, base=10))
        self.known("on hold")
        self.assertIn("delta 12", self.m.status("ca/corp")["crl-further"])
        self.assertEqual(self.number(), "10")
        self.load(self.ca.crl(entry(serial, time.time(), 6), number=13, more=FRESH))
        self.known("on hold")
        self.load(self.ca.crl(entry(serial, time.time(), 8), number=14, base=13))
        self.known("good")
        self.load(self.ca.crl(entry(serial, time.time(), 1), number=15))  # newer than the delta
        self.known("revoked")

    def test_those_for_a_part_hold_and_free_as_well(self):
        serial = self.id()
        self.load(self.ca.crl(entry(serial, time.time(), 6), number=10, scope=USERS, more=FRESH))
        self.known("on hold")
        self.load(self.ca.crl(entry(serial, time.time(), 8), number=11, base=10, scope=USERS))
        self.known("good")
        self.load(self.ca.crl(entry(serial, time.time(), 6), number=12, base=10, scope=USERS))
        self.known("on hold")
        self.load(self.ca.crl(number=13, scope=USERS, more=FRESH))  # newer than the delta
        self.known("good")
        self.load(self.ca.crl(entry(serial, time.time(), 8), number=14, scope=SOME))
        self.known("revoked")  # only a delta takes anybody off

    def test_a_delta_that_is_over_frees_nobody(self):
        sub = Authority(self.folder, "Sub CA", issuer=self.ca)
        serials = {"www": self.id(), "sub": self.id("sub", ca=sub, chain=sub.certificate)}
        end = time.time() + 10
        for name, ca in (("www", self.ca), ("sub", sub)):
            held, freed = (entry(serials[name], time.time(), reason) for reason in (6, 8))
            self.load((pem(ca.crl(held, number=13, more=FRESH)) + ca.certificate).encode())
            self.known("on hold", name)
            self.load((pem(ca.crl(freed, number=14, base=13, until=int(end - time.time()))) +
                       ca.certificate).encode())
            self.known("good (CRL 14, ", name)
        time.sleep(max(0, end + 1 - time.time()))
        self.m.write("ca/corp/config", "# looked at again\n")
        for name in serials:
            self.known("on hold", name)

    def test_whoever_is_in_any_crl_of_the_ca_is_revoked(self):
        """Whichever the path is judged by, or OCSP."""
        serial = self.id(more=["crlDistributionPoints=URI:ldap://127.0.0.1:9/own"])
        own = self.ca.crl(number=4, scope=uri_point("ldap://127.0.0.1:9/own"), since=-60)
        for since, end in ((-60, 3600), (-60, -10)):
            self.load(own)
            self.known("good (CRL 4, ")
            self.load(self.ca.crl(entry(serial, time.time()), number=5, since=since, until=end))
            self.known("revoked (CRL 5, ")
            self.assertEqual(self.m.request("ca/corp", "clear-crl"), "ok")
        where = self.folder / "known"
        where.mkdir()
        for name, path in (("ca.pem", self.ca.pem), ("ca.key", self.ca.key)):
            (where / name).symlink_to(path)
        responder = Responder(self, Known(where, f"{serial:040X}"))
        self.m.write("ca/corp/config", "revocation-check = ocsp-then-crl\n"
                                       f"ocsp-url = {responder.url}\n")
        self.known("good (OCSP, ")
        self.load(self.ca.crl(entry(serial, time.time()), number=6,
                              scope=uri_point("ldap://127.0.0.1:9/other")))
        self.known("revoked (CRL 6, ")

    def test_a_crl_of_another_key_takes_nothing_back(self):
        """It may be of those alone that this key has signed."""
        other = Authority(self.folder, "Corp CA", issuer=self.ca, usage="cRLSign")
        serial = self.id()
        key = self.ca.key_id()
        self.load(self.ca.crl(number=10, more=key))
        self.load(self.ca.crl(entry(serial, time.time()), number=12, base=10, more=key))
        self.known("revoked (CRL 12, ")
        self.load(pem(other.crl(number=20, more=other.key_id())).encode() +
                  other.certificate.encode())
        time.sleep(1)
        self.known("revoked (CRL 12, ")
        self.load(self.ca.crl(number=13, more=key))
        self.known("good")

    def test_one_text_brings_several_whole_or_not_at_all(self):
        sub = Authority(self.folder, "Sub CA", issuer=self.ca)
        other = Authority(self.folder, "Other")
        text = "".join([pem(self.ca.crl(number=1)), sub.certificate, pem(sub.crl(number=2)),
                        pem(other.crl(number=3)), pem(self.ca.crl(number=4, base=1))])
        self.load(text.encode())
        lines = [line for line in self.m.read("ca/corp/status").splitlines()
                 if line.startswith("crl-further")]
        self.assertEqual(len(lines), 3)
        self.assertIn("complete 2 of CN=Sub CA", lines[0])
        self.assertIn("its signer is not known yet", lines[1])
        self.assertIn("delta 4", lines[2])
        bad = pem(self.ca.crl(number=5)) + pem(sub.crl(number=1))
        self.refused(bad.encode(), "number 1, the one in force 2")
        self.assertEqual(self.number(), "1")
        self.assertEqual(self.m.request("ca/corp", "clear-crl"), "ok")
        self.assertNotIn("crl-", self.m.read("ca/corp/status").replace("crl-next-fetch", ""))
        files = os.listdir(self.m.folder / "store.db.d")
        self.assertTrue(until(lambda: not any(name.startswith("crl-") for name in
                                              os.listdir(self.m.folder / "store.db.d")), 15), files)

    def test_another_key_of_the_ca_signs(self):
        signer = Authority(self.folder, "Corp CA", issuer=self.ca, usage="cRLSign")
        serial = self.id()
        crl = signer.crl(entry(serial, time.time()), number=5)
        self.refused(crl, "its signature is wrong")
        leaf = self.ca.issue("Corp CA", key=signer.key)  # no keyUsage: made for nothing of the kind
        self.refused(pem(crl).encode() + leaf.encode(), "its signature is wrong")
        self.load(pem(crl).encode() + signer.certificate.encode())
        self.known("revoked")

    def test_it_survives_a_restart(self):
        serial = self.id()
        self.load(self.ca.crl(number=1))
        self.load(self.ca.crl(entry(serial, time.time()), number=2, scope=USERS))
        self.m.stop()
        self.m.start()
        self.known("revoked")

    def test_a_delta_that_cannot_be_read_frees_nobody(self):
        serial = self.id()
        self.load(self.ca.crl(number=10))
        self.load(self.ca.crl(entry(serial, time.time()), number=12, base=10))
        self.known("revoked")
        self.assertTrue(until(lambda: self.events("revoked")))
        for name in ("gone", "damaged"):
            self.m.stop()
            index = max((self.m.folder / "store.db.d").glob("crl-*.idx"),
                        key=lambda path: path.stat().st_size)
            body = index.read_bytes()
            if name == "gone":
                index.unlink()
            else:
                index.write_bytes(b"x" * 32 + body[32:])
            self.m.start()
            asked = self.m.point / "local/www/cert.pem"
            with open(self.m.point / "ca/corp/verify", "r+b", buffering=0) as file:
                file.write(asked.read_bytes())
                answer = file.read()
            self.assertIn(b"failed", answer, name)
            self.m.write("ca/corp/config", f"# {name}: looked at again\n")
            time.sleep(0.5)
            self.assertEqual(self.m.status("local/www")["state"], "revoked", name)
            self.assertEqual(self.events("unrevoked"), [], name)
            self.m.stop()
            index.write_bytes(body)
            self.m.start()
            self.known("revoked")

    def test_what_an_older_version_kept_is_read_again(self):
        serial = self.id()
        self.load(self.ca.crl(entry(serial, time.time()), number=4))
        self.known("revoked")
        self.m.stop()
        store = self.m.folder / "store.db"
        storefile.sql(store, "UPDATE crl SET slot='', stub=x'', digest=x'', issuer=0, kind=0, kept=0")
        for index in store.with_name("store.db.d").glob("crl-*.idx"):
            index.write_bytes(bytes(32))
        self.m.start()
        self.assertTrue(until(lambda: len(self.events("crl")) == 2))
        self.assertEqual(self.number(), "4")
        self.known("revoked")


class Fetching(Crls):
    def test_a_certificate_says_where_its_crl_is(self):
        server = Server(self)
        fresh = extension("freshest", der(0x30, der(0x30, uri_point(f"{server.url}/delta"))))
        serial = self.id(more=[f"crlDistributionPoints=URI:{server.url}/crl"])
        self.assertTrue(until(lambda: server.count("/crl") == 1))
        server.pages = {"/crl": self.ca.crl(number=10, more=fresh),
                        "/delta": self.ca.crl(entry(serial, time.time()), number=11, base=10)}
        self.assertEqual(self.m.request("ca/corp", "refresh-crl"), "ok")
        self.fetched(10)
        self.assertTrue(until(lambda: "revoked" in self.revocation()))
        self.assertIn(f"{server.url}/crl", self.m.status("ca/corp")["crl-source"])
        self.assertNotIn("crl-fetch-error", self.m.status("ca/corp"))

    def test_who_waited_for_a_crl_finds_what_came_of_it(self):
        server = Server(self)
        serial = self.id()
        self.m.write("ca/corp/config", f"crl-url = {server.url}/crl\n")
        for number in range(1, 21):  # revoked, and good again
            entries = [entry(serial, time.time())] if number % 2 else []
            server.pages["/crl"] = self.ca.crl(*entries, number=number)
            self.assertEqual(self.m.request("ca/corp", "refresh-crl"), "ok")
            self.assertEqual(len(self.events("revoked") + self.events("unrevoked")), number)

    def test_a_mended_url_is_tried_at_once(self):
        server = Server(self)
        server.pages["/crl"] = self.ca.crl(number=1)
        config = "crl-url = {}/crl\n"
        self.m.write("ca/corp/config", config.format("http://127.0.0.1:9"))
        self.m.write("ca/corp/request", "refresh-crl\n")
        self.assertTrue(until(lambda: self.m.status("ca/corp")["request"] == "waiting"))
        with self.assertRaises(OSError):
            self.m.write("ca/corp/request", "refresh-crl\n")
        shown = run(BIN / "pkictl", "-m", self.m.point, "show", "corp").stdout
        self.assertIn("Wrong: what was written last was refused: refresh-crl is waiting", shown)
        self.m.write("ca/corp/config", config.format(server.url))
        self.assertEqual(self.m.wait("ca/corp"), "ok")
        self.fetched(1)

    def test_what_did_not_change_is_not_sent_again(self):
        server = Server(self)
        server.pages["/crl"] = self.ca.crl(number=10, since=-1, until=6)
        config = f"crl-url = {server.url}/crl\ncrl-refresh-interval = 0\n"
        self.m.write("ca/corp/config", config)
        self.fetched(10)
        self.m.write("ca/corp/config", config + "# once more\n")
        self.assertTrue(until(lambda: server.count("/crl") == 2))
        self.assertIn("If-None-Match", server.asked[1][1])
        server.pages["/crl"] = self.ca.crl(number=11, since=0)
        self.fetched(11)  # before the old one ends
        self.assertLess(self.m.status("ca/corp")["crl-next-fetch"],
                        self.m.status("ca/corp")["crl-next-update"])
        self.assertEqual(self.m.request("ca/corp", "clear-crl"), "ok")
        self.m.write("ca/corp/config", config + "# and again\n")
        self.fetched(11)  # what is gone is asked for as a whole

    def test_what_cannot_be_read_is_sent_again(self):
        server = Server(self)
        server.pages["/crl"] = self.ca.crl(number=10)
        self.m.write("ca/corp/config", f"crl-url = {server.url}/crl\n")
        self.fetched(10)
        self.id()
        self.known("good")
        self.m.stop()
        for index in (self.m.folder / "store.db.d").glob("crl-*.idx"):
            index.unlink()
        self.m.start()
        self.m.write("ca/corp/config", f"crl-url = {server.url}/crl\n# once more\n")
        self.known("good")

    def test_a_silent_server_delays_nobody(self):
        dead, server = Server(self), Server(self)
        dead.pages["/crl"] = None
        other = Authority(self.folder, "Other CA")
        server.pages["/crl"] = other.crl(number=2)
        self.m.write("ca/corp/config", f"crl-url = {dead.url}/crl\n")
        self.assertTrue(until(lambda: dead.count("/crl")))
        self.profile("other", other, f"crl-url = {server.url}/crl\n")
        self.fetched(2, "other")
        self.id()  # published all the same
        self.known("unknown")

    def test_an_intermediates_crl_comes_by_the_leafs_point(self):
        server = Server(self)
        point = [f"crlDistributionPoints=URI:{server.url}/sub"]
        sub = Authority(self.folder, "Sub CA", issuer=self.ca, more=[
            f"crlDistributionPoints=URI:{server.url}/root"])
        server.pages = {"/sub": sub.crl(number=7), "/root": self.ca.crl(number=8)}
        self.id(ca=sub, chain=sub.certificate, more=point)
        self.fetched(8)
        self.assertTrue(until(lambda: "complete 7 of CN=Sub CA" in
                              self.m.read("ca/corp/status")))
        self.assertNotIn("not known yet", self.m.read("ca/corp/status"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
