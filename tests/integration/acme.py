"""An ACME server that a test starts, stops and looks into, and names that lead to us."""

import contextlib
import datetime
import json
import os
import socket
import ssl
import subprocess
import urllib.request

from harness import LAB, PATIENCE, Test, free_ports, run, until


class Acme:
    """pebble of tests/lab, which looks for http-01 at a port of ours."""

    def __init__(self, test, start=True, **environment):
        self.test, self.script = test, LAB / "acme-server"
        self.port, self.http, self.tls, self.dns, self.manage, self.roots = free_ports(6)
        self.url = f"https://127.0.0.1:{self.port}/dir"
        self.folder = test.folder / f"acme-{self.port}"
        self.environment = {**os.environ, "HTTP": str(self.http), "TLS": str(self.tls),
                            "DNS": str(self.dns), "MANAGE": str(self.manage),
                            "ROOTS": str(self.roots), **environment}
        test.addCleanup(self.stop)
        if start:
            self.start()

    def start(self, **environment):
        done = run(self.script, self.folder, self.port, env={**self.environment, **environment})
        self.test.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def stop(self):
        run(self.script, "stop", self.folder)

    def names(self, what, **more):
        """Tells the name server WHAT, as pebble-challtestsrv has it."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.manage}/{what}",
                                         json.dumps(more).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def managed(self, path):
        """What pebble's own port says, as text."""
        context = ssl.create_default_context(cafile=self.folder / "tls-ca.pem")
        with urllib.request.urlopen(f"https://127.0.0.1:{self.roots}/{path}", context=context,
                                    timeout=10) as answer:
            return answer.read().decode()


class AcmeTest(Test):
    def acme_mount(self, ca, *options):
        """A store that answers where CA looks."""
        return self.mount(f"http-01-listen=127.0.0.1:{ca.http}",
                          f"tls-alpn-01-listen=127.0.0.1:{ca.tls}", *options)

    def profile(self, mount, ca, name="corp", more=""):
        """A profile of CA, with the profile NAME-tls for its https server."""
        os.mkdir(mount.point / "ca" / f"{name}-tls")
        mount.write(f"ca/{name}-tls/cert.pem", (ca.folder / "tls-ca.pem").read_text())
        os.mkdir(mount.point / "ca" / name)
        mount.write(f"ca/{name}/config",
                    f"protocol = acme\nenrollment-url = {ca.url}\ntls-ca = {name}-tls\n"
                    f"enrollment-retry-interval = 0\n{more}")
        mount.write(f"ca/{name}/cert.pem", (ca.folder / "root.pem").read_text())

    def certificate_id(self, mount, name="www", profile="corp", more=""):
        os.mkdir(mount.point / "local" / name)
        mount.write(f"local/{name}/config",
                    f"ca-profile = {profile}\ndomain-name = {name}.example.net\n"
                    f"key-type = ecdsa\n{more}")

    def assert_issued(self, mount, name="www", profile="corp", version=1):
        """The certificate id is valid; key, certificate, chain and root fit together. Its status."""
        folder = mount.point / "local" / name
        status = mount.status(f"local/{name}")
        self.assertEqual((status["state"], status.get("version")), ("valid", str(version)), status)
        public = run("openssl", "x509", "-in", folder / "cert.pem", "-noout", "-pubkey").stdout
        self.assertEqual(run("openssl", "pkey", "-in", folder / "key.pem", "-pubout").stdout, public)
        verified = run("openssl", "verify", "-CAfile", mount.point / "ca" / profile / "cert.pem",
                       "-untrusted", folder / "chain.pem", folder / "cert.pem")
        self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)
        return status

    def begin(self, mount, ca, more=""):
        self.profile(mount, ca, more="enrollment-retry-interval = 3600\n")
        self.certificate_id(mount, more=more)
        mount.write("local/www/request", "enroll\n")

    def fails(self, mount, ca):
        """An enrollment at CA that fails for good: its reason."""
        self.begin(mount, ca)
        self.assertTrue(mount.ends("local/www"))
        status = mount.status("local/www")
        self.assertEqual((status["request"], status["state"]), ("failed", "key"), status)
        return status["last-error"]

    def waits(self, mount, ca, more=""):
        """An enrollment at CA that is to be tried again: its reason."""
        self.begin(mount, ca, more)
        self.assertTrue(until(lambda: mount.status("local/www")["last-error"]))
        status = mount.status("local/www")
        self.assertIn(status["request"], ("waiting", "running"), status)
        return status["last-error"]

    def refused_or_waits(self, mount, ca):
        self.begin(mount, ca)
        self.assertTrue(until(lambda: mount.status("local/www")["last-error"]))
        self.assertEqual(mount.status("local/www")["state"], "key")
        return mount.status("local/www")["last-error"]

    def next_try(self, mount):
        """Seconds until the next try of local/www."""
        status = mount.status("local/www")
        when = datetime.datetime.fromisoformat(status["next-action-at"].replace("Z", "+00:00"))
        return (when - datetime.datetime.now(datetime.timezone.utc)).total_seconds()

    def ask(self, port, request, encoding="utf-8"):
        """What a raw REQUEST to PORT of this machine is answered."""
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            said = b""
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(request.encode(encoding))
                while (piece := connection.recv(4096)):
                    said += piece
        return said.decode(encoding)

    def background(self, *command):
        process = subprocess.Popen([str(word) for word in command])
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
