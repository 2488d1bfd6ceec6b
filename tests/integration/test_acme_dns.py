"""ACME's dns-01: records put into a real name server's zones, or by a program, and taken away."""

import os
import random
import socket
import stat
import unittest

from acme import Acme, AcmeTest
from harness import LAB, PATIENCE, free_port, main, run, until


class Bind:
    """BIND of tests/lab at an address of its own, where name servers are looked for: port 53."""

    def __init__(self, test, address, start=True, **environment):
        self.test, self.address = test, address
        self.folder = test.folder / f"dns-{address}"
        self.environment = {"ADDRESS": address, **environment}
        test.addCleanup(self.stop)
        if start:
            self.start()

    def start(self):
        done = run(LAB / "dns-server", self.folder, 53, env={**os.environ, **self.environment})
        self.test.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def stop(self):
        run(LAB / "dns-server", "stop", self.folder)

    def key(self, name):
        """The TSIG key NAME as acme-dns-tsig has it."""
        return next(line for line in (self.folder / "keys").read_text().splitlines()
                    if line.startswith(name + ":"))

    def records(self, zone="example.net"):
        """The TXT records of ZONE, as (name, text)."""
        said = run("dig", f"@{self.address}", "+onesoa", zone, "AXFR").stdout
        rows = [line.split() for line in said.splitlines() if not line.startswith(";")]
        return sorted((row[0], row[4].strip('"')) for row in rows if row[3:4] == ["TXT"])


class DnsTest(AcmeTest):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("only root can have addresses and port 53")

    def addresses(self, count):
        """COUNT addresses of this machine that nobody else uses."""
        found = []
        while len(found) < count:
            address = ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])
            if run("ip", "address", "add", f"{address}/32", "dev", "lo").returncode == 0:
                self.addCleanup(run, "ip", "address", "del", f"{address}/32", "dev", "lo")
                found.append(address)
        return found

    def bind(self, **environment):
        return Bind(self, self.addresses(1)[0], **environment)

    def ca(self, bind):
        return Acme(self, RESOLVER=f"{bind.address}:53")

    def dns_profile(self, mount, ca, bind, key="hmac-sha256", more=""):
        self.profile(mount, ca, more=f"acme-dns-server = {bind.address}\n"
                                     f"acme-dns-tsig = {bind.key(key)}\n{more}")

    def dns_id(self, mount, name="www", more=""):
        self.certificate_id(mount, name, more="acme-challenge = dns-01\n" + more)

    def assert_clean(self, bind, *zones):
        for zone in zones or ("example.net", "sub.example.net"):
            self.assertTrue(until(lambda zone=zone: not bind.records(zone)), bind.records(zone))


class Update(DnsTest):
    def test_a_name_and_its_wildcard_by_a_signed_update(self):
        bind = self.bind()
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        self.dns_profile(mount, ca, bind)
        self.dns_id(mount, more="domain-name = *.www.example.net\ndomain-name = *.example.net\n"
                                "domain-name = a.sub.example.net\n")
        self.assertEqual(mount.request("local/www", "enroll"), "ok", mount.log.read_text())
        self.assert_issued(mount)
        names = run("openssl", "x509", "-in", mount.point / "local/www/cert.pem", "-noout",
                    "-ext", "subjectAltName").stdout
        self.assertIn("DNS:*.www.example.net", names)
        self.assert_clean(bind)
        self.assertEqual(mount.request("local/www", "re-enroll"), "ok")
        self.assert_issued(mount, version=2)
        self.assert_clean(bind)
        self.assertNotIn("acme-dns-left", mount.status("ca/corp"))
        self.assertNotIn(bind.key("hmac-sha256").split(":")[2],
                         mount.read("ca/corp/config") + mount.read("events") +
                         mount.log.read_text())


if __name__ == "__main__":
    main()
