"""IKE daemons on the two hosts of xfrm_hosts, strongSwan's charon and libreswan's pluto: plain peers,
configured as their users do; a charon without connections is there for a pkifs to use."""

import os
import pathlib
import shutil
import signal
import subprocess

from harness import run, until
from x509 import KEY_IDS, LEAF, Authority
from xfrm_hosts import on

LIBRESWAN = pathlib.Path("/opt/libreswan")  # packaging/deps unpacks the package there
# Not what Debian's packages load by themselves: no file in /etc, no resolver, nothing else's keys.
PLUGINS = ("random nonce openssl kdf pem pkcs1 pkcs8 x509 pubkey revocation constraints "
           "kernel-netlink socket-default vici")
KEYS = {"rsa": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        "p256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        "p384": ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        "ed25519": ("ED25519",)}
OTHER = {"left": "right", "right": "left"}
NETWORKS = {"left": "10.1.0.0/24", "right": "10.2.0.0/24"}


class Pki:
    """A CA, and for each host a certificate of that KEY's kind: HOST.pem, HOST.key beside ca.pem.
    The hosts are called HOST.example.net."""

    def __init__(self, folder, key="p256", name="Lab"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.authority = Authority(self.folder, name)
        shutil.copy(self.authority.file, self.folder / "ca.pem")
        self.serials = {}
        for host in OTHER:
            self.issue(host, key)
        self.publish()

    def issue(self, host, key="p256"):
        """A new key and certificate for a host."""
        file = self.folder / f"{host}.key"
        Authority.openssl("genpkey", "-quiet", "-algorithm", *KEYS[key], "-out", file)
        (self.folder / f"{host}.pem").write_text(self.authority.server(
            f"{host}.example.net", key=file))
        self.serials[host] = self.authority.serial

    def publish(self, *revoked):
        """A CRL, which names the certificates of these hosts: crl.pem."""
        self.authority.revoked = [self.serials[host] for host in revoked]
        (self.folder / "crl.pem").write_text(self.authority.crl())

    def read(self, name):
        return (self.folder / name).read_text()

    def fingerprint(self, host):
        return Authority.openssl("x509", "-in", self.folder / f"{host}.pem", "-noout", "-sha256",
                                 "-fingerprint").split("=")[1].strip()


class Daemon:
    """A program on a host, with a folder of its own, that a test starts, stops and kills."""

    def __init__(self, test, host, name):
        self.host = host
        self.folder = test.folder / f"{name}-{host}"
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.process = None
        test.addCleanup(self.stop, signal.SIGKILL)

    def spawn(self, *command, **environment):
        with on(self.host), open(self.folder / "out", "ab") as out:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, **environment})

    def ready(self, file):
        """Waits for a socket of its."""
        if not until(lambda: file.exists() or self.process.poll() is not None) or not file.exists():
            raise AssertionError(f"{self.host}: no {file}: " + self.said()[-3000:])

    def said(self):
        return "".join(file.read_text(errors="replace")
                       for file in (self.folder / "out", self.log) if file.exists())

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def must(self, *command, **environment):
        """What a command says on that host, which must do."""
        with on(self.host):
            done = run(*command, env={**os.environ, **environment})
        if done.returncode != 0:
            raise AssertionError(f"{self.host}: {command}: {done.stdout}{done.stderr}"
                                 f"\n{self.said()[-6000:]}")
        return done.stdout


