"""Enrollments by CMPv2, EST and ACME with ready-made keys, next to other clients of each."""


import shutil
import subprocess

from bench import Bench, Row, free_port, scaled, until  # first: it has where the others are
from acme import Acme, AcmeTest
from clients import BATCH, ROUNDS, TOGETHER, Client, Pkifs, rates
from cmp import Cmp, CmpCa
from est import Est, EstServer

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{}}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
"""


class OpensslCmp(Client):
    def command(self, name):
        return ["openssl", "cmp", "-cmd", "ir", "-server", self.url, "-ref", "4711", "-secret",
                "pass:secret", "-newkey", "key.pem", "-subject", f"/O=Example/CN={name}.example.net",
                "-sans", f"{name}.example.net", "-certout", "cert.pem"]


class StrongswanEst(Client):
    def command(self, name):
        return ["sh", "-c", f"pki --est --url {self.url} --in csr.pem --cacert {self.anchor} "
                            "--userpass est:secret --outform pem > cert.pem"]


class AcmeClient(Client):
    """With an account of its own, made before, and a folder that a web server serves."""

    web = None

    def __init__(self, bench, server):
        super().__init__(bench, server.url)
        self.tls_ca = server.folder / "tls-ca.pem"
        self.environment |= {"LEGO_CA_CERTIFICATES": str(self.tls_ca),
                             "REQUESTS_CA_BUNDLE": str(self.tls_ca)}
        self.account = self.folder / "account"
        self.account.mkdir()
        self.register()

    def prepare(self, name, key):
        super().prepare(name, key)
        shutil.copytree(self.account, self.folder / name / "account")


class Lego(AcmeClient):
    slow = True

    def lego(self, folder, *csr):
        return ["lego", "--accept-tos", "--email", "admin@example.net", "--server", self.url,
                "--path", folder, "--http", "--http.webroot", self.web, *csr, "run"]

    def register(self):
        self.must(*self.lego(self.account, "-d", "first.example.net"), env=self.environment)
        shutil.rmtree(self.account / "certificates")

    def command(self, name):
        self.done = f"account/certificates/{name}.example.net.crt"
        return self.lego("account", "--csr", "csr.pem")

    def try_once(self, name):
        reason = super().try_once(name)
        made = self.folder / name / f"account/certificates/{name}.example.net.crt"
        return "" if made.exists() else reason


class Certbot(AcmeClient):
    slow = True

    def certbot(self, what, *more):
        return ["certbot", what, "-n", "--server", self.url, "--config-dir", "account",
                "--work-dir", "work", "--logs-dir", "logs", *more]

    def register(self):
        self.must(*self.certbot("register", "--agree-tos", "-m", "admin@example.net"),
                  cwd=self.folder, env=self.environment)

    def command(self, name):
        return self.certbot("certonly", "--webroot", "-w", self.web, "--csr", "csr.pem",
                            "--cert-path", "cert.pem", "--chain-path", "chain.pem",
                            "--fullchain-path", "full.pem")


class Uacme(AcmeClient):
    """It believes the system's CAs alone: these are others where it runs."""

    done = "csr-cert.pem"
    SYSTEM = "/etc/ssl/certs/ca-certificates.crt"

    def register(self):
        hook = self.folder / "hook"
        hook.write_text(f"""#!/bin/sh
[ "$2" = http-01 ] || exit 1
case $1 in
begin) printf %s "$5" >{self.web}/.well-known/acme-challenge/"$4" ;;
*) rm -f {self.web}/.well-known/acme-challenge/"$4" ;;
esac
""")
        hook.chmod(0o755)
        space = subprocess.Popen(["unshare", "-m", "sh", "-c",
                                  f"mount --bind {self.tls_ca} {self.SYSTEM} && echo && "
                                  "exec sleep infinity"], stdout=subprocess.PIPE)
        self.bench.addCleanup(space.wait)
        self.bench.addCleanup(space.kill)
        space.stdout.readline()
        self.uacme = ["nsenter", "-t", str(space.pid), "-m", "--wd=.", "uacme", "-a", self.url,
                      "-y", "-h", hook]
        self.must(*self.uacme, "-c", self.account, "new")

    def command(self, name):
        here = self.folder / name
        return ["sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", here, *self.uacme, "-c",
                here / "account", "issue", here / "csr.pem"]


