"""CMP CAs that a test starts, and certificate ids that ask them."""

import json
import os

from harness import BIN, run
from scep import Ca, Scep

# Types of messages (RFC 4210 §5.1.2).
IR, CR, P10CR, KUR, RR, PKI_CONF, GENM = 0, 2, 4, 7, 11, 19, 21
ERROR, CERT_CONF, POLL_REQ = 23, 24, 25


class CmpCa(Ca):
    """tests/lab/cmp-ca-server; options are cmp-ca's, CA and CHAIN its script's."""

    def __init__(self, test, *options, program=BIN.parent / "tests/cmp-ca", **environment):
        super().__init__(test, *options, script="cmp-ca-server", CMP_CA=str(program), **environment)
        self.url = f"http://127.0.0.1:{self.port}/pkix/"

    def got(self, kind):
        """The transactions of all messages of this type, in the order they came."""
        return [line.split()[2] for line in self.said(f"got {kind} ")]

    def release(self):
        """What it holds is answered."""
        (self.folder / "release").touch()


class Cmp(Scep):
    def profile(self, mount, ca, name="corp", more=""):
        """A profile that asks CA, and trusts nobody yet."""
        os.mkdir(mount.point / "ca" / name)
        mount.write(f"ca/{name}/config", f"protocol = cmpv2\nenrollment-url = {ca.url}\n"
                                         f"enrollment-retry-interval = 0\n{more}")

    def cmp_id(self, mount, name="www", profile="corp", more="", key="key-type = ecdsa",
               secret="secret"):
        os.mkdir(mount.point / "local" / name)
        mount.write(f"local/{name}/config",
                    f"ca-profile = {profile}\nsubject = CN={name}.example.net,O=Example\n"
                    f"domain-name = {name}.example.net\n{key}\n"
                    f"ca-reference = 4711\nca-secret = {secret}\n{more}")

    def profiles(self, mount):
        return sorted(os.listdir(mount.point / "ca"))


def certificate(path):
    """The first certificate of a file in one spelling."""
    return run("openssl", "x509", "-in", path).stdout


def events(mount):
    return [json.loads(line) for line in mount.read("events").splitlines()]