class Charon(Daemon):
    """strongSwan's charon, which needs no systemd, driven by VICI at `socket`."""

    def __init__(self, test, host, plugins=PLUGINS, more=""):
        super().__init__(test, host, "charon")
        self.socket = self.folder / "charon.vici"
        self.conf = self.folder / "strongswan.conf"
        self.conf.write_text(f"""charon-systemd {{
    load = {plugins}
    filelog {{ log {{ path = {self.log}
        time_format = %T
        time_add_ms = yes
        default = 1
        flush_line = yes }} }}
    journal {{ default = -1 }}
    plugins {{ vici {{ socket = unix://{self.socket} }} }}
    {more}
}}
swanctl {{
    load = pem pkcs1 pkcs8 x509 openssl
    socket = unix://{self.socket}
}}
""")
        self.start()

    def start(self):
        self.socket.unlink(missing_ok=True)
        self.spawn("charon-systemd", STRONGSWAN_CONF=str(self.conf))
        self.ready(self.socket)

    def swanctl(self, *words):
        return self.must("swanctl", *words, STRONGSWAN_CONF=str(self.conf),
                         SWANCTL_DIR=str(self.folder))

    def load(self, pki, local, remote, ike="aes256gcm16-prfsha384-ecp384",
             esp="aes256gcm16-ecp384", networks=None, more="", child=""):
        """A connection `t` as a plain peer has it, with its child `net`."""
        mine, theirs = (networks or NETWORKS)[self.host], (networks or NETWORKS)[OTHER[self.host]]
        for folder, files in {"x509": [f"{self.host}.pem"], "x509ca": ["ca.pem"],
                              "private": [f"{self.host}.key"], "x509crl": ["crl.pem"]}.items():
            (self.folder / folder).mkdir(exist_ok=True)
            for file in files:
                shutil.copy(pki.folder / file, self.folder / folder)
        (self.folder / "swanctl.conf").write_text(f"""connections {{ t {{
    version = 2
    local_addrs = {local}
    remote_addrs = {remote}
    proposals = {ike}
    local {{ auth = pubkey
        certs = {self.host}.pem
        id = {self.host}.example.net }}
    remote {{ auth = pubkey
        id = {OTHER[self.host]}.example.net
        cacerts = ca.pem }}
    {more}
    children {{ net {{
        local_ts = {mine}
        remote_ts = {theirs}
        esp_proposals = {esp}
        {child} }} }}
}} }}
""")
        self.swanctl("--load-all", "--noprompt")

    def up(self):
        return self.swanctl("--initiate", "--child", "net", "--timeout", 20)

    def is_up(self):
        return "ESTABLISHED" in self.swanctl("--list-sas")


class Pluto(Daemon):
    """libreswan's. Its package excludes strongSwan's: it is unpacked and laid over /usr, for its own
    eyes."""

    def __init__(self, test, host, name="pluto"):
        super().__init__(test, host, name)
        self.control = self.folder / "pluto.ctl"
        self.nss = f"sql:{self.folder}"
        self.conf = self.folder / "ipsec.conf"
        self.conf.write_text("config setup\n")
        self.must("certutil", "-N", "-d", self.nss, "--empty-password")

    def inside(self, *command):
        """The command, in its mount namespace."""
        return "nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", *command

    def start(self):
        (self.folder / "secrets").write_text("")
        self.spawn("unshare", "--mount", "sh", "-ec", f"""
            mount -t overlay overlay -o lowerdir={LIBRESWAN}/usr:/usr /usr
            exec /usr/libexec/ipsec/pluto --nofork --config {self.conf} --rundir {self.folder} \
                --nssdir {self.folder} --ipsecdir {self.folder} --logfile {self.log} \
                --secretsfile {self.folder}/secrets""")
        self.ready(self.control)

    def load(self, pki, local, remote, ike="aes_gcm256-sha2_384-dh20", esp="aes_gcm256",
             authby="ecdsa", networks=None, more=""):
        """A connection `t` as a plain peer has it."""
        mine, theirs = (networks or NETWORKS)[self.host], (networks or NETWORKS)[OTHER[self.host]]
        bundle = self.folder / "bundle.p12"
        self.must("openssl", "pkcs12", "-export", "-in", pki.folder / f"{self.host}.pem", "-inkey",
                  pki.folder / f"{self.host}.key", "-certfile", pki.folder / "ca.pem", "-name",
                  self.host, "-passout", "pass:", "-out", bundle)
        self.must("pk12util", "-i", bundle, "-d", self.nss, "-W", "", "-K", "")
        self.must("certutil", "-M", "-d", self.nss, "-n", pki.authority.name, "-t", "CT,C,C")
        with open(self.conf, "a") as conf:
            conf.write(f"""conn t
    left={local}
    leftid=@{self.host}.example.net
    leftcert={self.host}
    leftsendcert=always
    leftsubnet={mine}
    right={remote}
    rightid=@{OTHER[self.host]}.example.net
    rightca=%same
    rightsubnet={theirs}
    ikev2=insist
    authby={authby}
    ike={ike}
    esp={esp}
    auto=ignore
    {more}
""")
        self.start()
        self.must(*self.inside("/usr/libexec/ipsec/addconn", "--config", self.conf, "--ctlsocket",
                               self.control, "t"))

    def up(self):
        return self.must(*self.inside("timeout", 20, "/usr/libexec/ipsec/whack", "--ctlsocket",
                                      self.control, "--name", "t", "--initiate"))
