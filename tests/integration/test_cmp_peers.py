"""CMPv2 with other CAs' ways: what the standard allows, and OpenSSL's own server (`openssl cmp`)."""

import socket
import subprocess

from cmp import CERT_CONF, P10CR, POLL_REQ, Cmp, CmpCa
from harness import main, run, until
from scep import assert_valid


class Ways(Cmp):
    """A CA that issues, whose answers are spelled otherwise."""

    def enrolls(self, *options, key="key-type = ecdsa", renew=True, **environment):
        ca = CmpCa(self, "-P", "ca.pem", *options, **environment)
        m = self.mount()
        self.profile(m, ca, more="enrollment-retry = 1\n")
        self.cmp_id(m, key=key)
        self.assertEqual(m.request("local/www", "enroll"), "ok", (options, environment))
        assert_valid(self, m, "www", version=1)
        if renew:
            self.assertEqual(m.request("local/www", "re-enroll"), "ok", (options, environment))
            assert_valid(self, m, "www", version=2)
        return ca, m

    def test_headers(self):
        """No names, no fields but what must be there, and more than is of use; protected by MAC."""
        for odd in ("nobody", "bare", "chatty", "sha1"):
            ca, _ = self.enrolls("-O", odd, renew=False)
            self.assertEqual(len(ca.got(CERT_CONF)), 1, odd)

    def test_the_number_of_a_pkcs_10_request(self):
        for odd in ("id-zero", "id-minus"):
            ca, _ = self.enrolls("-I", "-C", "ca.pem", "-O", odd, renew=False,
                                 key="key-type = ed25519")
            self.assertEqual(len(ca.got(P10CR)), 1, odd)

    def test_a_signed_answer_to_who_is_known_by_a_secret(self):
        """It is as good as one by MAC where the CA certificate is loaded; else that is told."""
        ca = CmpCa(self, "-O", "signs", "-E", "server.pem")
        m = self.mount()
        self.profile(m, ca, more="enrollment-retry = 1\n")
        self.cmp_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(m.ends("local/www"))
        self.assertIn("unproven answer: it is signed, and the profile has no CA certificate to prove "
                      "that: load it", m.status("local/www")["last-error"])
        m.write("ca/corp/cert.pem", (ca.folder / "ca.pem").read_text())
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www", version=1)

    def test_transport(self):
        for odd in ("chunked", "untyped", "charset"):
            self.enrolls("-O", odd)

    def test_polls_and_implicit_confirmation(self):
        ca, _ = self.enrolls("-I", "-w", 2)
        self.assertEqual((len(ca.got(POLL_REQ)), len(ca.got(CERT_CONF))), (4, 0))

    def test_keys_of_the_ca(self):
        """What it signs with decides the hash in certConf."""
        for key in ("rsa:2048", "rsa:4096", "ec:P-384", "ec:P-521"):
            self.enrolls(CA=key)
        self.enrolls(CA="ed25519", renew=False)

    def test_a_chain_that_comes_in_any_order(self):
        ca = CmpCa(self, start=False, CHAIN="three")
        ca.folder.mkdir()
        ca.start()
        (ca.folder / "turned.pem").write_text("".join((ca.folder / f"{name}.pem").read_text()
                                                      for name in ("root", "ca", "middle")))
        ca.stop()
        for option in ("-P", "-E"):
            ca.restart(option, "turned.pem", "-P", "root.pem") if option == "-E" else \
                ca.restart(option, "turned.pem")
            m = self.mount()
            self.profile(m, ca)
            self.cmp_id(m)
            self.assertEqual(m.request("local/www", "enroll"), "ok", option)
            self.assertEqual(m.read("local/www/chain.pem").count("BEGIN"), 3)

    def test_a_refusal_with_a_status_of_http(self):
        for status in (400, 403, 500):
            ca = CmpCa(self, "-R", 19, "-T", "no such name", "-H", status)
            m = self.mount()
            self.profile(m, ca)
            self.cmp_id(m)
            self.assertIn("the CA refuses the request: badCertTemplate",
                          m.request("local/www", "enroll"), status)

    def test_whom_we_address(self):
        """ca-dn, else the CA certificate's subject, else ca-identity."""
        for more, load, name in (("", False, "nobody"), ("ca-identity = Lab CA\n", False, "CN = Lab CA"),
                                 ("ca-identity = CN=Lab,O=PKI\n", False, "CN = Lab, O = PKI"),
                                 ("ca-identity = Lab CA\n", True, "O = Lab, CN = Lab CMP CA"),
                                 ("ca-dn = CN=RA,O=PKI\nca-identity = Lab\n", True, "CN = RA, O = PKI")):
            ca = CmpCa(self, "-P", "ca.pem")
            m = self.mount()
            self.profile(m, ca, more=more)
            if load:
                m.write("ca/corp/cert.pem", (ca.folder / "ca.pem").read_text())
            self.cmp_id(m)
            self.assertEqual(m.request("local/www", "enroll"), "ok", more)
            self.assertEqual(ca.said("addressed to ")[0], f"addressed to {name}")

    def test_an_ra_whose_certificate_does_not_say_so(self):
        """Its name in ca-dn authorises it; ca-identity does not."""
        ca, m = self.enrolls(renew=False)
        issued = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                     "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key", "-out",
                     "server.pem", "-subj", "/O=Lab/CN=Lab RA", "-days", "9", "-CA", "ca.pem",
                     "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE", "-addext",
                     "keyUsage=critical,digitalSignature", cwd=ca.folder)
        self.assertEqual(issued.returncode, 0, issued.stderr)
        ca.restart("-P", "ca.pem")
        config = m.read("ca/corp/config")
        for more in ("", "ca-identity = O=Lab,CN=Lab RA\n"):
            m.write("ca/corp/config", config + more)
            m.write("local/www/request", "re-enroll\n")
            self.assertTrue(m.ends("local/www"))
            self.assertIn("unproven answer: who signed it does not speak for the CA",
                          m.status("local/www")["last-error"])
        m.write("ca/corp/config", config + "ca-dn = O=Lab,CN=Lab RA\n")
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        assert_valid(self, m, "www", version=2)


