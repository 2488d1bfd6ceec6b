"""The key stays in pkifs: programs sign over pkifs-pkcs11.so with the keys of tunnels."""

import errno
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time

from harness import (BIN, DAEMON, NOBODY, PATIENCE, Test, as_user, attempt, main, needs_root, run,
                     until)
from x509 import Authority

MODULE = BIN.parent / "lib/pkifs-pkcs11.so"
GUIDE = pathlib.Path(__file__).resolve().parents[2] / "docs/guides/strongswan.md"
RSA, EC = "key-type = rsa\n", "key-type = ecdsa\n"
PATHS = {"/usr/lib/x86_64-linux-gnu/pkcs11/pkifs-pkcs11.so": MODULE}


def guide(name, changes):
    """A file of strongSwan's guide, with other paths and names."""
    text = (GUIDE.read_text().split(f"/{name}`:\n\n```\n")[1]).split("```")[0]
    for old, new in changes.items():
        assert old in text, f"{old} is not in\n{text}"
        text = text.replace(old, str(new))
    return text


def record(*fields):
    """A record as frames have it: (key, value) pairs."""
    body = b""
    for key, value in fields:
        key, value = key.encode(), value if isinstance(value, bytes) else value.encode()
        body += struct.pack("!H", len(key)) + key + struct.pack("!I", len(value)) + value
    return body


def frame(*fields):
    body = record(*fields)
    return struct.pack("!I", len(body)) + body


SIGNED = len(frame(("frame", "answer"), ("data", bytes(64))))


