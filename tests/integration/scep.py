"""SCEP CAs that a test starts, stops and looks into."""

import contextlib
import os
import shutil

from harness import BIN, LAB, free_port, run


class Ca:
    """A SCEP server of tests/lab; CA and RA as its script takes them from the environment."""

    def __init__(self, test, *options, script="scep-ca-server", like=None, start=True,
                 **environment):
        self.test, self.script = test, LAB / script
        self.environment = {**os.environ, "PKIFS_BIN": str(BIN), **environment,
                            "SCEP_CA": str(BIN.parent / "tests/scep-ca")}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/scep"
        self.folder = test.folder / f"ca-{self.port}"
        if like:  # the same CA at another address
            shutil.copytree(like.folder, self.folder, ignore=shutil.ignore_patterns("pid", "log"))
        test.addCleanup(self.stop)
        if start:
            self.start(*options)

    def start(self, *options):
        done = run(self.script, self.folder, self.port, *options, env=self.environment)
        self.test.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def stop(self):
        run(self.script, "stop", self.folder)

    def restart(self, *options):
        self.stop()
        self.start(*options)

    def said(self, words):
        """The lines of its log that begin with WORDS."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "log").read_text(errors="replace").splitlines()
            return [line for line in lines if line.startswith(words)]
        return []

    def messages(self):
        """Of each transaction the different messages that asked for its certificate, as digests."""
        found = {}
        for line in self.said("message"):
            _, digest, transaction = line.split()
            found.setdefault(transaction, set()).add(digest)
        return found

    def fingerprint(self, digest="sha256"):
        text = run("openssl", "x509", "-in", self.folder / "ca.pem", "-noout", "-fingerprint",
                   f"-{digest}").stdout
        return text.split("=")[1].strip()


def serial(path):
    return run("openssl", "x509", "-in", path, "-noout", "-serial").stdout.strip().split("=")[1]


def assert_valid(test, mount, name, profile="corp", version=None):
    """The certificate id is valid; key, certificate, chain and CA fit together."""
    folder = mount.point / "local" / name
    status = mount.status(f"local/{name}")
    test.assertEqual(status["state"], "valid", status)
    if version:
        test.assertEqual(status["version"], str(version), status)
    public = run("openssl", "x509", "-in", folder / "cert.pem", "-noout", "-pubkey").stdout
    test.assertEqual(run("openssl", "pkey", "-in", folder / "key.pem", "-pubout").stdout, public)
    verified = run("openssl", "verify", "-CAfile", mount.point / "ca" / profile / "cert.pem",
                   folder / "cert.pem")
    test.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)
    return status