class Mock(Cmp):
    """`openssl cmp -port`: it gives one certificate that was made before, and knows one transaction
    and one connection at a time; what it says is OpenSSL's."""

    BY_SECRET = ("-srv_ref", "4711", "-srv_secret", "pass:secret")
    BY_KEY = ("-srv_cert", "server.pem", "-srv_key", "server.key")

    def setUp(self):
        super().setUp()
        self.ca = CmpCa(self)  # its files alone are of use
        self.ca.stop()
        (self.ca.folder / "names").write_text("subjectAltName=DNS:www.example.net\n")
        self.m = self.mount()
        self.profile(self.m, self.ca)
        self.cmp_id(self.m)
        self.assertEqual(self.m.request("local/www", "generate-key-pair"), "ok")
        (self.ca.folder / "www.pub").write_text(self.m.read("local/www/public.pem"))
        done = run("openssl", "x509", "-new", "-force_pubkey", "www.pub", "-subj",
                   "/CN=www.example.net/O=Example", "-CA", "ca.pem", "-CAkey", "ca.key", "-days",
                   "9", "-extfile", "names", "-out", "www.pem", cwd=self.ca.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.process = None
        self.addCleanup(self.stop)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def serve(self, *options):
        """It gives the certificate for the key that is there."""
        self.stop()
        with open(self.ca.folder / "mock.log", "a") as log:
            self.process = subprocess.Popen(
                ["openssl", "cmp", "-config", "", "-port", str(self.ca.port), "-srv_trusted",
                 "ca.pem", "-rsp_cert", "www.pem", "-rsp_capubs", "ca.pem", *map(str, options)],
                cwd=self.ca.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.assertTrue(until(self.listens))

    def listens(self):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.ca.port)) == 0

    def assert_issued(self):
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        assert_valid(self, self.m, "www")

    def test_confirmed_implicitly_and_after_polls(self):
        """A MAC with SHA-1, which is OpenSSL's way."""
        for options in ((), ("-grant_implicitconf",), ("-poll_count", 2, "-check_after", 1)):
            self.serve(*self.BY_SECRET, *options)
            self.assert_issued()
            self.m.request("ca/corp", "unenroll")
            self.m.request("local/www", "clear-certificate")

    def test_errors(self):
        self.assertEqual(self.m.status("local/www")["state"], "key")
        for options, words in (
                (("-send_error",), "the CA refuses the request: badRequest"),
                (("-pkistatus", 2, "-failure", 9, "-statusstring", "not you"),
                 "the CA refuses the request: badPOP: the proof of possession failed, not you"),
                (("-send_error", "-send_unprot_err"), "unproven answer: badRequest"),
                (("-send_unprotected",), "unproven answer: ")):
            self.serve(*self.BY_SECRET, *options)
            self.m.write("local/www/request", "enroll\n")
            self.assertTrue(until(lambda: words in self.m.status("local/www")["last-error"]),
                            (words, self.m.status("local/www")["last-error"]))
            if words.startswith("unproven"):
                self.m.write("local/www/request", "cancel\n")
            self.assertEqual(self.m.status("local/www")["state"], "key")
        self.serve(*self.BY_SECRET)
        self.assert_issued()

    def test_what_is_signed(self):
        """General messages, of which it says what it was asked, and a revocation."""
        self.serve(*self.BY_SECRET)
        self.assert_issued()
        self.serve(*self.BY_KEY)
        self.assertIn("names no other CA certificate", self.m.request("ca/corp", "next-ca"))
        self.assertIn("has no CRL", self.m.request("ca/corp", "refresh-crl"))
        self.assertEqual(self.m.request("local/www", "revoke"), "ok")


if __name__ == "__main__":
    main()
