"""CRLs by LDAP, from OpenLDAP's slapd."""

import base64
import contextlib
import os
import re
import socket
import threading

from ca_texts import must
from harness import LAB, Test, free_port, main, run, until

CONFIG = """[ca]
default_ca = lab
[lab]
database = {0}/index
crlnumber = {0}/number
default_md = sha256
default_crl_days = 30
crl_extensions = crl
[crl]
authorityKeyIdentifier = keyid
"""


def der(tag, content):
    """CONTENT (less than 4 GB) as DER, with a length of four bytes."""
    return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content


class Ca:
    """A CA whose CRLs are files."""

    def __init__(self, folder, subject="/DC=lab/O=Müller, \"AG\" \\+ Söhne/CN=Example CA"):
        self.folder = folder
        folder.mkdir()
        must("openssl", "req", "-x509", "-utf8", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-subj", subject,
             "-days", "90", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        (folder / "config").write_text(CONFIG.format(folder))
        (folder / "index").write_text("")
        (folder / "number").write_text("01\n")

    def crl(self):
        """The next one, in DER."""
        must("openssl", "ca", "-config", self.folder / "config", "-gencrl", "-keyfile",
             self.folder / "ca.key", "-cert", self.folder / "ca.pem", "-out", self.folder / "crl.pem")
        must("openssl", "crl", "-in", self.folder / "crl.pem", "-outform", "DER", "-out",
             self.folder / "crl.der")
        return (self.folder / "crl.der").read_bytes()

    def pem(self):
        return (self.folder / "ca.pem").read_text()


def entry(dn, *values, attribute="certificateRevocationList;binary"):
    """An entry in LDIF; its CRLs are VALUES."""
    coded = base64.b64encode(dn.encode()).decode()
    lines = [f"dn:: {coded}", "objectClass: cRLDistributionPoint"]
    lines += [f"{attribute}:: {base64.b64encode(value).decode()}" for value in values]
    return "\n".join(lines) + "\n\n"


class Listener:
    """A server that answers nobody: what it hears."""

    def __init__(self):
        self.all = []  # of each who came
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"ldap://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        with contextlib.suppress(OSError):
            while True:
                with self.socket.accept()[0] as one:
                    self.all.append(one.recv(10000))

    def heard(self, first=0):
        return b"\n".join(self.all[first:])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Ldap(Test):
    def setUp(self):
        super().setUp()
        self.ca = Ca(self.folder / "ca")

    def serve(self, *entries, **environment):
        """slapd with these; its port, and that of ldaps."""
        port, tls = free_port(), free_port()
        folder = self.folder / f"ldap-{port}"
        folder.mkdir()
        (folder / "entries.ldif").write_text("".join(entries))
        done = run(LAB / "ldap-server", folder, port,
                   env={**os.environ, "LDAPS": str(tls), **environment})
        self.addCleanup(run, LAB / "ldap-server", "stop", folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.tls_ca = (folder / "tls-ca.pem").read_text()
        return port, tls

    def profile(self, mount, url, more="", name="corp"):
        os.mkdir(mount.point / "ca" / name)
        mount.write(f"ca/{name}/cert.pem", self.ca.pem())
        mount.write(f"ca/{name}/config", f"crl-url = {url}\n{more}enrollment-retry-interval = 3600\n")

    def fetch(self, mount, url, more=""):
        """What becomes of `refresh-crl` with URL."""
        name = f"p{len(os.listdir(mount.point / 'ca'))}"
        self.profile(mount, url, more, name)
        mount.write(f"ca/{name}/request", "refresh-crl\n")
        self.assertTrue(until(lambda: mount.status(f"ca/{name}")["request"] in ("done", "failed")
                              or mount.status(f"ca/{name}")["last-error"]))
        status = mount.status(f"ca/{name}")
        return status["last-error"] or status.get("crl-number")

    def test_each_way_to_name_it(self):
        crls = [self.ca.crl() for _ in range(4)]
        dns = must("openssl", "x509", "-in", self.ca.folder / "ca.pem", "-noout", "-subject",
                   "-nameopt", "RFC2253,-esc_msb").removeprefix("subject=").strip()
        self.assertEqual(dns, 'CN=Example CA,O=Müller\\, \\"AG\\" \\+ Söhne,DC=lab')
        above = dns.split(",", 1)[1]
        organization = (f"dn:: {base64.b64encode(above.encode()).decode()}\n"
                        "objectClass: organization\n\n")
        port, tls = self.serve(
            entry("cn=open,dc=lab", crls[0]), organization, entry(dns, crls[1]),
            entry("cn=two,dc=lab", crls[2], crls[3], crls[1]),
            entry("cn=arl,dc=lab", crls[2], attribute="authorityRevocationList;binary"),
            entry("cn=closed,ou=closed,dc=lab", crls[3]))
        m = self.mount()
        os.mkdir(m.point / "ca/tls")
        m.write("ca/tls/cert.pem", self.tls_ca)
        server, by_tls = f"ldap://127.0.0.1:{port}", "tls-ca = tls\n"
        quoted = "cn=Example%20CA,o=M%C3%BCller%5C,%20%5C%22AG%5C%22%20%5C+%20S%C3%B6hne,dc=lab"
        user = 'crl-url-user = "cn=reader,dc=lab"\ncrl-url-password = secret\n'
        for url, more, number in (
                (f"{server}/cn=open,dc=lab", "", "1"),
                (f"{server}/cn=open,dc=lab?certificateRevocationList;binary?base", "", "1"),
                (f"{server}/cn=open,dc=lab?certificateRevocationList?base?objectClass=*", "", "1"),
                (f"{server}/{quoted}", "", "2"),
                (server, "", "2"),
                (f"{server}/?certificateRevocationList", "", "2"),
                (f"{server}/cn=two,dc=lab", "", "4"),
                (f"{server}/cn=arl,dc=lab?authorityRevocationList", "", "3"),
                (f"{server}/cn=closed,ou=closed,dc=lab", user, "4"),
                (f"ldaps://127.0.0.1:{tls}/cn=open,dc=lab", by_tls, "1"),
                (f"ldaps://localhost:{tls}/cn=closed,ou=closed,dc=lab", by_tls + user, "4")):
            self.assertEqual(self.fetch(m, url, more), number, url)
        self.assertEqual(m.status("ca/p1")["crl-source"], f"{server}/cn=open,dc=lab")
        self.assertNotIn("secret", m.read("ca/p9/config") + m.read("events") + m.log.read_text())

    def test_each_refusal_says_what_and_why(self):
        crl = self.ca.crl()
        other = Ca(self.folder / "other", "/CN=Other CA")
        port, tls = self.serve(
            entry("cn=none,dc=lab"), entry("cn=closed,ou=closed,dc=lab", crl),
            entry("cn=other,dc=lab", other.crl()),
            "dn: ou=away,dc=lab\nobjectClass: referral\nobjectClass: extensibleObject\n"
            f"ou: away\nref: ldap://127.0.0.1:{free_port()}/dc=lab\n\n")
        m = self.mount()
        for name, pem in (("tls", self.tls_ca), ("wrong", other.pem())):
            os.mkdir(m.point / "ca" / name)
            m.write(f"ca/{name}/cert.pem", pem)
        server, by_tls, dead = f"ldap://127.0.0.1:{port}", f"ldaps://127.0.0.1:{tls}", free_port()
        user = 'crl-url-user = "cn=reader,dc=lab"\n'
        for url, more, words in (
                (f"{server}/cn=missing,dc=lab", "", "cn=missing,dc=lab: the server has no such entry"),
                (f"{server}/cn=none,dc=lab", "", "cn=none,dc=lab: the entry has no CRL"),
                (f"{server}/cn=closed,ou=closed,dc=lab", "", "or shows it to others"),
                (f"{server}/cn=closed,ou=closed,dc=lab", user + "crl-url-password = wrong\n",
                 "refuses the user (crl-url-user, crl-url-password): Invalid credentials"),
                (f"{server}/cn=closed,ou=closed,dc=lab", user, "needs crl-url-password"),
                (f"{server}/cn=crl,ou=away,dc=lab", "", "refers to another server, which is not asked"),
                (f"{server}/garbage", "", "Invalid DN syntax"),
                (server, "", "the server has no such entry"),
                (f"{server}/cn=other,dc=lab", "", "the CRL is of another issuer"),
                (f"{by_tls}/cn=none,dc=lab", "tls-ca = wrong\n",
                 "does not prove who it is: unable to get local issuer certificate"),
                (f"{by_tls}/cn=none,dc=lab", "", "does not prove who it is"),
                (f"ldaps://127.1:{tls}/cn=none,dc=lab", "tls-ca = tls\n",
                 "does not prove who it is: hostname mismatch"),
                (f"{server.replace('127.0.0.1', '127.0.0.2')}/cn=none,dc=lab", "",
                 "Connection refused"),
                (f"ldaps://127.0.0.1:{port}/cn=none,dc=lab", "", "closes the connection as it begins"),
                (f"ldap://127.0.0.1:{dead}/dc=lab", "",
                 f"cannot reach ldap://127.0.0.1:{dead}/dc=lab: Connection refused"),
                ("ldap://ldap.invalid/dc=lab", "",
                 "cannot reach ldap://ldap.invalid/dc=lab: its name is not known")):
            self.assertIn(words, self.fetch(m, url, more), url)
        os.mkdir(m.point / "ca/bad")
        for url, words in (("ldap:///dc=lab", "is not a host"), ("ldap://a/dc=lab?x?sub", "scope"),
                           ("ldap://a/dc=lab?x?base??!bindname=cn=a", "critical")):
            with self.assertRaises(OSError):
                m.write("ca/bad/config", f"crl-url = {url}\n")
            self.assertIn(words, m.status("ca/bad")["last-error"])

    def test_the_next_url_is_tried_and_the_one_before_too_large(self):
        """64 MiB is the limit. A CRL of 65 MiB is one that slapd takes, with a signature that is none."""
        crl = self.ca.crl()
        lines = must("openssl", "asn1parse", "-inform", "DER", "-in",
                     self.ca.folder / "crl.der").splitlines()
        begin = {depth: [int(line.split(":")[0]) for line in lines if f":d={depth}" in line]
                 for depth in (1, 2)}
        tail = begin[1][1]  # what is behind the part that is signed
        parts = [at for at in begin[2] if at < tail]
        one = bytes.fromhex("302302147fffffffffffffffffffffffffffffffffffffff"
                            "170d3236303130313030303030305a")
        one = one[:1] + bytes([len(one) - 2]) + one[2:]
        revoked = der(0x30, one * (65 * 2 ** 20 // len(one)))
        extensions = parts[-1]
        tbs = der(0x30, crl[parts[0]:extensions] + revoked + crl[extensions:tail])
        port, _ = self.serve(entry("cn=large,dc=lab", der(0x30, tbs + crl[tail:])),
                             entry("cn=small,dc=lab", crl))
        m = self.mount()
        server = f"ldap://127.0.0.1:{port}"
        self.assertIn(f"{server}/cn=large,dc=lab sends more than 67108864 bytes",
                      self.fetch(m, f"{server}/cn=large,dc=lab"))
        self.profile(m, f"{server}/cn=large,dc=lab\ncrl-url = {server}/cn=small,dc=lab")
        self.assertEqual(m.request("ca/corp", "refresh-crl"), "ok")
        self.assertEqual(m.status("ca/corp")["crl-source"], f"{server}/cn=small,dc=lab")

    def test_a_dead_server_holds_up_nobody(self):
        port, _ = self.serve(entry("cn=open,dc=lab", self.ca.crl()))
        m = self.mount()
        with socket.create_server(("127.0.0.1", 0)) as dead:
            url = f"ldap://127.0.0.1:{dead.getsockname()[1]}/dc=lab"
            self.profile(m, url)
            m.write("ca/corp/request", "refresh-crl\n")
            self.assertTrue(until(lambda: m.status("ca/corp")["request"] == "running"))
            self.assertEqual(self.fetch(m, f"ldap://127.0.0.1:{port}/cn=open,dc=lab"), "1")
            self.assertEqual(m.status("ca/corp")["request"], "running")
            m.write("ca/corp/request", "cancel\n")
            self.assertEqual(m.status("ca/corp")["last-error"], "cancelled")

    def pointing(self, m, point):
        """local/www has a certificate with the distribution point POINT; the name is [name]."""
        folder = self.ca.folder
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "ca-profile = corp\nsubject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(m.request("local/www", "generate-csr"), "ok")
        (folder / "csr").write_text(m.read("local/www/csr.pem"))
        (folder / "extensions").write_text(
            f"crlDistributionPoints = point\n[point]\nfullname = {point}\n"
            "[name]\n1.DC = lab\n2.OU = closed\nCN = \"Point, of Corp\"\n")
        must("openssl", "x509", "-req", "-in", folder / "csr", "-CA", folder / "ca.pem", "-CAkey",
             folder / "ca.key", "-extfile", folder / "extensions", "-days", "30", "-out",
             folder / "www.pem")
        m.write("local/www/cert.pem", (folder / "www.pem").read_text())

    def is_good(self, m):
        return m.status("local/www")["revocation"].startswith("good (CRL")

    def test_a_distribution_point_that_is_a_name_alone(self):
        """It is an entry of the server that the config names, and asked for as its user."""
        port, tls = self.serve(entry("cn=Point\\, of Corp,ou=closed,dc=lab", self.ca.crl()))
        m = self.mount()
        os.mkdir(m.point / "ca/tls")
        m.write("ca/tls/cert.pem", self.tls_ca)
        url = f"ldaps://127.0.0.1:{tls}/?certificateRevocationList;binary"
        config = f"crl-url = ldap://127.0.0.1:{port}/dc=lab\ncrl-url = {url}\ntls-ca = tls\n"
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/cert.pem", self.ca.pem())
        m.write("ca/corp/config", config)
        self.pointing(m, "dirName:name")
        self.assertTrue(until(lambda: re.search("CN=Point.*shows it to others",
                                                m.read("ca/corp/status"))), m.read("ca/corp/status"))
        m.write("ca/corp/config", config + 'crl-url-user = "cn=nobody,dc=lab"\n'
                'crl-url-user = "cn=reader,dc=lab"\ncrl-url-password = x\n'
                "crl-url-password = secret\n")
        self.assertTrue(until(lambda: self.is_good(m)), m.read("ca/corp/status"))
        self.assertIn("/CN=Point", m.status("ca/corp")["crl-source"])
        self.assertNotIn("secret", m.read("ca/corp/status") + m.read("events") + m.log.read_text())

    def test_the_password_is_for_the_server_that_the_config_names(self):
        """Not for one that a certificate names, or that the config named before."""
        port, _ = self.serve(entry("cn=Point\\, of Corp,ou=closed,dc=lab", self.ca.crl()))
        user = 'crl-url-user = "cn=reader,dc=lab"\ncrl-url-password = secret\n'
        m = self.mount()
        with Listener() as stranger, Listener() as former:
            self.profile(m, former.url, user)
            self.pointing(m, f"dirName:name,URI:{stranger.url}/dc=lab")
            self.assertTrue(until(lambda: m.read("ca/corp/status").count("crl-fetch-error") == 3))
            self.assertEqual(former.heard().count(b"secret"), 2)  # as its entry and as all others
            count = len(former.all)
            m.write("ca/corp/config", f"crl-url = ldap://127.0.0.1:{port}\n{user}")
            self.assertTrue(until(lambda: self.is_good(m)), m.read("ca/corp/status"))
            self.assertTrue(until(lambda: len(former.all) > count))
            for heard in (stranger.heard(), former.heard(count)):
                self.assertNotIn(b"secret", heard)
                self.assertNotIn(b"reader", heard)
            self.assertIn(b"dc=lab", stranger.heard())
            self.assertIn(b"Point", former.heard(count))


if __name__ == "__main__":
    main()
