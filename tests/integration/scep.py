"""SCEP CAs that a test starts, stops and looks into."""

import contextlib
import errno
import json
import os
import shutil

from harness import BIN, LAB, Test, free_port, run, until


class Ca:
    """A SCEP server of tests/lab; CA and RA as its script takes them from the environment."""

    def __init__(self, test, *options, script="scep-ca-server", like=None, start=True,
                 **environment):
        self.test, self.script = test, LAB / script
        self.environment = {**os.environ, "PKIFS_BIN": str(BIN),
                            "SCEP_CA": str(BIN.parent / "tests/scep-ca"),
                            "EST_CA": str(BIN.parent / "tests/est-ca"), **environment}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/scep"
        self.folder = test.folder / f"ca-{self.port}"
        if like:  # the same CA at another address
            shutil.copytree(like.folder, self.folder, ignore=shutil.ignore_patterns("pid", "log"))
        elif script == "scep-ca-server" and "CA" not in environment:
            self.folder.mkdir()
            for name in ("ca", "next"):
                (self.folder / f"{name}.key").write_text(test.rsa_key())
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


def assert_valid(test, mount, name, profile="corp", version=None, at=None):
    """The certificate id is valid (AT a time in Unix seconds); key, certificate, chain and CA fit
    together."""
    folder = mount.point / "local" / name
    status = mount.status(f"local/{name}")
    test.assertEqual(status["state"], "valid", status)
    if version:
        test.assertEqual(status["version"], str(version), status)
    public = run("openssl", "x509", "-in", folder / "cert.pem", "-noout", "-pubkey").stdout
    test.assertEqual(run("openssl", "pkey", "-in", folder / "key.pem", "-pubout").stdout, public)
    verified = run("openssl", "verify", *(["-attime", int(at)] if at else []), "-CAfile",
                   mount.point / "ca" / profile / "cert.pem", folder / "cert.pem")
    test.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)
    return status


class Scep(Test):
    def refused(self, mount, path, text, words, code=errno.EINVAL):
        with self.assertRaises(OSError) as caught:
            mount.write(path, text)
        self.assertEqual(caught.exception.errno, code)
        self.assertIn(words, mount.status(path.rsplit("/", 1)[0])["last-error"])

    def enrolled(self, ca, *more, name="www"):
        """A mount with a profile that trusts CA and a certificate from it."""
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m, name, more="\n".join(more))
        self.assertEqual(m.request(f"local/{name}", "enroll"), "ok")
        assert_valid(self, m, name)
        return m


class Attacked(Scep):
    """Certificates from a good CA, renewed at one with the same key and bad manners, or with
    somebody between it and us."""

    PROFILE = "enrollment-retry = 1\n"

    def renew(self, mount, ca, attacks):
        """For each attack a profile and a certificate id of its name, whose renewal meets it; all
        requests have ended when this returns. The attacking CAs by name."""
        cas = {}
        for attack in attacks:
            self.trusted_profile(mount, ca.url, attack, self.PROFILE)
            self.certificate_id(mount, attack, attack)
            mount.write(f"local/{attack}/request", "enroll\n")
        for attack in attacks:
            cas[attack] = Ca(self, "-a", attack, like=ca)
            self.assertEqual(mount.wait(f"local/{attack}"), "ok", attack)
            mount.write(f"ca/{attack}/config", f"enrollment-url = {cas[attack].url}\n"
                                               f"enrollment-retry-interval = 0\n{self.PROFILE}")
        self.before = {attack: mount.read(f"local/{attack}/bundle.pem") for attack in attacks}
        for attack in attacks:
            mount.write(f"local/{attack}/request", "re-enroll\n")
        for attack in attacks:
            until(lambda: mount.status(f"local/{attack}")["request"] not in
                  ("queued", "running", "waiting"))
            self.assertTrue(cas[attack].said("sent SUCCESS"), attack)
        return cas

    def assert_kept(self, mount, attack, words, request, version=1):
        """The renewal ended as REQUEST, for a reason with WORDS, and changed nothing. The reason."""
        status = mount.status(f"local/{attack}")
        self.assertEqual(status["request"], request, f"{attack}: {status}")
        self.assertIn(words, status["last-error"], attack)
        self.assertEqual((status["state"], status["version"]), ("valid", str(version)), attack)
        self.assertEqual(mount.read(f"local/{attack}/bundle.pem"), self.before[attack], attack)
        reason = status["last-error"]
        self.assertEqual(mount.wait(f"local/{attack}"), f"failed: {reason}", attack)
        events = [json.loads(line) for line in mount.read("events").splitlines()]
        self.assertTrue(any(event.get("event") == request and event.get("reason") == reason
                            for event in events), f"{attack}: no event {request}: {reason}")
        return reason

    def nothing_is_taken(self, attacks, request="failed"):
        """Runs ATTACKS, a dictionary of attack and words of its reason. The reasons."""
        ca = Ca(self)
        mount = self.mount()
        self.renew(mount, ca, attacks)
        reasons = [self.assert_kept(mount, attack, words, request)
                   for attack, words in attacks.items()]
        # the rest goes on
        name = next(iter(attacks))
        mount.write(f"ca/{name}/config", f"enrollment-url = {ca.url}\n")
        self.assertEqual(mount.request(f"local/{name}", "re-enroll"), "ok")
        return reasons
