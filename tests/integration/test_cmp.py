"""CMPv2: certificates from a CA that really issues, through the mount."""

import os

from cmp import (CERT_CONF, CR, IR, KUR, P10CR, POLL_REQ, RR, Cmp, CmpCa, certificate, events)
from harness import main, run, shell, until
from scep import assert_valid

DISABLED = "revocation-check = disable\nallow-legacy = yes\n"


class Enrolling(Cmp):
    def test_a_secret_brings_certificate_and_ca(self):
        """No CA certificate is fetched before: the first answer has it."""
        ca = CmpCa(self, "-P", "ca.pem")
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m)
        self.assertEqual(m.status("ca/corp")["state"], "empty")
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www", version=1)
        self.assertEqual((len(ca.got(IR)), len(ca.got(CERT_CONF))), (1, 1))
        self.assertEqual(ca.said("certConf"), ["certConf PKIStatus: accepted"])
        self.assertEqual(m.status("ca/corp")["trusted-by"], "the CMP answer to www")

    def test_the_secret_is_shown_to_nobody(self):
        ca = CmpCa(self, "-P", "ca.pem", "-s", "correct horse battery")
        m = self.mount("log-level=debug")
        self.profile(m, ca)
        self.cmp_id(m, secret="correct horse battery")
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assertIn("ca-secret = ***", m.read("local/www/config"))
        for path in ("events", "status.json", "local/www/status", "local/www/request"):
            self.assertNotIn("horse", m.read(path), path)
        self.assertNotIn("horse", m.log.read_text())

    def test_implicit_confirmation_where_the_ca_grants_it(self):
        ca = CmpCa(self, "-P", "ca.pem", "-I")
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www")
        self.assertEqual(ca.got(CERT_CONF), [])

    def test_a_decision_that_takes_time(self):
        ca = CmpCa(self, "-P", "ca.pem", "-w", 3, "-t", 1)
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www")
        self.assertEqual((len(ca.got(IR)), len(ca.got(POLL_REQ))), (1, 3))

    def test_what_can_not_be_asked_is_said_at_once(self):
        ca = CmpCa(self)
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m)
        m.write("local/www/config", "ca-profile = corp\nsubject = CN=a\n")
        self.refused(m, "local/www/request", "enroll", "ca-reference and ca-secret")
        m.write("local/www/config", "ca-profile = corp\nca-reference = 1\nca-secret = x\n")
        self.refused(m, "local/www/request", "enroll", "subject or a domain-name")


