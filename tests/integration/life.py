"""The life of a certificate in steps, each acknowledged; and what must be there whenever one looks.

What a file may hold is noted twice for each step: before it (what was or what comes), and when it
is acknowledged (what came, nothing else). So whoever breaks something in the middle knows what
must be left."""

import errno
import os
import pathlib
import ssl
import stat
import tempfile
import time

from harness import run, shell
from scep import Ca

SOMETHING = "something"  # content that is not known before it is there
ABSENT = None
TRIES = 5  # of a step that is refused


class Stock:
    """What a life needs from outside, made once: a CA that answers, keys, certificates, a CRL."""

    def __init__(self, test):
        self.ca = Ca(test)
        self.folder = test.folder / "stock"
        self.folder.mkdir()
        self.rsa = [self.made("openssl genrsa 2048") for _ in range(2)]
        self.ec = self.made("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256")
        (self.folder / "ec").write_text(self.ec)
        self.by_hand = self.made(f"openssl req -x509 -new -key {self.folder}/ec -subj /CN=hand")
        (self.folder / "index").touch()
        (self.folder / "number").write_text("10\n")
        (self.folder / "conf").write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.folder}/index\n"
            f"crlnumber={self.folder}/number\ndefault_md=sha256\ndefault_crl_days=7\n")
        self.crl = self.gencrl()

    def gencrl(self):
        return self.made(f"openssl ca -config {self.folder}/conf -cert {self.ca.folder}/ca.pem"
                         f" -keyfile {self.ca.folder}/ca.key -batch -gencrl")

    def revoking(self, serial):
        """A CRL that has SERIAL (hexadecimal)."""
        with open(self.folder / "index", "a") as index:
            index.write(f"R\t400101000000Z\t200101000000Z\t{serial}\tunknown\t/CN=www\n")
        return self.gencrl()

    @staticmethod
    def made(command):
        done = shell(command + " 2>/dev/null")
        assert done.returncode == 0, command
        return done.stdout


def value(point, path):
    """What there is at PATH; of `PATH#mode` its mode; ABSENT."""
    path, _, mode = path.partition("#")
    try:
        if mode:
            return stat.S_IMODE(os.stat(point / path).st_mode)
        return "folder" if (point / path).is_dir() else (point / path).read_text()
    except FileNotFoundError:
        return ABSENT


def wrong(point, may):
    """What at the mount POINT is not as it MAY be, in words."""
    found = []
    for path, values in may.items():
        now = value(point, path)
        if now not in values and not (SOMETHING in values and now):
            found.append(f"{path} is {now!r}, not one of {values!r}"[:2000])
    for folder in sorted((point / "local").iterdir()):
        for name in ("", *(f"versions/{n}/" for n in sorted(os.listdir(folder / "versions")))):
            bundle = folder / f"{name}bundle.pem"
            if bundle.exists():
                try:  # a copy: load_cert_chain opens it twice, and a renewal may lie between
                    with tempfile.NamedTemporaryFile() as copy:
                        copy.write(bundle.read_bytes())
                        copy.flush()
                        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(copy.name)
                except (ssl.SSLError, OSError) as error:
                    found.append(f"{bundle}: {error}")
    return found


