"""CRLs of every kind, made byte by byte, CAs that sign them, and a server that hands them out."""

import base64
import http.server
import os
import pathlib
import threading
import time

from harness import run

OIDS = {"number": "551d14", "delta": "551d1b", "scope": "551d1c", "key": "551d23",
        "reason": "551d15", "issuer": "551d1d", "freshest": "551d2e", "points": "551d1f"}
SHA256_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def der(tag, *contents):
    content = b"".join(contents)
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def integer(number):
    return der(2, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def moment(seconds):
    return der(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(seconds)).encode())


def extension(name, value, critical=False):
    return der(0x30, der(6, bytes.fromhex(OIDS.get(name, name))),
               der(1, b"\xff") if critical else b"", der(4, value))


def uri_point(url):
    """DistributionPointName with a URL."""
    return der(0xa0, der(0xa0, der(0x86, url.encode())))


def entry(serial, when, reason=None, issuer=None, more=b""):
    extensions = more
    if reason is not None:
        extensions += extension("reason", der(10, bytes([reason])))
    if issuer is not None:
        extensions += extension("issuer", der(0x30, der(0xa4, issuer)), critical=True)
    return der(0x30, integer(serial), moment(when),
               der(0x30, extensions) if extensions else b"")


def many(count):
    """So many entries with random serial numbers of 16 bytes, the first of them 1 to 9."""
    when = moment(time.time())
    fixed = len(when) + 18
    random = os.urandom(11 * count)
    begin = bytes([0x30, fixed, 2, 16, 0x11])
    return b"".join(entry(serial, time.time()) for serial in range(1, 10)) + b"".join(
        begin + i.to_bytes(4, "big") + random[11 * i:11 * i + 11] + when for i in range(count - 9))


class Authority:
    """A CA: key and certificate, of ISSUER or of itself, and what it revokes."""

    def __init__(self, folder, name="CA", issuer=None, key=None, usage="keyCertSign,cRLSign",
                 more=()):
        self.folder = folder
        stem = f"{folder}/{name}-{len(os.listdir(folder))}"
        self.key, self.pem = key or f"{stem}.key", f"{stem}.pem"
        if not key:
            self.made("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                      "ec_paramgen_curve:P-256", "-out", self.key)
        signer = ["-CA", issuer.pem, "-CAkey", issuer.key] if issuer else []
        self.made("openssl", "req", "-x509", "-new", "-key", self.key, *signer, "-days", "90",
                  "-subj", f"/CN={name}", "-addext", f"keyUsage=critical,{usage}", "-out", self.pem,
                  *[word for line in more for word in ("-addext", line)])
        self.certificate = pathlib.Path(self.pem).read_text()
        body = base64.b64decode("".join(self.certificate.split("-----")[2].split()))
        self.der = body
        self.name = self.subject(body)

    @staticmethod
    def made(*command):
        done = run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @staticmethod
    def subject(body):
        """The subject's DER: the fifth element behind the version of TBSCertificate."""
        def header(at):
            length = body[at + 1]
            if length < 128:
                return at + 2, length
            size = length & 127
            return at + 2 + size, int.from_bytes(body[at + 2:at + 2 + size], "big")
        at = header(header(0)[0])[0]
        for _ in range(5):  # version, serial, algorithm, issuer, validity
            start, length = header(at)
            at = start + length
        start, length = header(at)
        return body[at:start + length]

    def key_id(self):
        """authorityKeyIdentifier of what this CA signs."""
        said = self.made("openssl", "x509", "-in", self.pem, "-noout", "-ext",
                         "subjectKeyIdentifier")
        return extension("key", der(0x30, der(0x80, bytes.fromhex(
            said.splitlines()[1].strip().replace(":", "")))))

    def issue(self, name, key=None, more=()):
        """A certificate for NAME: its PEM."""
        stem = f"{self.folder}/{name}-{len(os.listdir(self.folder))}"
        if not key:
            key = f"{stem}.key"
            self.made("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                      "ec_paramgen_curve:P-256", "-out", key)
        return self.made("openssl", "req", "-x509", "-new", "-key", key, "-CA", self.pem, "-CAkey",
                         self.key, "-days", "30", "-subj", f"/CN={name}", "-addext",
                         f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=CA:FALSE",
                         *[word for line in more for word in ("-addext", line)])

    def sign(self, tbs):
        path = f"{self.folder}/tbs"
        with open(path, "wb") as file:
            file.write(tbs)
        self.made("openssl", "dgst", "-sha256", "-sign", self.key, "-out", f"{path}.sig", path)
        with open(f"{path}.sig", "rb") as file:
            return file.read()

    def crl(self, *entries, number=None, base=None, scope=None, since=-60, until=3600, more=b"",
            issuer=None, raw=b"", algorithm=ECDSA_SHA256):
        """DER of a CRL; SCOPE is the content of an issuingDistributionPoint."""
        now = int(time.time())
        extensions = more
        if number is not None:
            extensions += extension("number", integer(number))
        if base is not None:
            extensions += extension("delta", integer(base), critical=True)
        if scope is not None:
            extensions += extension("scope", der(0x30, scope), critical=True)
        revoked = b"".join(entries) + raw
        tbs = der(0x30, integer(1), algorithm, issuer or self.name, moment(now + since),
                  moment(now + until), der(0x30, revoked) if revoked else b"",
                  der(0xa0, der(0x30, extensions)) if extensions else b"")
        return der(0x30, tbs, algorithm, der(3, b"\0", self.sign(tbs)))


def pem(body, kind="X509 CRL"):
    text = base64.encodebytes(body).decode().replace("\n", "")
    lines = [text[i:i + 64] for i in range(0, len(text), 64)]
    return f"-----BEGIN {kind}-----\n" + "\n".join(lines) + f"\n-----END {kind}-----\n"


class Server:
    """Hands out what is in `pages` (path: bytes, a function of the request, or None: silence)."""

    def __init__(self, test, tls=None):
        server = self
        self.pages, self.asked, self.tags = {}, [], True

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                page = server.pages.get(self.path, b"")
                server.asked.append((self.path, dict(self.headers)))
                if callable(page):
                    page = page(self)
                if page is None:
                    time.sleep(600)
                    return
                if isinstance(page, bytes):
                    self.answer(page)

            def answer(self, page):
                tag = f'"{hash(page) & 0xffffffff:x}"'
                same = server.tags and self.headers.get("If-None-Match") == tag
                self.send_response(304 if same else 200 if page else 404)
                self.send_header("Content-Length", "0" if same else str(len(page)))
                if server.tags:
                    self.send_header("ETag", tag)
                self.end_headers()
                if not same:
                    self.wfile.write(page)

            def log_message(self, *words):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=[0.02], daemon=True).start()
        test.addCleanup(self.http.server_close)
        test.addCleanup(self.http.shutdown)

    def count(self, path):
        return sum(asked == path for asked, _ in self.asked)