class Storing(Cmp):
    """Which profiles get the CA certificates of an answer."""

    def enroll(self, ca, more="", load=None, expect="ok"):
        m = self.mount()
        self.profile(m, ca, more=more)
        if load:
            m.write("ca/corp/cert.pem", (ca.folder / load).read_text())
        self.cmp_id(m)
        result = m.request("local/www", "enroll")
        self.assertIn(expect, result)
        return m

    def assert_holds(self, mount, profile, file):
        self.assertEqual(certificate(mount.point / "ca" / profile / "cert.pem"),
                         certificate(file), profile)

    def test_ee_only_with_a_ca_that_is_known(self):
        ca = CmpCa(self)
        m = self.enroll(ca, load="ca.pem")
        assert_valid(self, m, "www")
        self.assertEqual(self.profiles(m), ["corp"])
        self.assertEqual(m.status("ca/corp")["trusted-by"], "a written file")

    def test_ee_only_with_a_ca_that_is_not_known(self):
        ca = CmpCa(self)
        m = self.enroll(ca, expect="load it into ca/corp/cert.pem")
        self.assertEqual(m.status("local/www")["request"], "rejected")
        self.assertEqual(m.status("local/www")["state"], "key")
        self.assertEqual(m.status("ca/corp")["state"], "empty")
        self.assertIn("rejection", ca.said("certConf")[0])

    def test_ee_and_self_signed_issuer(self):
        for option in ("-P", "-E"):
            ca = CmpCa(self, option, "ca.pem")
            m = self.enroll(ca)
            assert_valid(self, m, "www")
            self.assertEqual(self.profiles(m), ["corp"])
            self.assert_holds(m, "corp", ca.folder / "ca.pem")

    def chain(self, *options, **serials):
        """A CA of three whose upper certificates have these serial numbers."""
        ca = CmpCa(self, start=False, CHAIN="three")
        ca.folder.mkdir()
        for name, above in (("root", None), ("middle", "root")):
            issuer = ["-CA", f"{above}.pem", "-CAkey", f"{above}.key"] if above else []
            done = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                       "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out",
                       f"{name}.pem", "-subj", f"/O=Lab/CN=Lab CMP {name}", "-days", "99",
                       "-set_serial", f"0x{serials[name]}", "-addext",
                       "keyUsage=critical,keyCertSign,cRLSign", *issuer, cwd=ca.folder)
            self.assertEqual(done.returncode, 0, done.stderr)
        ca.start(*options)
        return ca

    def test_ee_and_chain_of_three(self):
        """The issuer goes to the profile, the others to profiles of their own, named by the last
        16 digits of their serial numbers."""
        for options in (("-P", "chain.pem"), ("-P", "root.pem", "-E", "chain.pem")):
            ca = self.chain(*options, root="11111000100010001000", middle="10001000")
            m = self.enroll(ca, more=DISABLED)
            self.assertEqual(m.status("local/www")["state"], "valid")
            self.assertEqual(self.profiles(m), ["0000000010001000", "1000100010001000", "corp"])
            self.assert_holds(m, "corp", ca.folder / "ca.pem")
            self.assert_holds(m, "0000000010001000", ca.folder / "middle.pem")
            self.assert_holds(m, "1000100010001000", ca.folder / "root.pem")
            for name in ("0000000010001000", "1000100010001000"):
                config = m.read(f"ca/{name}/config")
                self.assertIn("revocation-check = disable\n", config)
                self.assertIn("allow-legacy = yes\n", config)
                self.assertEqual(m.status(f"ca/{name}")["trusted-by"], "the CMP answer to www")
            self.assertIn("issuer = 0000000010001000\n", m.read("ca/corp/config"))
            self.assertIn("issuer = 1000100010001000\n", m.read("ca/0000000010001000/config"))
            self.assertEqual(m.read("local/www/chain.pem").count("BEGIN"), 3)
            # the next one finds all in its place
            self.cmp_id(m, "mail")
            self.assertEqual(m.request("local/mail", "enroll"), "ok")
            self.assertEqual(len(self.profiles(m)), 3)

    def test_a_chain_that_nothing_covers(self):
        """A root in extraCerts is not proven by an intermediate CA that lies there too."""
        ca = CmpCa(self, "-E", "chain.pem", CHAIN="three")
        m = self.enroll(ca, expect="no certificate of its own that is proven")
        self.assertEqual(self.profiles(m), ["corp"])
        self.assertEqual(m.status("ca/corp")["state"], "empty")

    def test_attack_19b_a_cross_certificate_and_its_root(self):
        """The CA's name and key, certified by a root of somebody's making: both lie in extraCerts,
        outside the MAC, and prove nothing."""
        ca = CmpCa(self, start=False)
        ca.folder.mkdir()
        done = shell("""set -e
            newkey="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            usage="-days 9 -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
            openssl req -x509 $newkey -keyout ca.key -out ca.pem -subj "/O=Lab/CN=Lab CMP CA" $usage
            openssl req -x509 $newkey -keyout evil.key -out evil.pem -subj "/CN=Evil root" $usage
            openssl req -x509 -key ca.key -CA evil.pem -CAkey evil.key -out cross.pem \\
                -subj "/O=Lab/CN=Lab CMP CA" $usage
            cat cross.pem evil.pem >evil-all.pem""", cwd=ca.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        ca.start("-E", "evil-all.pem")
        m = self.enroll(ca, expect="no certificate of its own that is proven")
        self.assertEqual(m.status("local/www")["request"], "rejected")
        self.assertEqual(self.profiles(m), ["corp"])
        self.assertEqual(m.status("ca/corp")["state"], "empty")

    def test_a_chain_under_a_root_that_is_known(self):
        """The profile keeps what it has."""
        ca = CmpCa(self, "-E", "chain.pem", CHAIN="three")
        m = self.enroll(ca, load="root.pem")
        self.assertEqual(m.status("local/www")["state"], "valid")
        self.assert_holds(m, "corp", ca.folder / "root.pem")
        self.assertEqual(len(self.profiles(m)), 3)

    def test_a_name_that_is_taken(self):
        ca = self.chain("-P", "chain.pem", root="A1", middle="B2")
        m = self.mount()
        for number in ["", *(f"-{i:02}" for i in range(100))]:
            os.mkdir(m.point / f"ca/00000000000000A1{number}")
        os.mkdir(m.point / "ca/00000000000000B2")
        self.profile(m, ca)
        self.cmp_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assert_holds(m, "00000000000000B2-00", ca.folder / "middle.pem")
        self.assertEqual(len(self.profiles(m)), 104)
        self.assertTrue(any("00000000000000A1-99 are taken" in event.get("reason", "")
                            for event in events(m) if event["event"] == "not-stored"))


class Restarts(Cmp):
    """Whoever dies at whatever step: the transaction goes on, and the CA issues once."""

    def dies(self, kind, who, *options):
        ca = CmpCa(self, "-P", "ca.pem", "-h", kind, *options)
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: ca.said(f"held {kind}")))
        if who == "all":
            m.kill_all()
            ca.release()
            m.start()
        else:
            m.kill(who)
            ca.release()
        self.assertEqual(m.wait("local/www"), "ok", (kind, who))
        assert_valid(self, m, "www", version=1)
        return ca, m

    def test_while_the_request_is_out(self):
        for who in ("enroll", "store", "all"):
            ca, _ = self.dies(IR, who)
            self.assertEqual(len(set(ca.got(IR))), 1, who)

    def test_while_a_poll_is_out(self):
        for who in ("enroll", "store", "all"):
            self.dies(POLL_REQ, who, "-w", 2)

    def test_while_the_confirmation_is_out(self):
        for who in ("enroll", "store", "all"):
            ca, m = self.dies(CERT_CONF, who)
            self.assertEqual(len(ca.said("issued")), 1, who)
            self.assertEqual(len(ca.got(IR)), 1, who)
            self.assertTrue(any(e["event"] == "certificate" for e in events(m)))

    def test_a_transaction_that_the_ca_takes_once(self):
        """It refuses a repetition: that is no refusal of the request."""
        ca = CmpCa(self, "-P", "ca.pem", "-1", "-k", IR)
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(m.ends("local/www"))
        assert_valid(self, m, "www")
        self.assertEqual(len(set(ca.got(IR))), 2)
        self.assertTrue(any("begins anew" in event.get("reason", "") for event in events(m)))