@needs_root
class Pkcs11(Test):
    def start(self, conf=None):
        """A daemon in a network of its own: its tunnels block nobody's traffic."""
        self.place = self.folder / "run/pkcs11"
        m = self.mount(f"store={self.folder}/var/store.db", "privilege-separation=yes",
                       "user=daemon", "worker-user=games", "ipsec-user=bin",
                       f"pkcs11-socket={self.place}", start=False)
        m.conf = conf
        m.under = ["unshare", "-n"]
        return m.start()

    def own(self, m, name, more=RSA):
        """A certificate id with a certificate."""
        os.mkdir(m.point / "local" / name)
        m.write(f"local/{name}/config", f"subject = CN={name}\n{more}")
        self.assertEqual(m.request(f"local/{name}", "generate-self-signed"), "ok")

    def tunnel(self, m, name, own, engine="charon"):
        os.mkdir(m.point / "ipsec" / name)
        m.write(f"ipsec/{name}/config", f"engine = {engine}\nlocal-address = 192.0.2.1\n"
                                        f"remote-address = 192.0.2.2\ncertificate-id = {own}\n")

    def tool(self, *arguments):
        return run("pkcs11-tool", "--module", MODULE, *arguments,
                   env={**os.environ, "PKIFS_PKCS11_SOCKET": str(self.place)})

    def ask(self, *fields):
        """What is answered to a question, as bytes."""
        with socket.socket(socket.AF_UNIX) as call:
            call.settimeout(PATIENCE)
            call.connect(str(self.place))
            call.sendall(frame(*fields))
            answer = call.recv(4, socket.MSG_WAITALL)
            return answer + (call.recv(*struct.unpack("!I", answer), socket.MSG_WAITALL)
                             if answer else b"")

    def asks(self, m):
        """How long the answer is to who wants a signature with the key of `lent`."""
        return len(self.ask(("frame", "sign"), ("id", bytes.fromhex(self.key_id(m, "lent"))),
                            ("data", b"x" * 32)))

    def offered(self):
        """The labels of the keys that are there."""
        lines = self.tool("-O", "--type", "pubkey").stdout.splitlines()
        return sorted(line.split()[1] for line in lines if "label:" in line)

    def becomes(self, *labels):
        if not until(lambda: self.offered() == sorted(labels), 10):
            self.fail(f"{self.offered()}, not {labels}")

    @staticmethod
    def key_id(m, name):
        """CKA_ID, as others compute it."""
        public = run("openssl", "x509", "-noout", "-ext", "subjectKeyIdentifier", "-in",
                     m.point / f"local/{name}/cert.pem").stdout
        return public.split("\n")[1].strip().replace(":", "").lower()

    def signs(self, m, name, mechanism, *digest, key_id=None, cert=None):
        """Signs by pkcs11-tool, and verifies by openssl: what went wrong, or nothing."""
        data, out = self.folder / "data", self.folder / "signature"
        data.write_bytes(b"x" * 1000)
        if not digest:
            self.assertEqual(run("openssl", "dgst", "-sha256", "-binary", "-out", self.folder / "d",
                                 data).returncode, 0)
        done = self.tool("--sign", "-m", mechanism, "--id", key_id or self.key_id(m, name),
                         "-i", data if digest else self.folder / "d", "-o", out,
                         "--signature-format", "openssl")
        if done.returncode:
            return done.stderr or "failed"
        public = self.folder / "public"
        public.write_text(run("openssl", "x509", "-noout", "-pubkey", "-in",
                              cert or m.point / f"local/{name}/cert.pem").stdout)
        done = run("openssl", "dgst", f"-{(digest or ('sha256',))[0]}", "-verify", public,
                   "-signature", out, data)
        return "" if done.stdout == "Verified OK\n" else done.stdout + done.stderr

    def test_keys_of_tunnels_sign(self):
        m = self.start()
        self.own(m, "rsa")
        self.own(m, "ec", EC)
        self.own(m, "p384", EC + "key-size = 384\n")
        self.own(m, "other", EC)
        self.assertFalse(self.place.exists())  # nobody needs it
        for name in ("rsa", "ec", "p384"):
            self.tunnel(m, f"t-{name}", name)
        self.tunnel(m, "by-hand", "other", engine="manual")
        self.assertTrue(until(self.place.exists))
        self.becomes("ec", "p384", "rsa")
        self.assertEqual(self.signs(m, "rsa", "SHA256-RSA-PKCS", "sha256"), "")
        self.assertEqual(self.signs(m, "rsa", "SHA512-RSA-PKCS", "sha512"), "")
        self.assertEqual(self.signs(m, "ec", "ECDSA"), "")
        self.assertEqual(self.signs(m, "ec", "ECDSA-SHA256", "sha256"), "")
        self.assertEqual(self.signs(m, "p384", "ECDSA-SHA384", "sha384"), "")

    def test_only_keys_of_tunnels_are_lent_and_only_to_who_may(self):
        m = self.start()
        for name in ("lent", "other"):
            self.own(m, name, EC)
        self.tunnel(m, "t", "lent")
        self.becomes("lent")
        self.assertEqual(os.stat(self.place).st_mode & 0o777, 0o600)
        other = bytes.fromhex(self.key_id(m, "other"))
        self.assertEqual(self.ask(("frame", "find"), ("id", other)), frame(("frame", "answer")))
        self.assertIn(b"a signature was asked of a key that no tunnel uses",
                      self.ask(("frame", "sign"), ("id", other), ("data", b"x" * 32)))
        self.assertTrue(until(lambda: "asked of a key that no tunnel uses" in m.log.read_text()))
        self.assertEqual(self.asks(m), SIGNED)
        refused = as_user(NOBODY, lambda: attempt(self.asks, m))
        self.assertEqual(refused, -errno.EACCES)
        os.chmod(self.place, 0o666)  # who calls is looked at as well
        self.assertIn(as_user(NOBODY, lambda: attempt(self.asks, m)),
                      (0, -errno.EPIPE, -errno.ECONNRESET))
        self.assertTrue(until(lambda: f"user {NOBODY} may not call" in m.log.read_text()))
        self.assertEqual(self.signs(m, "lent", "ECDSA"), "")

    def test_another_user_may_call_where_he_is_named(self):
        conf = self.folder / "pkifs.conf"
        conf.write_text("charon-user = nobody\n")
        m = self.start(conf)
        self.own(m, "lent", EC)
        self.tunnel(m, "t", "lent")
        self.becomes("lent")
        self.assertEqual(as_user(NOBODY, lambda: attempt(self.asks, m)), SIGNED)
        self.assertEqual(as_user(DAEMON, lambda: attempt(self.asks, m)), -errno.EACCES)
        conf.write_text("charon-user = daemon\n")
        os.kill(m.daemon.pid, signal.SIGHUP)
        self.assertTrue(until(
            lambda: as_user(DAEMON, lambda: attempt(self.asks, m)) == SIGNED, 10))
        self.assertEqual(as_user(NOBODY, lambda: attempt(self.asks, m)), -errno.EACCES)

    def test_what_is_lent_follows_tunnels_certificates_and_trust(self):
        m = self.start()
        authority = Authority(self.folder)
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/cert.pem", authority.pem)
        m.write("ca/corp/crl.pem", authority.crl())
        os.mkdir(m.point / "local/gate")
        m.write("local/gate/config", "ca-profile = corp\n")
        first = authority.server("gate.example.net")
        m.write("local/gate/key.pem", (self.folder / "leaf.key").read_text())
        m.write("local/gate/cert.pem", first)
        self.tunnel(m, "t", "gate")
        self.becomes("gate")
        old = self.key_id(m, "gate")
        # the next version has a key of its own: old and new are there
        (self.folder / "leaf.key").rename(self.folder / "old.key")
        second = authority.server("gate.example.net")
        m.write("local/gate/key.pem", (self.folder / "leaf.key").read_text())
        self.becomes("gate")  # no certificate, no use
        m.write("local/gate/cert.pem", second)
        self.becomes("gate", "gate")
        (self.folder / "first.pem").write_text(first)
        self.assertEqual(self.signs(m, "gate", "ECDSA"), "")
        self.assertEqual(self.signs(m, "gate", "ECDSA", key_id=old, cert=self.folder / "first.pem"),
                         "")
        m.write("ipsec/t/config", m.read("ipsec/t/config").replace("charon", "manual"))
        self.becomes()
        m.write("ipsec/t/config", m.read("ipsec/t/config").replace("manual", "charon"))
        self.becomes("gate", "gate")
        authority.revoke()
        m.write("ca/corp/crl.pem", authority.crl())
        self.becomes()
        os.rmdir(m.point / "ipsec/t")
        self.own(m, "other", EC)
        self.tunnel(m, "t2", "other")
        self.becomes("other")
        os.rmdir(m.point / "ipsec/t2")
        self.becomes()

    def test_deaths_and_a_reload_cost_a_wait(self):
        m = self.start()
        self.own(m, "lent", EC)
        self.tunnel(m, "t", "lent")
        self.becomes("lent")
        self.assertEqual(self.signs(m, "lent", "ECDSA"), "")
        for role in ("keys", "store", "keys", "store"):
            before = m.children(role)
            m.kill(role)
            began = time.monotonic()
            self.assertEqual(self.signs(m, "lent", "ECDSA"), "", role)
            self.assertLess(time.monotonic() - began, PATIENCE / 20)
            self.assertTrue(until(lambda: m.children(role) not in ([], before)))
        os.kill(m.daemon.pid, signal.SIGHUP)
        self.assertTrue(until(lambda: "read again" in m.log.read_text()))
        self.assertEqual(self.asks(m), SIGNED)
        os.kill(m.daemon.pid, signal.SIGUSR2)
        self.assertTrue(until(lambda: m.children("store")))
        self.assertEqual(self.signs(m, "lent", "ECDSA"), "")
        m.stop()
        self.assertFalse(self.place.exists())

    def test_strongswan_proves_itself_with_keys_that_it_never_sees(self):
        m = self.start()
        with Charons(self, m) as (left, right):
            for name, more in (("rsa", RSA), ("ec", EC), ("p384", EC + "key-size = 384\n")):
                ours, theirs = f"{name}-left", f"{name}-right"
                for own in (ours, theirs):
                    self.own(m, own, more)
                    self.tunnel(m, own, own)
                self.assertTrue(until(lambda: {ours, theirs} <= set(self.offered()), 10))
                right.load(theirs, ours)
                left.load(ours, theirs)
                said = left.swanctl("--initiate", "--ike", ours)
                self.assertIn("initiate completed successfully", said, left.said())
                self.assertIn(f"authentication of 'CN={theirs}' with ", left.said())
                self.assertRegex(left.said(), f"authentication of 'CN={ours}' .myself. with ")