class Life:
    """One life on MOUNT; NAME sets its objects apart from those of another one."""

    def __init__(self, mount, stock, name="life"):
        self.m, self.stock = mount, stock
        self.profile, self.www, self.hand, self.own = (
            f"ca/{name}", f"local/{name}", f"local/{name}-hand", f"local/{name}-own")
        self.may = {}
        self.history = []  # (time, what was `may` from then on)
        self.refused = None  # told of each error; the step is then tried again

    def note(self, may):
        self.may = {**self.may, **may}
        self.history.append((time.time(), self.may))

    def step(self, action, comes):
        """Does ACTION, of which COMES = {path: content} comes."""
        self.note({path: (*self.may.get(path, (ABSENT,)), new) for path, new in comes.items()})
        for _ in range(TRIES):
            try:
                action()
                break
            except OSError as error:
                if not self.refused:
                    raise
                self.refused(error)
        else:
            raise AssertionError(f"refused {TRIES} times: {sorted(comes)}")
        self.note({path: (self.now(path) if new is SOMETHING else new,)
                   for path, new in comes.items()})

    def now(self, path):
        content = value(self.m.point, path)
        assert content, f"{path} is acknowledged, and not there"
        return content

    def make(self, path):
        self.step(lambda: os.mkdir(self.m.point / path), {path: "folder", f"{path}/config": ""})

    def put(self, path, text, secret=None):
        self.step(lambda: self.m.write(path, text),
                  {path: text.replace(f"= {secret}", "= ***")})

    def chmod(self, path, mode):
        kept = f"{path}#mode"
        self.note({kept: (value(self.m.point, kept),)})  # until it is acknowledged
        self.step(lambda: os.chmod(self.m.point / path, mode), {kept: mode})

    def ask(self, path, text, comes):
        def asked():
            answer = self.m.request(path, text)
            if answer != "ok" and self.m.ends(path):  # else it is tried again by itself
                answer = self.m.wait(path)
            if answer != "ok":
                raise OSError(errno.ECANCELED, f"{text!r} ended with {answer!r}", path)
        self.step(asked, comes)

    def remove(self, path):
        under = {known: ABSENT for known in self.may if known.startswith(path)
                 and known[len(path):][:1] in ("", "/")}
        self.step(lambda: os.rmdir(self.m.point / path), under)

    def begin(self):
        """A trusted profile, a key, a first certificate."""
        self.make(self.profile)
        self.put(f"{self.profile}/config", f"enrollment-url = {self.stock.ca.url}\n"
                 "enrollment-retry-interval = 0\n")
        self.ask(self.profile, "enroll", {f"{self.profile}/pending.pem": SOMETHING})
        self.step(lambda: self.m.write(f"{self.profile}/confirm", "yes\n"),
                  {f"{self.profile}/cert.pem": SOMETHING, f"{self.profile}/pending.pem": ABSENT})
        self.make(self.www)
        self.put(f"{self.www}/config", f"ca-profile = {pathlib.Path(self.profile).name}\n"
                 "subject = CN=www.example.net,O=Example\ndomain-name = www.example.net\n"
                 "challenge-password = secret\n", secret="secret")
        self.put(f"{self.www}/key.pem", self.stock.rsa[0])
        self.chmod(f"{self.www}/key.pem", 0o640)
        self.ask(self.www, "enroll", {f"{self.www}/cert.pem": SOMETHING,
                                      f"{self.www}/versions/1/cert.pem": SOMETHING})

    def renew(self):
        """A second key, which waits for its certificate."""
        self.step(lambda: self.m.write(f"{self.www}/key.pem", self.stock.rsa[1]), {})
        self.ask(self.www, "re-enroll", {f"{self.www}/cert.pem": SOMETHING,
                                         f"{self.www}/key.pem": self.stock.rsa[1],
                                         f"{self.www}/versions/2/cert.pem": SOMETHING})

    def others(self):
        """A certificate loaded by hand, one that signs itself, a CRL."""
        self.put(f"{self.profile}/crl.pem", self.stock.crl)
        self.make(self.hand)
        self.put(f"{self.hand}/key.pem", self.stock.ec)
        self.put(f"{self.hand}/cert.pem", self.stock.by_hand)
        self.make(self.own)
        self.put(f"{self.own}/config", "subject = CN=own\nkey-type = ecdsa\n")
        self.ask(self.own, "generate-self-signed", {f"{self.own}/cert.pem": SOMETHING,
                                                    f"{self.own}/key.pem": SOMETHING})

    def live(self):
        self.begin()
        self.renew()
        self.others()
        self.remove(self.hand)

    def end(self):
        """Nothing of it is left."""
        for path in (self.hand, self.own, self.www, self.profile):
            if (self.m.point / path).exists():
                self.remove(path)

    def wrong(self):
        return wrong(self.m.point, self.may)