class Renewing(Cmp):
    """With the certificate in force, another one, or the secret again."""

    def enrolled(self, ca, *keys, more=""):
        """A mount with a certificate id per key, named by its type."""
        m = self.mount()
        self.profile(m, ca)
        for key in keys:
            name = "-".join(key.split())
            type, _, size = key.partition(" ")
            self.cmp_id(m, name, key=f"key-type = {type}\n" + (f"key-size = {size}\n" * bool(size)),
                        more=more)
            m.write(f"local/{name}/request", "enroll\n")
            if key == keys[0]:
                m.wait(f"local/{name}")  # an Ed25519 key's answer brings no CA certificate
        for key in keys:
            name = "-".join(key.split())
            self.assertEqual(m.wait(f"local/{name}"), "ok", key)
            assert_valid(self, m, name, version=1)
            self.assertEqual(m.status(f"local/{name}")["key"].split()[0], key.split()[0])
        return m

    def without_secret(self, mount, name):
        text = mount.read(f"local/{name}/config")
        mount.write(f"local/{name}/config",
                    "".join(line for line in text.splitlines(True) if "ca-" not in line[:3]
                            or "profile" in line))

    def test_every_type_of_key(self):
        ca = CmpCa(self, "-P", "ca.pem")
        keys = ("rsa 2048", "ecdsa 384", "dsa 2048", "dsa 3072", "ed25519")
        m = self.enrolled(ca, *keys)
        self.assertEqual((len(ca.got(IR)), len(ca.got(P10CR))), (4, 1))
        for name in ("rsa-2048", "ecdsa-384", "dsa-2048"):
            self.without_secret(m, name)
            before = m.read(f"local/{name}/public.pem")
            self.assertEqual(m.request(f"local/{name}", "re-enroll"), "ok", name)
            assert_valid(self, m, name, version=2)
            self.assertEqual(m.read(f"local/{name}/public.pem"), before)
        self.assertEqual(len(ca.got(KUR)), 3)
        self.assertEqual(m.request("local/ecdsa-384", "action = re-enroll\n"
                                                      "re-generate-keypair = yes\n"), "ok")
        self.assertNotEqual(m.read("local/ecdsa-384/versions/2/key.pem"),
                            m.read("local/ecdsa-384/key.pem"))
        # an Ed25519 key signs no messages: its renewal is known by the secret, or by another id
        self.assertEqual(m.request("local/ed25519", "re-enroll"), "ok")
        self.without_secret(m, "ed25519")
        self.refused(m, "local/ed25519/request", "re-enroll", "signs no CMP messages")
        self.assertEqual(m.request("local/ed25519", "action = re-enroll\n"
                                                    "auth-certificate-id = rsa-2048\n"), "ok")
        assert_valid(self, m, "ed25519", version=3)
        self.assertEqual((len(ca.got(P10CR)), len(ca.got(CR))), (3, 0))

    def test_a_key_that_signs_takes_the_place_of_one_that_does_not(self):
        """The certificate in force can't prove us: the renewal is a request known by the secret."""
        ca = CmpCa(self, "-P", "ca.pem")
        m = self.enrolled(ca, "ecdsa", "ed25519")
        text = m.read("local/ed25519/config").replace("= ed25519", "= ecdsa")
        m.write("local/ed25519/config", text.replace("***", "secret"))
        self.assertEqual(m.request("local/ed25519", "action = re-enroll\n"
                                                    "re-generate-keypair = yes\n"), "ok")
        assert_valid(self, m, "ed25519", version=2)
        self.assertEqual((len(ca.got(CR)), len(ca.got(KUR))), (1, 0))
        self.assertEqual(m.request("local/ed25519", "re-enroll"), "ok")
        assert_valid(self, m, "ed25519", version=3)
        self.assertEqual((len(ca.got(CR)), len(ca.got(KUR))), (1, 1))

    def test_another_certificate_proves_us_the_first_time(self):
        ca = CmpCa(self, "-P", "ca.pem")
        m = self.enrolled(ca, "ecdsa")
        self.cmp_id(m, "mail")
        self.without_secret(m, "mail")
        self.refused(m, "local/mail/request", "enroll", "auth-certificate-id, to be known by")
        self.assertEqual(m.request("local/mail", "action = enroll\n"
                                                 "auth-certificate-id = ecdsa\n"), "ok")
        assert_valid(self, m, "mail", version=1)
        self.assertEqual(len(ca.got(IR)), 2)
        with self.assertRaises(OSError):
            os.rmdir(m.point / "local/ecdsa")

    def test_a_renewal_needs_the_ca_certificate(self):
        ca = CmpCa(self, "-P", "ca.pem")
        m = self.enrolled(ca, "ecdsa")
        m.write("ca/corp/request", "unenroll\n")
        self.refused(m, "local/ecdsa/request", "re-enroll", "profile corp is not trusted yet")

    def test_names_that_the_ca_has_changed(self):
        """Where they are accepted, the renewal asks for them, as an update does (RFC 9483 4.1.3)."""
        ca = CmpCa(self, "-P", "ca.pem", "-a", "other-subject")
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m, more="accept-changed-names = yes\n")
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        ca.restart("-P", "ca.pem")
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        status = m.status("local/www")
        self.assertEqual((status["version"], status["subject"]), ("2", "CN=somebody.else.example"))

    def test_revoke(self):
        ca = CmpCa(self, "-P", "ca.pem")
        m = self.enrolled(ca, "ecdsa")
        text = m.read("ca/corp/config")
        m.write("ca/corp/config", text + f"crl-url = http://127.0.0.1:{ca.port}/crl\n")
        self.assertEqual(m.request("local/ecdsa", "revoke"), "ok")
        self.assertEqual((len(ca.got(RR)), ca.said("revoked")), (1, ["revoked certificate"]))
        self.assertTrue(until(lambda: m.status("local/ecdsa")["state"] == "revoked"))
        self.assertEqual(m.request("local/ecdsa", "revoke"), "ok")  # it is what was wanted


