"""Keys, requests by hand, and certificates loaded by hand."""

import os

from harness import Test, main, run, shell, until


class ByHand(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.www = self.m.point / "local/www"
        os.mkdir(self.www)
        os.mkdir(self.m.point / "ca/corp")
        self.ca = self.folder / "ca"
        done = run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
                   "/O=Lab/CN=Lab CA", "-days", "30", "-keyout", self.ca.with_suffix(".key"),
                   "-out", self.ca.with_suffix(".pem"), "-addext",
                   "keyUsage=critical,keyCertSign,cRLSign")
        self.assertEqual(done.returncode, 0, done.stderr)

    def load_ca(self):
        (self.m.point / "ca/corp/cert.pem").write_text(self.ca.with_suffix(".pem").read_text())

    def issue(self, csr, *extensions, days=5):
        """A certificate by the CA, as text."""
        config = self.folder / "ext"
        config.write_text("\n".join(extensions or ["extendedKeyUsage=serverAuth"]) + "\n")
        (self.folder / "csr").write_text(csr)
        done = run("openssl", "x509", "-req", "-in", self.folder / "csr", "-CA",
                   self.ca.with_suffix(".pem"), "-CAkey", self.ca.with_suffix(".key"),
                   "-days", days, "-extfile", config)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def csr(self):
        self.m.write("local/www/config", "subject = CN=www.example.net\n")
        self.assertEqual(self.m.request("local/www", "generate-csr"), "ok")
        return self.m.read("local/www/csr.pem")

    def test_key_types(self):
        for line, described in (("key-type = rsa\nkey-size = 3072", "rsa 3072"),
                                ("key-type = ecdsa", "ecdsa 256"),
                                ("key-type = ecdsa\nkey-size = 521", "ecdsa 521"),
                                ("key-type = ed25519", "ed25519")):
            self.m.request("local/www", "clear-key-pair")
            self.m.write("local/www/config", line + "\n")
            self.assertEqual(self.m.request("local/www", "generate-key-pair"), "ok")
            self.assertTrue(self.m.status("local/www")["key"].startswith(described.split()[0]))
            self.assertEqual(self.m.status("local/www")["key"], described)
            public = run("openssl", "pkey", "-in", self.www / "key.pem", "-pubout").stdout
            self.assertEqual(public, self.m.read("local/www/public.pem"))
            self.assertEqual((self.www / "key.pem").stat().st_size,
                             len(self.m.read("local/www/key.pem")))

    def test_a_size_that_does_not_fit_is_refused(self):
        self.m.write("local/www/config", "key-type = ecdsa\nkey-size = 4096\n")
        with self.assertRaises(OSError):
            self.m.write("local/www/request", "generate-key-pair\n")
        self.assertIn("does not fit", self.m.status("local/www")["last-error"])

    def test_a_request_by_hand(self):
        self.m.write("local/www/config",
                     "subject = CN=www.example.net,OU=a\\,b,O=Example,C=DE,DC=net\n"
                     "domain-name = www.example.net\nip-address = 192.0.2.1\n"
                     "ip-address = 2001:db8::1\nemail = a@example.net\nkey-type = ecdsa\n")
        self.assertEqual(self.m.request("local/www", "generate-csr"), "ok")
        text = run("openssl", "req", "-in", self.www / "csr.pem", "-noout", "-verify",
                   "-text", "-nameopt", "RFC2253,-dn_rev").stdout
        self.assertIn("CN=www.example.net,OU=a\\,b,O=Example,C=DE,DC=net", text)
        self.assertIn("DNS:www.example.net, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1,"
                      " email:a@example.net", text)
        for digest in ("MD5", "SHA-1", "SHA-256"):
            value = shell(f"openssl req -in {self.www}/csr.pem -outform DER | openssl dgst -c "
                          f"-{digest.replace('-', '').lower()}").stdout.split()[-1].upper()
            self.assertIn(f"{digest} = {value}", self.m.read("local/www/csr.fingerprint"))
        self.assertEqual(self.m.status("local/www")["state"], "csr")

    def test_the_device_serial_number(self):
        self.m.stop()
        self.m.options = ("device-serial=ABC123",)
        self.m.start()
        self.m.write("local/www/config", "subject = CN=x,SN\n")
        self.assertEqual(self.m.request("local/www", "generate-csr"), "ok")
        self.assertIn("serialNumber=ABC123", run(
            "openssl", "req", "-in", self.www / "csr.pem", "-noout", "-subject", "-nameopt",
            "RFC2253").stdout)

    def test_import_of_keys(self):
        make = {"pkcs8": "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
                "pkcs1": "openssl genrsa -traditional 2048",
                "sec1": "openssl ecparam -genkey -name prime256v1 -noout",
                "ed25519": "openssl genpkey -algorithm ED25519"}
        for name, command in make.items():
            key = self.folder / name
            self.assertEqual(shell(f"{command} > {key} && cp {key} {self.www}/key.pem").stderr
                             .replace(".", "").replace("+", "").replace("*", "").strip(), "")
            self.assertEqual(run("openssl", "pkey", "-in", key, "-pubout").stdout,
                             self.m.read("local/www/public.pem"), name)
        before = self.m.read("local/www/key.pem")
        bad = {"openssl genrsa -aes128 -passout pass:x 2048": "openssl pkey",
               "openssl genrsa 1024": "1024", "echo nothing": "key",
               f"cat {self.folder}/pkcs8 {self.folder}/sec1": "",
               f"cat {self.ca}.pem": "CERTIFICATE"}
        for command, words in bad.items():
            done = shell(f"{command} > {self.folder}/bad 2>/dev/null; "
                         f"cp {self.folder}/bad {self.www}/key.pem")
            self.assertIn("Invalid argument", done.stderr, command)
            self.assertIn(words, self.m.status("local/www")["last-error"], command)
            self.assertEqual(self.m.read("local/www/key.pem"), before)

    def test_a_certificate_loaded_by_hand(self):
        self.load_ca()
        certificate = self.issue(self.csr())
        self.m.write("local/www/cert.pem", certificate)
        status = self.m.status("local/www")
        self.assertEqual((status["state"], status["trust"], status["version"]),
                         ("valid", "profile", "1"))
        self.assertEqual(self.m.read("local/www/cert.pem").strip(), certificate.strip())
        self.assertEqual(self.m.read("local/www/fullchain.pem"),
                         self.m.read("local/www/cert.pem") + self.m.read("local/www/chain.pem"))
        self.assertEqual(self.m.read("local/www/bundle.pem"),
                         self.m.read("local/www/key.pem") + self.m.read("local/www/fullchain.pem"))
        self.assertEqual(sorted(os.listdir(self.www / "versions/1")),
                         ["bundle.pem", "cert.pem", "fullchain.pem", "key.pem"])
        self.assertEqual(self.m.read("local/www/versions/1/bundle.pem"),
                         self.m.read("local/www/bundle.pem"))

    def test_a_wrong_certificate_leaves_the_good_one(self):
        self.load_ca()
        good = self.issue(self.csr())
        self.m.write("local/www/cert.pem", good)
        other = shell("openssl req -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=other"
                      " 2>/dev/null").stdout
        (self.folder / "wrong").write_text(self.issue(other))
        for command in ("install -m 644", "cp", "cp --remove-destination"):
            done = shell(f"{command} {self.folder}/wrong {self.www}/cert.pem")
            self.assertIn("Invalid argument", done.stderr, command)
            self.assertIn("key", self.m.status("local/www")["last-error"])
            self.assertEqual(self.m.read("local/www/cert.pem").strip(), good.strip())
            self.assertEqual(self.m.status("local/www")["version"], "1")

    def test_a_certificate_before_its_key_is_refused(self):
        (self.folder / "csr0").write_text("")
        other = shell("openssl req -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=other"
                      " 2>/dev/null").stdout
        with self.assertRaises(OSError):
            self.m.write("local/www/cert.pem", self.issue(other))
        self.assertIn("write key.pem first", self.m.status("local/www")["last-error"])

    def test_a_file_whose_first_content_is_refused_is_not_there(self):
        for name in ("key.pem", "cert.pem"):
            with self.assertRaises(OSError):
                self.m.write(f"local/www/{name}", "nothing\n")
            with self.assertRaises(FileNotFoundError):
                os.stat(self.www / name)
            self.assertEqual(run("cat", self.www / name).stderr,
                             f"cat: {self.www / name}: No such file or directory\n")

    def test_a_new_key_waits_for_its_certificate(self):
        self.load_ca()
        self.m.write("local/www/cert.pem", self.issue(self.csr()))
        old_key, old = self.m.read("local/www/key.pem"), self.m.read("local/www/cert.pem")
        self.assertEqual(self.m.request("local/www", "generate-key-pair"), "ok")
        self.assertEqual(self.m.read("local/www/key.pem"), old_key)
        self.assertEqual(self.m.status("local/www")["next-key"], "rsa 2048")
        self.m.write("local/www/cert.pem", self.issue(self.csr()))
        self.assertNotEqual(self.m.read("local/www/key.pem"), old_key)
        self.assertEqual(self.m.status("local/www")["version"], "2")
        self.assertNotIn("next-key", self.m.status("local/www"))
        self.assertEqual(self.m.read("local/www/versions/1/key.pem"), old_key)
        self.assertEqual(self.m.read("local/www/versions/1/cert.pem"), old)

    def test_self_signed(self):
        self.m.write("local/www/config", "subject = CN=proxy\nkey-type = ecdsa\n")
        self.assertEqual(self.m.request(
            "local/www", "action = generate-self-signed\nadd-ca-constraint = yes"), "ok")
        text = run("openssl", "x509", "-in", self.www / "cert.pem", "-noout", "-text").stdout
        for words in ("CA:TRUE", "Certificate Sign, CRL Sign"):
            self.assertIn(words, text)
        status = self.m.status("local/www")
        self.assertEqual((status["state"], status["trust"]), ("valid", "self"))
        days = run("openssl", "x509", "-in", self.www / "cert.pem", "-noout", "-checkend",
                   str(1824 * 86400))
        self.assertEqual(days.returncode, 0)

    def test_a_crl_loaded_by_hand(self):
        self.load_ca()
        certificate = self.issue(self.csr())
        self.m.write("local/www/cert.pem", certificate)
        self.assertTrue(self.m.status("local/www")["revocation"].startswith("un"))
        (self.folder / "index").touch()
        (self.folder / "number").write_text("10\n")
        (self.folder / "conf").write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.folder}/index\ncrlnumber={self.folder}/number\n"
            "default_md=sha256\ndefault_crl_days=7\n")
        base = (f"openssl ca -config {self.folder}/conf -cert {self.ca}.pem -keyfile {self.ca}.key"
                " -batch")
        make = f"{base} -gencrl -out {self.folder}/crl.pem"
        self.assertEqual(shell(make).returncode, 0)
        crl = self.m.point / "ca/corp/crl.pem"
        done = shell(f"cp {self.folder}/crl.pem {crl}")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(self.m.status("local/www")["revocation"].startswith("good"))
        self.assertEqual(crl.read_text().split(), (self.folder / "crl.pem").read_text().split())
        self.assertEqual(run("openssl", "crl", "-inform", "DER", "-in",
                             self.m.point / "ca/corp/crl.der", "-noout").returncode, 0)
        shell(f"cp {self.folder}/crl.pem {self.folder}/old.pem")
        (self.folder / "leaf.pem").write_text(certificate)
        self.assertEqual(shell(f"{base} -revoke {self.folder}/leaf.pem -crl_reason superseded &&"
                               f"{make} && cp {self.folder}/crl.pem {crl}").returncode, 0)
        status = self.m.status("local/www")
        self.assertEqual(status["state"], "revoked")
        self.assertIn("superseded", status["revocation"])
        for bad in (f"cp {self.folder}/old.pem {crl}", f"cp /etc/passwd {crl}"):
            self.assertNotEqual(shell(bad).returncode, 0)
        self.assertEqual(self.m.status("ca/corp")["crl-entries"], "1")
        with self.assertRaises(OSError):
            self.m.write("local/www/cert.pem", certificate)
        self.assertIn("revoked", self.m.status("local/www")["last-error"])

    def test_keys_of_old_versions_go_but_an_open_one_stays(self):
        self.load_ca()
        self.m.write("local/www/cert.pem", self.issue(self.csr()))
        with open(self.www / "key.pem") as first:
            text = self.m.read("local/www/key.pem")
            for _ in range(4):
                self.assertEqual(self.m.request("local/www", "generate-key-pair"), "ok")
                self.m.write("local/www/cert.pem", self.issue(self.csr()))
            self.assertEqual(first.read(), text)
        self.assertEqual(self.m.status("local/www")["version"], "5")
        kept = [n for n in range(1, 6) if (self.www / f"versions/{n}/key.pem").exists()]
        self.assertIn(kept, ([3, 4, 5], [1, 3, 4, 5]))
        self.assertTrue((self.www / "versions/2/cert.pem").exists())

    def test_key_readers(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        self.m.write("local/www/config", "key-readers = user:daemon\nkey-type = ecdsa\n")
        self.assertEqual(self.m.request("local/www", "generate-key-pair"), "ok")
        for user, code in (("daemon", 0), ("nobody", 1)):
            done = run("setpriv", f"--reuid={user}", "--clear-groups", "cat", self.www / "key.pem")
            self.assertEqual(done.returncode, code, user)

    def test_on_change_runs(self):
        script = self.folder / "hook"
        script.write_text(f"#!/bin/sh\necho $PKIFS_ID $PKIFS_VERSION $1 > {self.folder}/ran\n")
        script.chmod(0o755)
        self.m.write("local/www/config", f"subject = CN=x\non-change = {script} word\n")
        self.assertEqual(self.m.request("local/www", "generate-self-signed"), "ok")
        self.assertTrue(until((self.folder / "ran").exists))
        self.assertTrue(until(lambda: self.m.status("local/www")["on-change-status"] == "done"))
        self.assertEqual((self.folder / "ran").read_text(), "www 1 word\n")
        script.chmod(0o777)
        self.assertEqual(self.m.request("local/www", "generate-self-signed"), "ok")
        self.assertTrue(until(
            lambda: self.m.status("local/www")["on-change-status"].startswith("not run")))


if __name__ == "__main__":
    main()
