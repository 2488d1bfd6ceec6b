"""Certificates by ACME (RFC 8555), from a server that rejects nonces and examines challenges."""

import gzip
import itertools
import json
import socket
import ssl
import threading

from acme import Acme, AcmeTest
from acme_fake import FakeAcme, once, problem, unwrap
from harness import PATIENCE, free_port, main, run, some_of, until


def answers(port):
    """Whether somebody listens at PORT of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def late(server, answer):
    """The certificate is not there at once: the order is asked for it."""
    if answer[2]["status"] == "valid" and server.asked.count("orders") < 3:
        return answer[0], answer[1], {**answer[2], "status": "processing", "certificate": None}
    return answer


def leads_to(url, key):
    """A change that has the CA's KEY be URL."""
    def change(server, answer):
        challenges = answer[2].get("challenges")
        said = challenges[0] if challenges else answer[2]
        said[key] = url.format(port=server.server.server_port) if isinstance(url, str) else url
        return answer
    return change


class Enroll(AcmeTest):
    def test_from_the_request_to_the_certificate(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assert_issued(mount)
        names = run("openssl", "x509", "-in", mount.point / "local/www/cert.pem", "-noout",
                    "-ext", "subjectAltName").stdout
        self.assertIn("DNS:www.example.net", names)
        status = mount.status("ca/corp")
        self.assertTrue(status["acme-key-id"].startswith(ca.url.removesuffix("dir")), status)
        self.assertIn("acme-terms", status)
        self.assertTrue(until(lambda: not answers(ca.http)), "the port is given back")
        self.assertEqual(list((mount.point / "acme-challenge").iterdir()), [])

        # it renews by itself, unless that is not wanted
        self.assertTrue(until(lambda: mount.status("local/www")["next-action"] == "re-enroll"))
        config = mount.read("local/www/config")
        mount.write("local/www/config", config + "auto-re-enrollment = disable\n")
        self.assertTrue(until(lambda: mount.status("local/www")["next-action"] == "expire"))
        mount.write("local/www/config", config)

        # the next one has another key and the same account
        key = mount.read("local/www/public.pem")
        self.assertEqual(mount.request("local/www", "re-enroll"), "ok")
        self.assert_issued(mount, version=2)
        self.assertNotEqual(mount.read("local/www/public.pem"), key)
        self.assertEqual(mount.status("ca/corp")["acme-key-id"], status["acme-key-id"])

    def test_several_names_and_many_at_once(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        for i in range(4):
            self.certificate_id(mount, f"www{i}", more="domain-name = mail.example.net\n"
                                                       "ip-address = 127.0.0.1\n")
        for i in range(4):
            mount.write(f"local/www{i}/request", "enroll\n")
        for i in range(4):
            self.assertEqual(mount.wait(f"local/www{i}"), "ok")
            self.assert_issued(mount, f"www{i}")

    def test_by_tls_alpn_01(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.certificate_id(mount, more="ip-address = 127.0.0.1\ndomain-name = a.example.net\n"
                                        "acme-challenge = tls-alpn-01\n")
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assert_issued(mount)
        self.assertTrue(until(lambda: not answers(ca.tls)), "the port is given back")

    def test_by_tls_alpn_01_with_one_name_many_times_at_once(self):
        """The CA does not say for which of them it asks."""
        ca = Acme(self, NOSLEEP="0", PEBBLE_VA_SLEEPTIME="1")
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        for i in range(3):
            self.certificate_id(mount, f"www{i}", more="domain-name = all.example.net\n"
                                                       "acme-challenge = tls-alpn-01\n")
        for i in range(3):
            mount.write(f"local/www{i}/request", "enroll\n")
        for i in range(3):
            self.assertEqual(mount.wait(f"local/www{i}"), "ok")

    def test_from_a_server_in_chaos(self):
        """It rejects every other nonce, takes its time, and remembers some authorizations."""
        ca = Acme(self, NONCE="50", REUSE="50", NOSLEEP="0", PEBBLE_VA_SLEEPTIME="2")
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        kinds = ("http-01", "tls-alpn-01")
        for i in range(4):
            self.certificate_id(mount, f"www{i}", more="domain-name = all.example.net\n"
                                f"acme-challenge = {kinds[i % 2]}\n")
        for version in (1, 2):
            for i in range(4):
                mount.write(f"local/www{i}/request", "enroll\n" if version == 1 else "re-enroll\n")
            for i in range(4):
                self.assertEqual(mount.wait(f"local/www{i}"), "ok")
                self.assert_issued(mount, f"www{i}", version=version)

    def test_the_chain_that_is_preferred(self):
        ca = Acme(self, ALT="2")
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        for i in range(3):
            root = self.folder / f"root{i}"
            root.write_text(ca.managed(f"roots/{i}"))
            name = run("openssl", "x509", "-in", root, "-noout", "-subject", "-nameopt",
                       "multiline,-esc_msb").stdout.split("= ", 1)[1].strip()
            mount.write("ca/corp/cert.pem", root.read_text())
            self.certificate_id(mount, f"www{i}", more=f"acme-preferred-chain = {name}\n")
            self.assertEqual(mount.request(f"local/www{i}", "enroll"), "ok")
            self.assert_issued(mount, f"www{i}")

        # one that is not offered is no reason to go without
        mount.write("ca/corp/cert.pem", (self.folder / "root0").read_text())
        self.certificate_id(mount, more="acme-preferred-chain = Nobody\n")
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assertIn("no chain to Nobody", self.assert_issued(mount)["note"])

    def test_a_web_server_that_has_the_port_serves_the_folder(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        conf = self.folder / "nginx.conf"
        conf.write_text(f"""
            user root; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.log;
            daemon off; events {{ }}
            http {{ access_log off; server {{ listen 127.0.0.1:{ca.http};
                location /.well-known/acme-challenge/ {{ alias {mount.point}/acme-challenge/; }} }} }}
            """)
        self.background("/usr/sbin/nginx", "-c", conf)
        self.assertTrue(until(lambda: answers(ca.http)))
        self.profile(mount, ca)
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assert_issued(mount)


    def test_it_is_revoked_by_its_account(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        serial = run("openssl", "x509", "-in", mount.point / "local/www/cert.pem", "-noout",
                     "-serial").stdout.strip().split("=")[1].lower().lstrip("0")
        self.assertIn("Valid", ca.managed(f"cert-status-by-serial/{serial}"))
        self.assertEqual(mount.request("local/www", "revoke"), "ok")
        self.assertIn("Revoked", ca.managed(f"cert-status-by-serial/{serial}"))
        self.assertEqual(mount.request("local/www", "revoke"), "ok", "once more")


class Account(AcmeTest):
    def test_it_is_registered_changed_and_deleted(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca, more="acme-contact = one@example.net\n")
        with self.assertRaises(OSError):
            mount.write("ca/corp/request", "account-delete\n")
        self.assertIn("no account", mount.status("ca/corp")["last-error"])
        self.assertEqual(mount.request("ca/corp", "account-register"), "ok")
        account = mount.status("ca/corp")["acme-key-id"]
        self.assertEqual(mount.request("ca/corp", "action = account-register\n"
                                                  "acme-contact = two@example.net"), "ok")
        self.assertEqual(mount.status("ca/corp")["acme-key-id"], account)
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assertEqual(mount.request("ca/corp", "account-delete"), "ok")
        self.assertNotIn("acme-key-id", mount.status("ca/corp"))
        self.assert_issued(mount)
        # the next enrollment makes another
        self.assertEqual(mount.request("local/www", "re-enroll"), "ok")
        self.assertNotEqual(mount.status("ca/corp")["acme-key-id"], account)

    def test_it_gets_another_key(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        with self.assertRaises(OSError):
            mount.write("ca/corp/request", "account-rollover\n")
        self.assertIn("no account", mount.status("ca/corp")["last-error"])
        self.assertEqual(mount.request("ca/corp", "account-register"), "ok")
        account = mount.status("ca/corp")["acme-key-id"]
        for i in range(2):
            self.assertEqual(mount.request("ca/corp", "account-rollover"), "ok")
            self.assertEqual(mount.status("ca/corp")["acme-key-id"], account)
            self.certificate_id(mount, f"www{i}")
            self.assertEqual(mount.request(f"local/www{i}", "enroll"), "ok")

    def test_enrollments_under_way_survive_another_key(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.assertEqual(mount.request("ca/corp", "account-register"), "ok")
        names = [f"www{i}" for i in range(8)]
        for name in names:
            self.certificate_id(mount, name)
        for name in names:
            mount.write(f"local/{name}/request", "enroll\n")
        for _ in range(2):
            self.assertEqual(mount.request("ca/corp", "account-rollover"), "ok")
        for name in names:
            self.assertTrue(until(lambda name=name: mount.status(f"local/{name}")["request"] in
                                  ("done", "failed")))
            self.assert_issued(mount, name)

    def test_its_new_key_is_not_lost_whenever_we_die(self):
        mount = self.mount()
        for i, (role, place) in enumerate(itertools.product(("store", "enroll"),
                                                            ("account", "key"))):
            ca, name = FakeAcme(self), f"ca{i}"
            self.profile(mount, ca, name)
            self.assertEqual(mount.request(f"ca/{name}", "account-register"), "ok")
            keys = [ca.key]
            ca.changes["/" + place] = once(
                lambda _, answer, role=role: mount.kill(role) or answer)
            for _ in range(2):
                self.assertEqual(mount.request(f"ca/{name}", "account-rollover"), "ok")
                keys.append(ca.key)
            said = [payload for place, payload in ca.payloads if place == "key"]
            self.assertEqual([json.loads(unwrap(one["payload"]))["oldKey"] for one in said],
                             keys[:2], "each was told once, and neither was lost")
            self.assertNotEqual(keys[0], keys[1])

    def test_a_ca_that_wants_an_external_account(self):
        ca = Acme(self, EAB="1")
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.assertIn("acme-eab-kid", mount.request("ca/corp", "account-register"))
        secret = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
        self.assertEqual(mount.request("ca/corp", "action = account-register\nacme-eab-kid = kid-1"
                                                  f"\nacme-eab-key = {secret}"), "ok")
        self.assertIn("acme-key-id", mount.status("ca/corp"))
        self.assertNotIn(secret, mount.read("ca/corp/config") + mount.read("ca/corp/request") +
                         mount.read("events") + mount.log.read_text())

    def test_an_account_that_the_ca_has_forgotten_is_made_anew(self):
        ca = FakeAcme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.assertEqual(mount.request("ca/corp", "account-register"), "ok")
        ca.changes["/order"] = once(problem("accountDoesNotExist", status=400))
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assertEqual(ca.asked.count("account"), 2)


class Refused(AcmeTest):
    def test_what_cannot_work_is_said_at_once(self):
        mount = self.mount()
        ca = FakeAcme(self)
        self.profile(mount, ca)
        for name, more, words in (("mail", "email = a@example.net", "acme-contact"),
                                  ("star", "domain-name = *.example.net", "dns-01"),
                                  ("tls", "acme-challenge = tls-alpn-01\ndomain-name = *.a.org",
                                   "dns-01"),
                                  ("key", "key-type = ed25519", "RSA or ECDSA")):
            self.certificate_id(mount, name, more=more + "\n")
            with self.assertRaises(OSError):
                mount.write(f"local/{name}/request", "enroll\n")
            self.assertIn(words, mount.status(f"local/{name}")["last-error"])
        self.certificate_id(mount)
        with self.assertRaises(OSError):
            mount.write("ca/corp/request", "enroll\n")
        mount.write("ca/corp/config", f"protocol = acme\nenrollment-url = http{ca.url[5:]}\n")
        for path, request in (("ca/corp", "account-register\n"), ("local/www", "enroll\n")):
            with self.assertRaises(OSError):
                mount.write(f"{path}/request", request)
            self.assertIn("https", mount.status(path)["last-error"])
        self.assertEqual(ca.asked, [])

    def test_a_taken_port_is_told_with_its_holder(self):
        for kind, outside in (("http-01", 80), ("tls-alpn-01", 443)):
            ca = FakeAcme(self)
            ca.kind = kind
            mount = self.acme_mount(ca)
            with socket.socket() as holder:
                holder.bind(("127.0.0.1", ca.http if outside == 80 else ca.tls))
                holder.listen()
                ca.examine = lambda number, ca=ca: ca.orders[number].update(status="invalid")
                reason = self.waits(mount, ca, f"acme-challenge = {kind}\n")
            self.assertIn(f"port {outside} of www.example.net was not reached", reason)
            self.assertRegex(reason, r"taken by python3[.0-9]* \(process \d+\)")
            self.assertEqual("acme-challenge/" in reason, kind == "http-01")
            mount.stop()

    def test_a_refusal_is_told_with_its_parts(self):
        names = [{"type": "urn:ietf:params:acme:error:caa", "detail": "not us",
                  "identifier": {"type": "dns", "value": "www.example.net"}}]
        ca = FakeAcme(self, order=problem("rejectedIdentifier", "no \x1b[2J", subproblems=names))
        mount = self.acme_mount(ca)
        reason = self.fails(mount, ca)
        self.assertIn("it issues nothing for this name: no ?[2J; www.example.net: ", reason)
        self.assertIn("CAA records forbid it: not us", reason)

    def test_attack_24_a_nonce_that_is_never_good(self):
        ca = FakeAcme(self, order=problem("badNonce", status=400))
        mount = self.acme_mount(ca)
        self.assertIn("nonce", self.waits(mount, ca))
        self.assertLessEqual(ca.asked.count("order"), 5)

    def test_attack_28_new_terms_are_told_with_their_place(self):
        ca = FakeAcme(self, order=problem("userActionRequired", "terms changed",
                                          instance="https://ca.example/terms-2"))
        mount = self.acme_mount(ca)
        self.assertIn("https://ca.example/terms-2: terms changed", self.fails(mount, ca))

    def test_attack_23_a_token_that_is_a_path(self):
        for i, token in enumerate(("../../local/www/key.pem", "a/b", "x" * 10000, "a b", "")):
            def with_token(_server, answer, token=token):
                answer[2]["challenges"][0]["token"] = token
                return answer

            ca = FakeAcme(self, authz=with_token)
            mount = self.acme_mount(ca)
            self.assertIn("token", self.fails(mount, ca))
            self.assertNotIn("challenge", ca.asked)
            self.assertEqual(list((mount.point / "acme-challenge").iterdir()), [], i)
            mount.stop()

    def test_attack_25_urls_that_lead_elsewhere(self):
        elsewhere = ("http://127.0.0.1:{port}/x", "file:///etc/passwd", "https://169.254.169.254/x",
                     "https://user:word@127.0.0.1:{port}/x", "https://[fe80::1]/x", 7)
        places = {"dir": "newOrder", "orders": "finalize", "authz": "url", "finalize": "certificate"}
        for i, url in enumerate(elsewhere):
            place, key = list(places.items())[i % len(places)]
            ca = FakeAcme(self, **{place: leads_to(url, key)})
            mount = self.acme_mount(ca)
            self.assertIn(key, self.fails(mount, ca))
            mount.stop()

    def test_attack_25_another_server_must_prove_itself_too(self):
        for url in ("https://localhost:{port}/x", "https://127.0.0.1:1/x"):
            ca = FakeAcme(self, finalize=leads_to(url, "certificate"))
            mount = self.acme_mount(ca)
            self.waits(mount, ca)
            self.assertNotIn("x", ca.asked)
            mount.stop()

    def test_attack_26_certificates_that_are_none(self):
        size = (("Content-Length", "100000000"),)
        bodies = {"more than 50": lambda pem, _: pem * 1000,
                  "private key": lambda pem, key: pem + key,
                  "sends more than 1048576 bytes": lambda pem, _: self.without_end(pem),
                  "/1 sends more than 1048576 bytes": lambda pem, _: self.without_end(pem, size)}
        for words, body in bodies.items():
            self.assertIn(words, self.certificate_is(body))

    def test_attack_29_answers_without_end(self):
        bomb = gzip.compress(b"\n" * 100_000_000)

        def headers(handler):
            for i in range(100_000):
                handler.send_header(f"X-{i}", "x" * 1000)
                handler.flush_headers()

        bodies = {"bytes of headers": lambda *_: headers,
                  "no certificate in it": lambda *_: bomb}
        for words, body in bodies.items():
            self.assertIn(words, self.certificate_is(body, {"Content-Encoding": "gzip"}))

    def without_end(self, pem, headers=()):
        """A body of 100 MB, of which little is taken."""
        sent = []
        self.addCleanup(lambda: self.assertLess(sum(sent), 20_000_000))
        return FakeAcme.without_end(pem.encode() * 100, headers, sent)

    def certificate_is(self, body, headers=None):
        """What is said where the certificate is what BODY makes of it and the root's key."""
        ca = FakeAcme(self)
        key = (ca.folder / "root.key").read_text()
        ca.changes["/certificate"] = lambda _, answer: (
            answer[0], {**answer[1], **(headers or {})}, body(answer[2], key))
        mount = self.acme_mount(ca)
        reason = self.refused_or_waits(mount, ca)
        mount.stop()
        return reason

    def test_attack_27_when_to_come_again(self):
        for after, least, most in (("31536000", 86000, 86400), ("-1", 0, 60),
                                   ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 60), ("120", 60, 120)):
            ca = FakeAcme(self, order=problem("rateLimited", "slowly", status=429,
                                              headers={"Retry-After": after}))
            mount = self.acme_mount(ca)
            self.assertIn("too many requests: slowly", self.waits(mount, ca))
            left = self.next_try(mount)
            self.assertTrue(least - PATIENCE <= left <= most, f"{after}: {left}")
            mount.stop()


class Challenges(AcmeTest):
    def test_attack_22_what_is_asked_of_the_port(self):
        asked, done = threading.Event(), threading.Event()

        def stand_still(_server, answer):
            asked.set()
            done.wait(PATIENCE)
            return answer

        ca = FakeAcme(self, challenge=stand_still)
        self.addCleanup(done.set)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.certificate_id(mount)
        self.assertFalse(answers(ca.http), "nobody listens before a challenge is open")
        mount.write("local/www/request", "enroll\n")
        self.assertTrue(asked.wait(PATIENCE))

        where = "/.well-known/acme-challenge/"
        true = self.ask(ca.http, f"GET {where}token-1 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(true.startswith("HTTP/1.1 200 "), true)
        self.assertEqual(true.split("\r\n\r\n")[1], mount.read("acme-challenge/token-1"))
        for path in (where, where + "token-2", where + "token-1x", where + "token-",
                     where + "../../local/www/key.pem", where + "%2e%2e/token-1",
                     where + "%74oken-1", "/", "/local/www/key.pem", where + "token-1/",
                     "//.well-known/acme-challenge/token-1", where + "token-1?x"):
            said = self.ask(ca.http, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(said.startswith("HTTP/1.1 404 "), f"{path}: {said}")
        for request in ("\0\r\n\r\n", f"GET {where}token-1\0 HTTP/1.1\r\n\r\n", "GET\r\n\r\n",
                        f"GET {where}token-1\r\n\r\n", f"POST {where}token-1 HTTP/1.1\r\n\r\n",
                        "G" * 65536, "GET " + "/" * 65536 + " HTTP/1.1\r\n\r\n"):
            said = self.ask(ca.http, request)
            self.assertTrue(said.startswith("HTTP/1.1 400 "), f"{request[:60]}: {said}")

        # a thousand who never finish keep nobody out
        half = [socket.create_connection(("127.0.0.1", ca.http), PATIENCE) for _ in range(1000)]
        for one in half:
            one.send(b"GET ")
        true = self.ask(ca.http, f"GET {where}token-1 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(true.startswith("HTTP/1.1 200 "), true)
        said = half[-1].recv(100)
        self.assertTrue(said.startswith(b"HTTP/1.1 408 "), said)
        for one in half:
            one.close()

        done.set()
        self.assertEqual(mount.wait("local/www"), "ok")
        self.assertTrue(until(lambda: not answers(ca.http)), "the port is given back")

    def test_tls_alpn_01_answers_who_asks_for_it_alone(self):
        asked, done = threading.Event(), threading.Event()

        def stand_still(server, answer):
            asked.set()
            done.wait(PATIENCE)
            return answer

        ca = FakeAcme(self, challenge=stand_still)
        ca.examines, ca.kind = False, "tls-alpn-01"
        self.addCleanup(done.set)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.certificate_id(mount, more="acme-challenge = tls-alpn-01\n")
        self.assertFalse(answers(ca.tls), "nobody listens before a challenge is open")
        mount.write("local/www/request", "enroll\n")
        self.assertTrue(asked.wait(PATIENCE))

        der = self.handshake(ca.tls, "WWW.example.net", ["h2", "acme-tls/1"])
        said = run("openssl", "x509", "-inform", "DER", "-noout", "-text", "-in", der).stdout
        self.assertRegex(said, r"1.3.6.1.5.5.7.1.31: critical\n")
        self.assertRegex(said, r"Alternative Name: \n +DNS:www.example.net\n")
        for name, protocols in (("www.example.net", None), ("www.example.net", ["h2"]),
                                ("mail.example.net", ["acme-tls/1"]), (None, ["acme-tls/1"]),
                                ("www.example.net.org", ["acme-tls/1"])):
            with self.assertRaises(OSError, msg=f"{name} {protocols}"):
                self.handshake(ca.tls, name, protocols)
        for bytes_sent in ("GET / HTTP/1.1\r\n\r\n", "\0" * 70000):
            self.assertNotIn("HTTP", self.ask(ca.tls, bytes_sent, "latin1"))
        # a hundred who never finish keep nobody out
        half = [socket.create_connection(("127.0.0.1", ca.tls), PATIENCE) for _ in range(100)]
        self.handshake(ca.tls, "www.example.net", ["acme-tls/1"])
        for one in half:
            one.close()

        done.set()
        self.assertEqual(mount.wait("local/www"), "ok")
        self.assertTrue(until(lambda: not answers(ca.tls)), "the port is given back")

    def handshake(self, port, name, protocols):
        """The certificate that PORT shows to who asks for NAME by ALPN PROTOCOLS: a file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols(protocols)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain, \
                context.wrap_socket(plain, server_hostname=name) as tls:
            self.assertEqual(tls.selected_alpn_protocol(), "acme-tls/1")
            self.assertEqual(tls.recv(1), b"")
            file = self.folder / "shown.der"
            file.write_bytes(tls.getpeercert(binary_form=True))
        return file

    def test_a_process_that_dies_at_any_step_goes_on(self):
        """In whichever step the CA has just been asked for something, or is to be asked next."""
        places = ("dir", "nonce", "account", "order", "authz", "challenge", "finalize",
                  "certificate")
        port = free_port()
        mount = self.mount(f"http-01-listen=127.0.0.1:{port}")
        for i, (role, place) in enumerate(some_of(list(itertools.product(
                ("store", "enroll", "keys"), places)), 60)):
            with self.subTest(f"{role} {place}"):
                ca = FakeAcme(self, port=port, orders=late)
                ca.token = f"token-{i}"
                ca.changes["/" + place] = once(
                    lambda _, answer, role=role: mount.kill(role) or answer)
                self.profile(mount, ca, f"ca{i}")
                self.certificate_id(mount, f"www{i}", f"ca{i}")
                self.assertEqual(mount.request(f"local/www{i}", "enroll"), "ok")
                self.assert_issued(mount, f"www{i}", f"ca{i}")
                # what is known of an order before its checkpoint is lost with its worker
                known = place in ("challenge", "finalize", "certificate")
                self.assertLessEqual(ca.asked.count("order"), 1 if known else 2, ca.asked)

    def test_challenges_are_answered_again_before_anything_is_asked(self):
        """The CA may look for them at any moment, and while it is silent."""
        asked, dead, silent = threading.Event(), threading.Event(), threading.Event()

        def dies(_server, answer):
            asked.set()
            dead.wait(PATIENCE)
            return answer

        def stands_still(_server, answer):
            silent.wait(PATIENCE)
            return answer

        ca = FakeAcme(self, challenge=once(dies))
        for event in (dead, silent):
            self.addCleanup(event.set)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.certificate_id(mount)
        mount.write("local/www/request", "enroll\n")
        self.assertTrue(asked.wait(PATIENCE))
        mount.kill_all()
        ca.changes["/dir"] = once(stands_still)
        before = len(ca.asked)
        mount.start()
        self.assertTrue(until(lambda: "dir" in ca.asked[before:]))
        true = self.ask(ca.http, "GET /.well-known/acme-challenge/token-1 HTTP/1.1\r\n\r\n")
        self.assertTrue(true.startswith("HTTP/1.1 200 "), true)
        self.assertEqual(mount.read("acme-challenge/token-1"), true.split("\r\n\r\n")[1])
        self.assertEqual(ca.asked[before:], ["dir"])
        silent.set()
        dead.set()
        self.assertEqual(mount.wait("local/www"), "ok")
        self.assertEqual(ca.asked.count("order"), 1)

    def test_an_order_that_was_cleared_away_is_replaced(self):
        for gone in (lambda _server, _answer: (404, {}, "<html>"),
                     problem("malformed", "no such order", status=404)):
            ca = FakeAcme(self, orders=once(gone))
            mount = self.acme_mount(ca)
            ca.changes["/challenge"] = once(
                lambda _, answer, mount=mount: mount.kill("store") or answer)
            self.profile(mount, ca)
            self.certificate_id(mount)
            self.assertEqual(mount.request("local/www", "enroll"), "ok")
            self.assertEqual(ca.asked.count("order"), 2)
            mount.stop()

    def test_an_order_that_failed_while_nobody_answered_is_replaced(self):
        ca = FakeAcme(self)
        mount = self.acme_mount(ca)
        asked, dead = threading.Event(), threading.Event()

        def dies(server, answer):
            asked.set()
            dead.wait(PATIENCE)
            server.orders["1"]["status"] = "invalid"
            return answer

        self.addCleanup(dead.set)
        ca.changes["/challenge"] = once(dies)
        self.profile(mount, ca)
        self.certificate_id(mount)
        mount.write("local/www/request", "enroll\n")
        self.assertTrue(asked.wait(PATIENCE))
        mount.kill_all()
        dead.set()
        self.assertTrue(until(lambda: ca.orders["1"]["status"] == "invalid"))
        mount.start()
        self.assertEqual(mount.wait("local/www"), "ok")
        self.assert_issued(mount)
        said = [json.loads(line)["event"] for line in mount.read("events").splitlines()]
        self.assertFalse({"failed", "retry"} & set(said), said)

    def test_a_ca_that_takes_its_time_is_asked_when_it_says(self):
        ca = FakeAcme(self)
        held = []

        def processing(_server, answer):
            held.append(answer[2].pop("certificate"))
            return answer[0], {**answer[1], "Retry-After": "1"}, {**answer[2],
                                                                  "status": "processing"}

        ca.changes["/finalize"] = processing
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assert_issued(mount)
        self.assertTrue(held)


if __name__ == "__main__":
    main()
