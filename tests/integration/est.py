"""EST servers that a test starts, stops and looks into, and profiles that speak with them."""

import base64
import os

from harness import run
from scep import Ca, Scep

BY_EST = "protocol = est\ntls-ca = tls\n"
PROFILE = BY_EST + "enrollment-retry-interval = 0\n"


class EstServer(Ca):
    """The EST server of tests/lab; its user is `est`, with the password `secret`."""

    def __init__(self, test, *options, user="est:secret", **how):
        options = (*(["-u", user] if user else []), *options)
        super().__init__(test, *options, script="est-server", **how)
        self.url = f"https://127.0.0.1:{self.port}"
        root = self.folder / "root.pem"
        self.anchor = root if root.exists() else self.folder / "ca.pem"

    def answers(self, operation, status, kind="text/plain", *headers, body=b""):
        """From now on OPERATION gets this answer."""
        head = "\n".join((f"{status} {kind}", *headers, "", ""))
        (self.folder / f"answer-{operation}").write_bytes(head.encode() + body)

    def asked(self, operation):
        """The requests for OPERATION: (digest of the CSR, who) each."""
        return [tuple(line.removeprefix(f"received {operation} ").split(" as ", 1))
                for line in self.said(f"received {operation} ")]


class Est(Scep):
    def tls_profile(self, mount, server, name="tls"):
        """A profile that anchors the server's TLS."""
        os.mkdir(mount.point / "ca" / name)
        mount.write(f"ca/{name}/cert.pem", server.anchor.read_text())

    def est_profile(self, mount, server, name="corp", more="", url=None):
        """A profile that trusts the server's CA."""
        if not (mount.point / "ca/tls").exists():
            self.tls_profile(mount, server)
        self.trusted_profile(mount, url or server.url, name, BY_EST + more)

    def bundle(self, *certificates):
        """A certs-only message of PEM files, in base64."""
        out = self.folder / "bundle"
        done = run("openssl", "crl2pkcs7", "-nocrl", "-outform", "DER", "-out", out,
                   *[word for file in certificates for word in ("-certfile", file)])
        self.assertEqual(done.returncode, 0, done.stderr)
        return base64.b64encode(out.read_bytes())

    def est_id(self, mount, name="www", profile="corp", more="", user="est"):
        os.mkdir(mount.point / "local" / name)
        who = f"est-user = {user}\nest-password = secret\n" if user else ""
        mount.write(f"local/{name}/config",
                    f"ca-profile = {profile}\nsubject = CN={name}.example.net,O=Example\n"
                    f"domain-name = {name}.example.net\nkey-type = ecdsa\n{who}{more}")

    def mount_with(self, server, more="", url=None):
        """A mount with a profile `corp` that trusts SERVER's CA."""
        m = self.mount()
        self.est_profile(m, server, more=more, url=url)
        return m

    def device(self, m, server):
        """A certificate id with what its maker gave it."""
        os.mkdir(m.point / "local/device")
        folder = server.folder
        for command in (["genpkey", "-quiet", "-algorithm", "RSA", "-out", "d.key"],
                        ["req", "-new", "-key", "d.key", "-subj", "/CN=device 7", "-out", "d.csr"],
                        ["x509", "-req", "-in", "d.csr", "-CA", "device.pem", "-CAkey",
                         "device.key", "-out", "d.pem"]):
            done = run("openssl", *command, cwd=folder)
            self.assertEqual(done.returncode, 0, done.stderr)
        m.write("local/device/key.pem", (folder / "d.key").read_text())
        m.write("local/device/cert.pem", (folder / "d.pem").read_text())
