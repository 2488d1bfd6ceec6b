"""EST through the mount, against the lab's own server."""

import os
import signal

from est import PROFILE, Est, EstServer
from harness import main, run, until
from scep import assert_valid, serial


class Trust(Est):
    """How a profile comes to trust its CA."""

    def setUp(self):
        super().setUp()
        self.server = EstServer(self)
        self.m = self.mount()
        self.tls_profile(self.m, self.server)
        os.mkdir(self.m.point / "ca/corp")
        self.m.write("ca/corp/config", f"enrollment-url = {self.server.url}\n{PROFILE}")

    def test_a_fetched_ca_waits_for_its_fingerprint(self):
        self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")
        self.assertEqual(self.m.status("ca/corp")["state"], "unconfirmed")
        self.assertIn(self.server.fingerprint(), self.m.read("ca/corp/fingerprint"))
        self.assertEqual(self.m.read("ca/corp/pending.pem").split(),
                         (self.server.folder / "ca.pem").read_text().split())
        self.m.write("ca/corp/confirm", self.server.fingerprint() + "\n")
        status = self.m.status("ca/corp")
        self.assertEqual((status["state"], status["trusted-by"]), ("trusted", "confirm"))

    def test_a_known_fingerprint_confirms_by_itself(self):
        fingerprint = self.server.fingerprint()
        self.assertEqual(self.m.request("ca/corp",
                                        f"action = enroll\nca-fingerprint = {fingerprint}"), "ok")
        self.assertEqual(self.m.status("ca/corp")["trusted-by"], "ca-fingerprint")

    def test_an_intermediate_with_its_root(self):
        server = EstServer(self, CHAIN="yes")
        m = self.mount_with(server)
        self.assertEqual(m.read("ca/corp/cert.pem").split(),
                         (server.folder / "ca.pem").read_text().split())
        self.assertEqual(m.read("ca/corp/chain.pem").count("BEGIN"), 2)
        self.est_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assertEqual(m.read("local/www/fullchain.pem").count("BEGIN"), 3)  # with the root
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")

    def test_a_ca_whose_key_rolls_over_shows_its_new_root(self):
        folder, name = self.server.folder, "/O=Lab/CN=Lab EST CA"
        for command in (
                ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", "new.key", "-out", "new.pem", "-subj", name, "-days", "9000"],
                ["x509", "-in", "ca.pem", "-CA", "new.pem", "-CAkey", "new.key", "-out",
                 "old-by-new.pem", "-set_serial", "7"],
                ["x509", "-in", "new.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-out",
                 "new-by-old.pem", "-set_serial", "8"]):
            done = run("openssl", *command, cwd=folder)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")
        self.m.write("ca/corp/confirm", "yes\n")
        self.server.answers("cacerts", 200, "application/pkcs7-mime", body=self.bundle(
            *[folder / file for file in ("ca.pem", "new-by-old.pem", "old-by-new.pem", "new.pem")]))
        self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")
        self.assertEqual(self.m.read("ca/corp/pending.pem").split(),
                         (folder / "new.pem").read_text().split())
        self.assertEqual(self.m.read("ca/corp/cert.pem").split(),
                         (folder / "ca.pem").read_text().split())

    def test_a_typo_in_the_path_is_told_at_once(self):
        self.m.write("ca/corp/config",
                     f"enrollment-url = {self.server.url}/.well-known/ets\n{PROFILE}")
        result = self.m.request("ca/corp", "enroll")
        self.assertIn("HTTP status 404: there is nothing here; is the enrollment-url right?", result)
        self.assertEqual(self.m.status("ca/corp")["request"], "failed")


