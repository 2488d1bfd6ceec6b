"""Attacks on EST through the mount: servers with bad manners, and others in their place."""

import base64
import datetime
import os
import pathlib
import unittest

from est import PROFILE, Est, EstServer
from harness import free_port, main, run, until
from scep import assert_valid

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"  # what the system trusts


class Attacked(Est):
    def setUp(self):
        super().setUp()
        self.server = EstServer(self)

    def fails(self, m, path, words, state):
        """What is asked of PATH fails at once for a reason with WORDS; its later tries, if any, are
        not waited for. How its request stands."""
        result = m.request(path, "enroll")
        self.assertTrue(result.startswith("failed: "), f"{path}: {result}")
        self.assertIn(words, result, path)
        status = m.status(path)
        self.assertEqual(status["state"], state, status)
        if status["request"] not in ("failed", "rejected"):
            m.write(f"{path}/request", "cancel\n")
        return status["request"]

    def fetched(self, m, name, answer, words):
        """A new profile is answered with ANSWER: it stays empty, for a reason with WORDS."""
        self.server.answers("cacerts", *answer[:-1], body=answer[-1])
        os.mkdir(m.point / "ca" / name)
        m.write(f"ca/{name}/config", f"enrollment-url = {self.server.url}\n{PROFILE}")
        self.fails(m, f"ca/{name}", words, "empty")
        (self.server.folder / "answer-cacerts").unlink()

    def not_enrolled(self, m, name, words):
        """A new certificate id gets no certificate, for a reason with WORDS."""
        self.est_id(m, name)
        request = self.fails(m, f"local/{name}", words, "key")
        self.assertFalse((m.point / "local" / name / "cert.pem").exists(), name)
        return request


class Bodies(Attacked):
    def test_attack_26_what_is_no_certificate(self):
        good = base64.b64decode(self.bundle(self.server.folder / "ca.pem"))
        many = self.folder / "many"
        many.write_text((self.server.folder / "ca.pem").read_text() * 1000)
        key = (self.server.folder / "ca.key").read_bytes()
        kind = "application/pkcs7-mime"
        cases = {
            "page": ((200, "text/html", b"<html>Please log in</html>"), "an HTML page"),
            "empty": ((200, kind, b""), "no certs-only message"),
            "garbage": ((200, kind, b"\0\1\2" * 100), "is no base64"),
            "half": ((200, kind, base64.b64encode(good)[:-2]), "is no base64"),
            "trailing": ((200, kind, base64.b64encode(good + b"\0")), "no certs-only message"),
            "none": ((200, kind, self.bundle("/dev/null")), "no certificate"),
            "many": ((200, kind, self.bundle(many)),
                     "1000 certificates, more than 100"),
            "key": ((200, "application/pkcs8", key), "is no base64"),
            "huge": ((200, kind, b"MIIB" * (1 << 18) + b"MIIB"), "more than 1048576 bytes"),
        }
        m = self.mount()
        self.tls_profile(m, self.server)
        for name, (answer, words) in cases.items():
            self.fetched(m, name, answer, words)
        self.est_profile(m, self.server)
        for name, (answer, words) in cases.items():
            self.server.answers("simpleenroll", *answer[:-1], body=answer[-1])
            self.not_enrolled(m, name, words)

    def test_attack_31_attributes_without_end_or_sense(self):
        m = self.mount_with(self.server)
        kind = "application/csrattrs"
        for name, body, words in (
                ("huge", b"MIIB" * (1 << 18), "more than 65536 bytes"),
                ("page", b"<html></html>", "an HTML page"),
                ("many", base64.b64encode(b"\x30\x82\x01\x2f" + b"\x06\x01\x2a" * 101),
                 "cannot be read"),
                ("cut", base64.b64encode(b"\x30\x0b\x06\x09\x2a\x86\x48"), "cannot be read"),
                ("number", base64.b64encode(b"\x30\x03\x02\x01\x07"), "cannot be read")):
            self.server.answers("csrattrs", 200, kind, body=body)
            self.not_enrolled(m, name, words)
        self.assertEqual(self.server.asked("simpleenroll"), [])

    def test_attack_10_a_certificate_that_is_not_what_was_asked_for(self):
        m = self.mount_with(self.server)
        for attack, words in (("other-key", "no certificate for the key"),
                              ("other-name", "left out DNS:other-name.example.net"),
                              ("ca-true", "CA:TRUE")):
            self.server.restart("-u", "est:secret", "-a", attack)
            self.assertEqual(self.not_enrolled(m, attack, words), "rejected")

    def test_attack_04_a_root_that_comes_along_is_not_trusted(self):
        m = self.mount_with(self.server)
        other = EstServer(self, "-a", "root")
        self.tls_profile(m, other, "tls-other")
        m.write("ca/corp/config",
                f"enrollment-url = {other.url}\n{PROFILE}tls-ca = tls-other\n")
        self.assertEqual(self.not_enrolled(m, "www", "leads to no trusted CA"), "rejected")
        self.assertEqual(sorted(os.listdir(m.point / "ca")), ["corp", "tls", "tls-other"])

    def test_attack_31_a_new_root_in_cacerts_waits_for_confirm(self):
        m = self.mount_with(self.server)
        before = m.read("ca/corp/cert.pem")
        other = EstServer(self)
        self.server.answers("cacerts", 200, "application/pkcs7-mime",
                            body=self.bundle(other.folder / "ca.pem"))
        self.assertEqual(m.request("ca/corp", "enroll"), "ok")
        self.assertEqual(m.read("ca/corp/cert.pem"), before)
        self.assertEqual(m.read("ca/corp/pending.pem").split(),
                         (other.folder / "ca.pem").read_text().split())
        self.est_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")  # the old one serves
        assert_valid(self, m, "www")