class Charon:
    """strongSwan's daemon in a network of its own, which has no private key."""

    PLUGINS = ("random nonce openssl kdf pem pkcs1 pkcs8 x509 pubkey constraints kernel-netlink "
               "socket-default vici pkcs11")

    def __init__(self, test, m, name, address):
        self.m, self.address = m, address
        self.folder = test.folder / name
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.socket = self.folder / "vici"
        self.swan = self.folder / "swanctl.conf"
        (self.folder / "strongswan.conf").write_text(guide("strongswan.d/pkifs.conf", PATHS) + f"""
        charon-systemd {{
            load = {self.PLUGINS}
            filelog {{ log {{
                path = {self.log}
                default = 1
                flush_line = yes
            }} }}
            plugins {{
                vici {{
                    socket = unix://{self.socket}
                }}
            }}
        }}
        """)
        self.network = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        self.daemon = None
        self.place = str(test.place)

    def start(self):
        self.daemon = subprocess.Popen(
            ["nsenter", "-n", "-t", str(self.network.pid), "charon-systemd"],
            env={**os.environ, "STRONGSWAN_CONF": str(self.folder / "strongswan.conf"),
                 "PKIFS_PKCS11_SOCKET": self.place},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert until(self.socket.exists, 20), self.said()

    def said(self):
        return self.log.read_text() if self.log.exists() else ""

    def swanctl(self, command, *more):
        done = run("swanctl", command, "--uri", f"unix://{self.socket}", *more)
        return done.stdout + done.stderr

    def load(self, own, peer):
        """A connection of the certificate ids OWN, here, and PEER, there."""
        with open(self.swan, "a") as file:
            file.write(guide("swanctl/conf.d/berlin.conf", {
                "version = 2": "version = 2\nchildless = force",
                "192.0.2.1": self.address,
                "192.0.2.2": "10.9.0.2" if self.address == "10.9.0.1" else "10.9.0.1",
                "/pki/local/www": self.m.point / "local" / own,
                "cacerts = /pki/ca/corp": f"certs = {self.m.point}/local/{peer}",
                "CN=peer.example.net": f"CN={peer}",
                "0123456789abcdef0123456789abcdef01234567": Pkcs11.key_id(self.m, own),
                "berlin": own}))
        said = self.swanctl("--load-all", "--noprompt", "--file", self.swan)
        assert f"loaded key token-{own} from token" in said, said + self.said()

    def stop(self):
        for process in (self.daemon, self.network):
            if process:
                process.kill()
                process.wait()


class Charons:
    """Two of them with a cable between them."""

    def __init__(self, test, m):
        self.ends = [Charon(test, m, "left", "10.9.0.1"), Charon(test, m, "right", "10.9.0.2")]

    def __enter__(self):
        pids = [str(end.network.pid) for end in self.ends]
        here = os.readlink("/proc/self/ns/net")
        assert until(lambda: all(os.readlink(f"/proc/{pid}/ns/net") != here for pid in pids))
        run("ip", "link", "add", "cable", "netns", pids[0], "type", "veth", "peer", "name",
            "cable", "netns", pids[1])
        for end in self.ends:
            for words in ("link set lo up", f"addr add {end.address}/24 dev cable",
                          "link set cable up"):
                run("nsenter", "-n", "-t", str(end.network.pid), "ip", *words.split())
            end.start()
        return self.ends

    def __exit__(self, *_):
        for end in self.ends:
            end.stop()


if __name__ == "__main__":
    main()