class Refusals(Est):
    """What cannot work is refused as it is written."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        os.mkdir(self.m.point / "ca/corp")
        self.m.write("ca/corp/config", "protocol = est\nenrollment-url = https://127.0.0.1:9\n")

    def test_a_user_without_a_password(self):
        self.est_id(self.m, user=None, more="est-user = est\n")
        self.refused(self.m, "local/www/request", "enroll\n", "both est-user and est-password")

    def test_a_key_that_est_cannot_carry(self):
        self.est_id(self.m)
        self.refused(self.m, "local/www/request", "action = enroll\nkey-type = dsa\n",
                     "DSA Keypair not supported with EST for cert_id www")

    def test_no_names(self):
        os.mkdir(self.m.point / "local/www")
        self.m.write("local/www/config", "ca-profile = corp\n")
        self.refused(self.m, "local/www/request", "enroll\n", "there is no name to ask for")

    def test_a_certificate_id_without_a_certificate_proves_nothing(self):
        os.mkdir(self.m.point / "local/device")
        self.est_id(self.m, more="auth-certificate-id = device\n")
        self.refused(self.m, "local/www/request", "enroll\n",
                     "certificate id device (auth-certificate-id) has no certificate whose key "
                     "signs for TLS")

    def test_a_certificate_cannot_be_revoked(self):
        self.est_id(self.m)
        self.refused(self.m, "local/www/request", "revoke\n", "EST has no way to revoke")


class Enrollment(Est):
    def enrolls(self, server, url=None, more=""):
        m = self.mount_with(server, url=url)
        self.est_id(m, more=more)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www", version=1)
        return m

    def test_by_basic(self):
        server = EstServer(self)
        m = self.enrolls(server)
        self.assertEqual([who for _, who in server.asked("simpleenroll")], ["user est"])
        self.assertNotIn("secret", m.read("local/www/config") + m.read("local/www/request") +
                         m.log.read_text() + m.read("events"))

    def test_by_digest(self):
        server = EstServer(self, "-D")
        self.enrolls(server)
        self.assertEqual([who for _, who in server.asked("simpleenroll")], ["user est"])

    def test_a_label_and_long_lines(self):
        server = EstServer(self, "-l", "branch", "-e", "none")
        self.enrolls(server, f"{server.url}/.well-known/est/branch")

    def test_lines_that_end_in_lf_and_a_slash_at_the_end(self):
        server = EstServer(self, "-e", "lf")
        self.enrolls(server, f"{server.url}/.well-known/est/")

    def test_each_kind_of_key(self):
        m = self.mount_with(EstServer(self))
        for kind, more in (("rsa", "key-size = 3072"), ("ecdsa", "key-size = 384"), ("ed25519", "")):
            self.est_id(m, kind, more=f"key-type = {kind}\n{more}\n")
            self.assertEqual(m.request(f"local/{kind}", "enroll"), "ok")
            self.assertTrue(assert_valid(self, m, kind)["key"].startswith(kind))

    def test_a_certificate_that_the_server_does_not_know(self):
        for version in ((), ("-2",)):
            server = EstServer(self, "-C", *version, user=None)
            m = self.mount_with(server)
            self.device(m, EstServer(self))
            self.est_id(m, user=None, more="auth-certificate-id = device\n")
            # its word comes after the handshake of TLS 1.3, and may be lost as it hangs up
            self.assertRegex(m.request("local/www", "enroll"),
                             "not take the certificate that it was shown")
            self.assertEqual(server.asked("simpleenroll"), [])

    def test_by_the_certificate_of_another_certificate_id(self):
        for version in ((), ("-2",)):
            server = EstServer(self, "-C", *version, user=None)
            m = self.mount_with(server)
            self.device(m, server)
            self.est_id(m, user=None, more="auth-certificate-id = device\n")
            self.assertEqual(m.request("local/www", "enroll"), "ok")
            self.assertEqual([who for _, who in server.asked("simpleenroll")],
                             ["nobody with /CN=device 7"])
            assert_valid(self, m, "www")
            # its own is in force now: nothing else proves it
            self.assertEqual(m.request("local/www", "re-enroll"), "ok")
            self.assertEqual([who for _, who in server.asked("simplereenroll")],
                             ["nobody with /CN=www.example.net/O=Example"])


class Renewal(Est):
    def setUp(self):
        super().setUp()
        self.server = EstServer(self)

    def test_the_certificate_in_force_proves_us(self):
        for more in ("key-type = rsa\n", "key-type = ecdsa\n"):
            m = self.mount_with(self.server)
            self.est_id(m, more=more)
            self.assertEqual(m.request("local/www", "enroll"), "ok")
            m.write("local/www/config", "\n".join(
                line for line in m.read("local/www/config").splitlines()
                if not line.startswith("est-")) + "\n")
            key, first = m.read("local/www/key.pem"), serial(m.point / "local/www/cert.pem")
            self.assertEqual(m.request("local/www", "re-enroll"), "ok")
            assert_valid(self, m, "www", version=2)
            self.assertEqual(m.read("local/www/key.pem"), key)
            self.assertNotEqual(serial(m.point / "local/www/cert.pem"), first)
            self.assertEqual(m.request("local/www",
                                       "action = re-enroll\nre-generate-keypair = yes"), "ok")
            assert_valid(self, m, "www", version=3)
            self.assertNotEqual(m.read("local/www/key.pem"), key)
            m.stop()
        self.assertEqual([who for _, who in self.server.asked("simplereenroll")],
                         ["nobody with /CN=www.example.net/O=Example"] * 4)

    def test_a_certificate_that_was_loaded_by_hand_is_renewed_with_its_names(self):
        m = self.mount_with(self.server)
        self.est_id(m, "first")
        self.assertEqual(m.request("local/first", "enroll"), "ok")
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "ca-profile = corp\n")
        m.write("local/www/key.pem", m.read("local/first/key.pem"))
        m.write("local/www/cert.pem", m.read("local/first/cert.pem"))
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        status = assert_valid(self, m, "www", version=2)
        self.assertIn("first.example.net", status["subject"])

    def test_an_ed25519_key_renews_by_its_user(self):
        m = self.mount_with(self.server)
        self.est_id(m, more="key-type = ed25519\n")
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        self.assertEqual([who for _, who in self.server.asked("simplereenroll")], ["user est"])
        m.write("local/www/config", "ca-profile = corp\n")
        self.refused(m, "local/www/request", "re-enroll\n",
                     "an Ed25519 key cannot sign for TLS here: set est-user")


class Waiting(Est):
    """The CA takes its time, and what is sent again is the same."""

    def ends_valid(self, m):
        self.assertTrue(until(lambda: m.status("local/www")["state"] == "valid"),
                        m.status("local/www"))
        assert_valid(self, m, "www", version=1)

    def test_the_operator_decides_over_restarts(self):
        server = EstServer(self, "-w", 4)
        m = self.mount_with(server)
        self.est_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("local/www")["request"] == "waiting"))
        status = m.status("local/www")
        self.assertEqual((status["next-action"], status["state"]), ("poll the CA", "key"))
        m.stop()
        m.start()
        m.kill("store")
        self.assertTrue(until(lambda: len(server.asked("simpleenroll")) > 3))
        m.kill("enroll", signal.SIGKILL)
        self.ends_valid(m)
        self.assertEqual(len({digest for digest, _ in server.asked("simpleenroll")}), 1)
        self.assertGreaterEqual(len(server.asked("simpleenroll")), 5)

    def test_a_pending_request_can_be_cancelled(self):
        server = EstServer(self, "-w", 1000, "-t", 3600)
        m = self.mount_with(server)
        self.est_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("local/www")["request"] == "waiting"))
        m.write("local/www/request", "cancel\n")
        self.assertEqual(m.wait("local/www"), "failed: cancelled")

    def test_a_lost_answer_is_asked_for_again_also_by_a_daemon_that_was_killed(self):
        server = EstServer(self, "-k", 2)
        m = self.mount_with(server)
        self.est_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: server.asked("simpleenroll")))
        m.kill_all()
        m.start()
        self.ends_valid(m)
        self.assertGreaterEqual(len(server.asked("simpleenroll")), 3)
        self.assertEqual(len({digest for digest, _ in server.asked("simpleenroll")}), 1)

    def test_a_server_that_is_out_of_order_is_asked_again(self):
        server = EstServer(self)
        m = self.mount_with(server)
        self.est_id(m)
        server.answers("simpleenroll", 503, "text/plain", "Retry-After: 1", body=b"in a moment\n")
        self.assertIn("HTTP status 503: in a moment", m.request("local/www", "enroll"))
        self.assertIn(m.status("local/www")["request"], ("waiting", "running"))
        (server.folder / "answer-simpleenroll").unlink()
        self.ends_valid(m)


class Answers(Est):
    """What the server says no with stands in `status`."""

    def test_who_is_not_let_in_learns_what_to_set(self):
        server = EstServer(self)
        m = self.mount_with(server)
        for name, user, words in (("none", None, "; set est-user and est-password"),
                                  ("wrong", "eve", "; it does not take est-user")):
            self.est_id(m, name, user=user)
            result = m.request(f"local/{name}", "enroll")
            self.assertTrue(result.startswith("failed: the CA refuses the request: "), result)
            self.assertIn("HTTP status 401: who are you?", result)
            self.assertIn(words, result)
            status = m.status(f"local/{name}")
            self.assertEqual((status["request"], status["state"]), ("failed", "key"))
        self.device(m, server)
        self.est_id(m, "shown", user=None, more="auth-certificate-id = device\n")
        self.assertIn("; it wants more than a certificate", m.request("local/shown", "enroll"))
        self.assertEqual(m.request("local/wrong", "action = enroll\nest-user = est\n"
                                                  "est-password = secret"), "ok")

    def test_a_refusal_is_final_in_the_words_of_the_ca(self):
        server = EstServer(self)
        m = self.mount_with(server)
        server.restart("-u", "est:secret", "-R", 403, "-T", "not\nwithout\tan order " + "x" * 9000)
        self.est_id(m)
        result = m.request("local/www", "enroll")
        self.assertIn("HTTP status 403: not without an order xxx", result)
        self.assertIn("; it knows who asks and does not allow it", result)
        self.assertLess(len(result), 500)
        status = m.status("local/www")
        self.assertEqual((status["request"], status["last-error"]),
                         ("failed", result.removeprefix("failed: ")))
        self.assertEqual(len(server.asked("simpleenroll")), 1)

    def test_a_refused_renewal_leaves_the_certificate(self):
        server = EstServer(self)
        m = self.mount_with(server)
        self.est_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        before = m.read("local/www/bundle.pem")
        server.restart("-u", "est:secret", "-R", 400, "-T", "no more")
        self.assertIn("no more", m.request("local/www", "re-enroll"))
        self.assertEqual(m.status("local/www")["state"], "valid")
        self.assertEqual(m.read("local/www/bundle.pem"), before)


class Wishes(Est):
    """csrattrs: what the CA wants in a request."""

    OIDS = {"challengePassword": "06092a864886f70d010907",
            "ecdsa-with-SHA384": "06082a8648ce3d040303",
            "macAddress": "06072b06010101" + "0116",
            "P-384": "301206072a8648ce3d0201310706052b81040022",
            "rsa 4096": "301106092a864886f70d010101310402021000"}

    def wants(self, server, *wishes):
        body = "".join(self.OIDS.get(wish, wish) for wish in wishes)
        (server.folder / "csrattrs").write_bytes(
            bytes.fromhex(f"3082{len(body) // 2:04x}{body}"))

    def setUp(self):
        super().setUp()
        self.server = EstServer(self)
        self.m = self.mount_with(self.server)

    def test_another_kind_of_key(self):
        self.wants(self.server, "P-384", "rsa 4096")
        self.est_id(self.m)
        self.assertEqual(
            self.m.request("local/www", "enroll"),
            "failed: the CA does not want a key of ecdsa 256: set key-type = ecdsa and "
            "key-size = 384, and request generate-key-pair")
        self.assertEqual(self.server.asked("simpleenroll"), [])
        self.assertEqual(self.m.request("local/www",
                                        "action = generate-key-pair\nkey-size = 384"), "ok")
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")

    def test_a_digest_and_what_we_have_nothing_for(self):
        self.wants(self.server, "macAddress", "ecdsa-with-SHA384")
        self.est_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        self.assertTrue(self.server.said("request signed by ecdsa-with-SHA384"))
        self.assertIn("1.3.6.1.1.1.1.22", self.m.status("local/www")["note"])

    def test_extensions(self):
        # extensionRequest of an extended key usage (clientAuth) and a key usage (keyAgreement)
        usage = "300e0603551d0f0101ff040403020308"
        extended = "30130603551d25040c300a06082b06010505070302"
        both = usage + extended
        values = f"30{len(both) // 2:02x}{both}"
        attribute = "06092a864886f70d01090e" + f"31{len(values) // 2:02x}{values}"
        self.wants(self.server, f"30{len(attribute) // 2:02x}{attribute}")
        self.est_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        line = self.server.said("request signed by")[0]
        self.assertIn("subjectAltName = DNS:www.example.net", line)
        self.assertIn("keyUsage = Key Agreement", line)
        self.assertIn("extendedKeyUsage = TLS Web Client Authentication", line)


    def test_a_template_of_the_request(self):
        """RFC 9908 §3.4: a subject, a key on P-384, extensions with and without a value."""
        subject = "3018310730050603550403310d300b060355040a0c0441636d65"
        key = "a012301006072a8648ce3d020106052b81040022"
        extensions = ("a1463044060b2a864886f70d010910023e31353033300e0603551d0f0101ff040403020308"
                      "30050603551d1130130603551d25040c300a06082b0601050507030230050603551d20")
        self.wants(self.server, "rsa 4096",
                   "30818a060b2a864886f70d010910023d317b3079020100" + subject + key + extensions)
        self.est_id(self.m)
        self.assertIn("set key-type = ecdsa and key-size = 384",
                      self.m.request("local/www", "enroll"))
        self.m.request("local/www", "action = generate-key-pair\nkey-size = 384")
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        line = self.server.said("request signed by")[0]
        self.assertIn("subjectAltName = DNS:www.example.net", line)
        self.assertIn("keyUsage = Key Agreement", line)
        self.assertIn("extendedKeyUsage = TLS Web Client Authentication", line)
        self.assertNotIn("Acme", self.m.status("local/www")["subject"])
        self.assertIn("Certificate Policies", self.m.status("local/www")["note"])


class Binding(Est):
    """A request that is tied to its connection."""

    def test_by_tls_12_and_13(self):
        for version in ((), ("-2",), ("-D",)):
            server = EstServer(self, "-b", *version)
            m = self.mount_with(server)
            self.est_id(m)
            self.assertEqual(m.request("local/www", "enroll"), "ok")
            self.assertEqual(m.request("local/www", "re-enroll"), "ok")
            assert_valid(self, m, "www", version=2)

    def test_each_connection_gets_a_request_of_its_own_for_the_same_key(self):
        server = EstServer(self, "-b", "-w", 2)
        m = self.mount_with(server)
        self.est_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("local/www")["request"] == "waiting"))
        public = m.read("local/www/public.pem")
        m.stop()
        m.start()
        self.assertTrue(until(lambda: m.status("local/www")["state"] == "valid"))
        self.assertEqual(len({digest for digest, _ in server.asked("simpleenroll")}), 3)
        self.assertEqual(m.read("local/www/public.pem"), public)


if __name__ == "__main__":
    main()