class Times(Attacked):
    def test_attack_13_a_decision_that_never_comes_ends_by_enrollment_retry(self):
        self.server.restart("-u", "est:secret", "-w", 1000)
        m = self.mount_with(self.server, "enrollment-retry = 2\n")
        self.est_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(m.ends("local/www"))
        self.assertEqual(m.wait("local/www"),
                         "failed: the CA has still not decided, after 2 retries")
        self.assertEqual(len(self.server.asked("simpleenroll")), 3)

    def test_attack_27_when_to_come_again_is_bounded(self):
        m = self.mount_with(self.server)
        day = datetime.timedelta(days=1, minutes=1)
        for name, after, least in (("year", "31536000", 86000), ("minus", "-1", 0),
                                   ("past", "Thu, 01 Jan 1970 00:00:01 GMT", 0)):
            self.server.answers("simpleenroll", 202, "text/plain", f"Retry-After: {after}")
            self.est_id(m, name)
            begin = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
            m.write(f"local/{name}/request", "enroll\n")
            self.assertTrue(until(lambda: "next-action-at" in m.status(f"local/{name}")), name)
            due = datetime.datetime.fromisoformat(m.status(f"local/{name}")["next-action-at"])
            self.assertGreaterEqual(due, begin + datetime.timedelta(seconds=least), name)
            self.assertLess(due, datetime.datetime.now(datetime.timezone.utc) + day, name)


class Redirects(Attacked):
    def test_attack_25_redirects_that_are_not_followed(self):
        m = self.mount()
        self.tls_profile(m, self.server)
        for name, target in (("plain", f"http://127.0.0.1:{self.server.port}/"),
                             ("file", "file:///etc/passwd"), ("ldap", "ldap://127.0.0.1/")):
            self.fetched(m, name, (302, "text/plain", f"Location: {target}", b""),
                         f"redirects to {target}, which is not followed")

    def test_attack_25_who_we_are_is_shown_to_one_server_alone(self):
        other = EstServer(self, like=self.server)
        m = self.mount_with(self.server)
        for operation in ("csrattrs", "simpleenroll"):
            target = f"{other.url}/.well-known/est/{operation}"
            self.server.answers(operation, 307, "text/plain", f"Location: {target}")
            self.not_enrolled(m, operation, f"redirects a request to another server, {target}")
            (self.server.folder / f"answer-{operation}").unlink()
        self.assertEqual(other.said("received"), [])