ACME_CLIENTS = scaled((Uacme, Lego, Certbot), (Uacme,))


class CmpBench(Bench, Cmp):
    def certificate_id(self, mount, name):
        self.cmp_id(mount, name, key="")

    def sides(self):
        ca, mount = CmpCa(self, "-P", "ca.pem"), self.mount()
        self.profile(mount, ca)
        return [Pkifs(self, mount), OpensslCmp(self, ca.url)]


class EstBench(Bench, Est):
    def certificate_id(self, mount, name):
        self.est_id(mount, name, more="key-type = rsa\n")

    def sides(self):
        server = EstServer(self, "-e", "none")  # pki reads base64 in one line alone
        client = StrongswanEst(self, server.url)
        client.anchor = server.anchor
        return [Pkifs(self, self.mount_with(server)), client]


class AcmeBench(Bench, AcmeTest):
    def certificate_id(self, mount, name):
        AcmeTest.certificate_id(self, mount, name, more="key-type = rsa\n")

    def web(self):
        """A web server, and the CA that asks it."""
        port, folder = free_port(), self.folder / "web"
        (folder / ".well-known/acme-challenge").mkdir(parents=True)
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
        nginx = subprocess.Popen(["nginx", "-e", folder / "nginx.log", "-c", folder / "nginx.conf"])
        self.addCleanup(nginx.wait)
        self.addCleanup(nginx.terminate)
        until((folder / "nginx.pid").exists)
        server = Acme(self, start=False, NONCE="0")
        server.environment["HTTP"] = str(port)
        server.start()
        AcmeClient.web = folder
        return server

    def sides(self):
        ours, theirs = Acme(self, NONCE="0"), self.web()
        mount = self.acme_mount(ours)
        self.profile(mount, ours)
        return [Pkifs(self, mount), *(client(self, theirs) for client in ACME_CLIENTS)]


def compared(protocol, pkifs, peers, alone, together):
    """The rows of one protocol; the aims are against the best of the peers."""
    names = [type(peer).__name__ for peer in peers]
    best = together[1:].index(max(together[1:]))
    for name, theirs in zip(names, alone[1:]):
        yield Row(f"{protocol}: one enrollment", f"{1000 / alone[0]:.0f} ms",
                  f"{name} {1000 / theirs:.0f} ms", theirs / alone[0])
    for number, (name, theirs) in enumerate(zip(names, together[1:])):
        yield Row(f"{protocol}: enrollments a second, {TOGETHER} at a time", f"{together[0]:.1f}",
                  f"{name} {theirs:.1f}", together[0] / theirs, ">= 2" if number == best else None)
    least = min(peers, key=lambda peer: peer.cpu_of_one())
    for name, peer in zip(names, peers):
        yield Row(f"{protocol}: CPU of one enrollment", f"{pkifs.cpu_of_one():.1f} ms",
                  f"{name} {peer.cpu_of_one():.1f} ms", pkifs.cpu_of_one() / peer.cpu_of_one(),
                  "<= 0.5" if peer is least else None)


def measure():
    for protocol, kind in (("CMPv2", CmpBench), ("EST", EstBench), ("ACME", AcmeBench)):
        with kind() as bench:
            pkifs, *peers = bench.sides()
            yield from compared(protocol, pkifs, peers, *rates(pkifs, *peers))


NOTE = f"""\
**CMPv2, EST, ACME**: as enrollments by SCEP, with RSA keys of 2048 bits made before, next to a \
process each of `openssl cmp` (PKCS#10 not needed; no chain is validated), strongSwan's `pki \
--est`, uacme, lego and certbot (accounts registered and PKCS#10 made before; http-01 by files that \
nginx serves, pkifs by its own port). The aims are against the best of a protocol's. CAs: those of \
`tests/lab`, and for ACME pebble without waits and rejected nonces. {BATCH} enrollments, {ROUNDS} \
rounds in turns, median; of lego and certbot, which take seconds for one, fewer where one follows \
another."""
