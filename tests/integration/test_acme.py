"""Certificates by ACME (RFC 8555), from a server that rejects nonces and examines challenges."""

import contextlib
import os
import socket

from acme import Acme, AcmeTest
from harness import main, run, until


def answers(port):
    """Whether somebody listens at PORT of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Enroll(AcmeTest):
    def test_from_the_request_to_the_certificate(self):
        ca = Acme(self)
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assert_issued(mount)
        names = run("openssl", "x509", "-in", mount.point / "local/www/cert.pem", "-noout",
                    "-ext", "subjectAltName").stdout
        self.assertIn("DNS:www.example.net", names)
        status = mount.status("ca/corp")
        self.assertTrue(status["acme-key-id"].startswith(ca.url.removesuffix("dir")), status)
        self.assertIn("acme-terms", status)
        self.assertTrue(until(lambda: not answers(ca.http)), "the port is given back")


if __name__ == "__main__":
    main()