class Servers(Attacked):
    """Who may be asked."""

    def refuses_to_ask(self, m, name, more, words):
        os.mkdir(m.point / "ca" / name)
        m.write(f"ca/{name}/config", f"protocol = est\n{more}")
        self.refused(m, f"ca/{name}/request", "enroll\n", words)
        m.write(f"ca/{name}/cert.pem", (self.server.folder / "ca.pem").read_text())
        self.est_id(m, name, name)
        self.refused(m, f"local/{name}/request", "enroll\n", words)

    def test_attack_30_est_is_not_spoken_without_tls(self):
        m = self.mount()
        self.refuses_to_ask(m, "plain", f"enrollment-url = http://127.0.0.1:{free_port()}/\n",
                            "EST needs https")

    def test_attack_30_an_anchor_that_is_not_there_is_no_anchor(self):
        m = self.mount()
        os.mkdir(m.point / "ca/tls")
        self.refuses_to_ask(m, "corp", f"enrollment-url = {self.server.url}\ntls-ca = tls\n",
                            "profile tls (tls-ca) is not trusted yet")
        self.assertEqual(self.server.said("received"), [])

    def test_attack_30_a_server_with_the_certificate_of_another(self):
        server = EstServer(self, NAME="DNS:other.example")
        m = self.mount()
        self.tls_profile(m, server)
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/config", f"enrollment-url = {server.url}\n{PROFILE}")
        m.write("ca/corp/request", "enroll\n")
        self.assertIn("no alternative certificate subject name matches", m.wait("ca/corp"))
        self.assertEqual(server.said("received"), [])

    @unittest.skipUnless(os.geteuid() == 0, "only root can change what the system trusts")
    def test_attack_30_the_systems_store_does_not_help_where_tls_ca_is_set(self):
        other = EstServer(self)
        bundle = self.folder / "bundle.pem"
        bundle.write_text(self.server.anchor.read_text())
        m = self.mount(start=False)
        m.under = ["unshare", "-m", "sh", "-c", f'mount --bind {bundle} {BUNDLE} && exec "$@"',
                   "sh"]
        point, m.is_mounted = m.point, lambda: m.children("store") and m.children("keys")
        m.start()
        m.point = pathlib.Path(f"/proc/{m.daemon.pid}/root{point}")
        self.assertTrue(until(lambda: (m.point / "README").exists()))
        os.mkdir(m.point / "ca/system")
        m.write("ca/system/config", f"protocol = est\nenrollment-url = {self.server.url}\n")
        self.assertEqual(m.request("ca/system", "enroll"), "ok")  # it is the system's
        asked = len(self.server.said("received"))
        self.tls_profile(m, other)
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/config", f"enrollment-url = {self.server.url}\n{PROFILE}")
        m.write("ca/corp/request", "enroll\n")
        self.assertIn("certificate", m.wait("ca/corp"))
        # and where the anchor goes away while a request waits
        self.assertEqual(m.request("ca/tls", "unenroll"), "ok")
        self.assertTrue(m.ends("ca/corp"))
        self.assertIn("the profile that tls-ca names has no CA certificate",
                      m.status("ca/corp")["last-error"])
        self.assertEqual(len(self.server.said("received")), asked)

    def test_attack_30b_each_certificate_id_shows_its_own_identity(self):
        m = self.mount("workers=1")
        self.est_profile(m, self.server)
        names = ("one", "two", "three")
        for name in names:
            self.est_id(m, name)
            self.assertEqual(m.request(f"local/{name}", "enroll"), "ok")
        for name in names:
            self.assertEqual(m.request(f"local/{name}", "re-enroll"), "ok")
        self.est_id(m, "none", user=None)
        self.assertIn("HTTP status 401", m.request("local/none", "enroll"))
        self.assertEqual([who for _, who in self.server.asked("simplereenroll")],
                         [f"nobody with /CN={name}.example.net/O=Example" for name in names])
        self.assertEqual(self.server.said("received csrattrs")[-1],
                         "received csrattrs as nobody")

    def test_attack_61_the_password_is_shown_nowhere(self):
        m = self.mount("log-level=debug")
        self.est_profile(m, self.server)
        self.est_id(m, more="est-password = hidden-word\n")
        self.server.restart("-u", "est:hidden-word")
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        pids = [pid for role in ("store", "keys", "enroll") for pid in m.children(role)]
        shown = [m.log.read_bytes()]
        shown += [pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
                  for pid in [m.daemon.pid, *pids] for file in ("cmdline", "environ")]
        shown += [path.read_bytes() for path in m.point.rglob("*")
                  if path.is_file() and path.name not in ("wait", "watch", "confirm", "verify") and
                  os.access(path, os.R_OK) and path.stat().st_mode & 0o400]
        self.assertGreater(len(shown), 20)
        self.assertFalse([text for text in shown if b"hidden-word" in text])


if __name__ == "__main__":
    main()
