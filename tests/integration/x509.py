"""Certificates made by openssl, for tests of those who judge them."""

import pathlib

from harness import Test, run

CA = "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n"
LEAF = "basicConstraints = CA:FALSE\nkeyUsage = critical,digitalSignature\n"
KEY_IDS = "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n"


class Authority:
    """A CA in FOLDER, a root or below ABOVE, and what it issues and revokes."""

    def __init__(self, folder, name="CA", above=None):
        self.folder = pathlib.Path(folder)
        self.name = name
        self.above = above
        self.serial = 16
        self.revoked = []
        self.key_ids = KEY_IDS
        self.crls = 0
        self.key = self.folder / f"{name}.key"
        self.file = self.folder / f"{name}.pem"
        self.file.write_text((above or self).issue(f"/CN={name}", CA, key=self.key))
        self.pem = self.file.read_text()

    def issue(self, subject, extensions=LEAF, key=None, days=30, more=()):
        """A certificate in PEM; for a KEY of its own where none is given."""
        key = key or self.folder / "leaf.key"
        self.serial += 1
        if not key.exists():
            self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                         "-out", key)
        request = self.folder / "request"
        self.openssl("req", "-new", "-key", key, "-subj", subject, "-out", request)
        extfile = self.folder / "extensions"
        own = not hasattr(self, "pem")
        extfile.write_text(extensions + (KEY_IDS.splitlines()[0] if own else self.key_ids) + "\n")
        by = (["-signkey", key] if own else ["-CA", self.file, "-CAkey", self.key])
        return self.openssl("x509", "-req", "-in", request, *by, "-extfile", extfile,
                            "-set_serial", self.serial, "-days", days, *more)

    def server(self, name="a.example", **options):
        return self.issue(f"/CN={name}", LEAF + f"subjectAltName = DNS:{name}\n", **options)

    def revoke(self):
        """What was issued last."""
        self.revoked.append(self.serial)

    def crl(self, hours=24):
        """A CRL in PEM, newer than all before it."""
        self.crls += 1
        index = self.folder / "index"
        index.write_text("".join(f"R\t301231235959Z\t261101000000Z,keyCompromise\t{serial:02X}"
                                 f"\tunknown\t/CN=x\n" for serial in self.revoked))
        (self.folder / "index.attr").write_text("")
        (self.folder / "number").write_text(f"{self.crls:02X}\n")
        conf = self.folder / "ca.conf"
        conf.write_text(f"[ca]\ndefault_ca = c\n[c]\ndatabase = {index}\n"
                        f"crlnumber = {self.folder}/number\ndefault_md = sha256\n"
                        "crl_extensions = e\n[e]\nauthorityKeyIdentifier = keyid\n")
        return self.openssl("ca", "-gencrl", "-config", conf, "-cert", self.file, "-keyfile",
                            self.key, "-crlhours", hours)

    @staticmethod
    def openssl(*arguments):
        done = run("openssl", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


class Asked(Test):
    """A store with a profile that trusts a CA of the test's."""

    def setUp(self):
        super().setUp()
        self.ca = Authority(self.folder, "Root")

    def profile(self, m, name="corp", settings="revocation-check = disable\n", ca=None):
        (m.point / "ca" / name).mkdir()
        m.write(f"ca/{name}/config", settings)
        m.write(f"ca/{name}/cert.pem", (ca or self.ca).pem)

    @staticmethod
    def ask(m, text, profile="corp"):
        with open(m.point / "ca" / profile / "verify", "r+b", buffering=0) as file:
            file.write(text.encode() if isinstance(text, str) else text)
            return file.read().decode()