class Refusals(Cmp):
    """Who says no, and whether it is believed."""

    def ask(self, ca, more="", secret="secret"):
        m = self.mount()
        self.profile(m, ca, more=more)
        self.cmp_id(m, secret=secret)
        m.write("local/www/request", "enroll\n")
        return m

    def test_a_refusal_that_is_proven_is_final(self):
        ca = CmpCa(self, "-R", 19, "-T", "no such name here")
        m = self.ask(ca)
        self.assertEqual(m.wait("local/www"),
                         "failed: the CA refuses the request: badCertTemplate: the certificate "
                         "asked for is not valid or complete, no such name here")
        self.assertEqual(m.status("local/www")["request"], "failed")
        self.assertEqual(len(ca.got(IR)), 1)

    def test_a_refusal_of_the_moment_is_tried_again(self):
        ca = CmpCa(self, "-R", 24, "-P", "ca.pem")
        m = self.ask(ca)
        self.assertTrue(until(lambda: "cannot decide now: systemUnavail"
                              in m.status("local/www")["last-error"]))
        ca.restart("-P", "ca.pem")
        self.assertTrue(m.ends("local/www"))
        assert_valid(self, m, "www")

    def test_attack_14_an_unproven_refusal_is_never_final(self):
        """Unprotected, or under another secret: its words are shown, and it is asked again."""
        for attack in ("unprotected", "other-secret"):
            ca = CmpCa(self, "-R", 23, "-T", "go away", "-a", attack)
            m = self.ask(ca)
            self.assertTrue(until(lambda: m.status("local/www")["last-error"]))
            self.assertEqual(m.status("local/www")["last-error"],
                             "unproven answer: notAuthorized: not authorised to ask for this, "
                             "go away")
            self.assertTrue(until(lambda: len(ca.got(IR)) > 1))
            self.assertEqual(m.status("local/www")["request"] in ("waiting", "running"), True)
            ca.restart("-P", "ca.pem")
            self.assertTrue(m.ends("local/www"))
            assert_valid(self, m, "www")

    def test_attack_14_our_secret_is_another_one(self):
        """The CA can prove its refusal only by what it has itself."""
        ca = CmpCa(self, "-P", "ca.pem")
        m = self.ask(ca, more="enrollment-retry = 1\n", secret="wrong")
        self.assertTrue(m.ends("local/www"))
        self.assertIn("unproven answer: badRequest", m.status("local/www")["last-error"])
        self.assertEqual(m.status("ca/corp")["state"], "empty")


if __name__ == "__main__":
    main()
