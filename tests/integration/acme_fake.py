"""An ACME server of a test's own, which says whatever the test wants: what pebble cannot, and what no
CA ever should."""

import base64
import contextlib
import datetime
import http.server
import itertools
import json
import ssl
import threading
import urllib.request

from harness import free_ports, run

BASE = "/dir /nonce /account /order /orders/ /authz/ /challenge/ /finalize/ /certificate/ /ari/ /key".split()


def unwrap(text):
    """The bytes of base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class FakeAcme:
    """
    The CA believes whoever answers http-01 at its port (or all, where EXAMINES is false), and issues
    at once. CHANGES is a dictionary of a place (see BASE) and a function that is given the
    server and its honest answer (status, headers, body), and gives back what is to be said; a
    body may be a function that is given the handler, and says the rest of the headers as well.
    """

    examines = True
    window = None  # (start, end) that it suggests to renew in, as Unix seconds
    kind = "http-01"  # of its challenges
    key = None  # the account's, as JWK
    head = False  # this is such a request
    token = "token"  # what its tokens begin with

    def __init__(self, test, host="127.0.0.1", port=None, **changes):
        """All but the directory is said to be at HOST, another name of this machine; http-01 is at PORT."""
        self.http, self.tls = free_ports(2)
        self.http = port or self.http
        self.host = host
        self.folder = test.folder / f"fake-{self.tls}"
        self.folder.mkdir()
        self.changes = {"/" + place: change for place, change in changes.items()}
        self.asked = []  # places, in order
        self.payloads = []  # (place, what it was sent)
        self.orders, self.numbers = {}, itertools.count(1)
        self.make_ca()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "tls.pem", self.folder / "tls.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.base = f"https://{self.host}:{self.server.server_port}"
        self.url = f"https://127.0.0.1:{self.server.server_port}/dir"
        thread = threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        test.addCleanup(self.server.server_close)
        test.addCleanup(self.server.shutdown)

    def make_ca(self):
        def openssl(*words, **options):
            done = run("openssl", *words, cwd=self.folder, **options)
            assert done.returncode == 0, done.stderr
            return done.stdout

        self.openssl = openssl
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *key, "-keyout", "root.key", "-out", "root.pem", "-subj",
                "/CN=Fake Root", "-days", "90")
        openssl("req", "-x509", *key, "-keyout", "tls.key", "-out", "tls.pem", "-subj", "/CN=fake",
                "-days", "90", "-addext", "subjectAltName=IP:127.0.0.1" +
                ("" if self.host == "127.0.0.1" else f",DNS:{self.host}"), "-addext",
                "extendedKeyUsage=serverAuth")
        (self.folder / "extensions").write_text("authorityKeyIdentifier = keyid\n")
        (self.folder / "tls-ca.pem").write_text((self.folder / "tls.pem").read_text())

    def handler(fake):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def setup(self):
                self.request.do_handshake()
                super().setup()

            def handle(self):
                with contextlib.suppress(OSError):  # whoever asked may be dead by now
                    super().handle()

            def do_GET(self):
                self.say(b"")

            def do_HEAD(self):
                fake.head = True
                self.say(b"")
                fake.head = False

            def do_POST(self):
                self.say(self.rfile.read(int(self.headers["Content-Length"])))

            def say(self, body):
                status, headers, text = fake.answer(self.path, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if callable(text):  # it says the rest, as it likes
                    self.close_connection = True
                    text(self)
                    return
                if status != 204:
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        return Handler

    def answer(self, path, body):
        place = max((base for base in BASE if path.startswith(base)), key=len)
        self.asked.append(place.strip("/"))
        payload = json.loads(unwrap(json.loads(body)["payload"]) or "null") if body else None
        self.header = json.loads(unwrap(json.loads(body)["protected"])) if body else None
        self.payloads.append((place.strip("/"), payload))
        status, headers, text = self.honest(place, path[len(place):], payload)
        headers.setdefault("Replay-Nonce", f"nonce{len(self.asked)}")
        change = self.changes.get("/" + place.strip("/"))
        if change:
            status, headers, text = change(self, (status, headers, text))
        if isinstance(text, (dict, list)):
            text = json.dumps(text)
        return status, headers, text.encode() if isinstance(text, str) else text

    @staticmethod
    def without_end(piece, headers=(), sent=None):
        """A body that says PIECE for 100 MB; how many times it did is added to SENT."""
        def say(handler):
            for name, value in headers:
                handler.send_header(name, value)
            handler.end_headers()
            for _ in range(100_000_000 // len(piece)):
                handler.wfile.write(piece)
                if sent is not None:
                    sent.append(len(piece))
        return say

    def honest(self, place, number, payload):
        """What a good CA says."""
        if place == "/dir":
            said = {"newNonce": self.base + "/nonce", "newAccount": self.base + "/account",
                    "newOrder": self.base + "/order", "keyChange": self.base + "/key",
                    "meta": {"termsOfService": self.base + "/terms"}}
            return 200, {}, {**said, **({"renewalInfo": self.base + "/ari"} if self.window else {})}
        if place == "/ari/":
            self.renewed = number
            start, end = (datetime.datetime.fromtimestamp(when, datetime.timezone.utc).isoformat()
                          for when in self.window)
            return 200, {"Retry-After": "21600"}, {"suggestedWindow": {"start": start, "end": end}}
        if place == "/nonce":
            return 200, {}, ""
        if place == "/key":
            self.key = json.loads(unwrap(payload["protected"]))["jwk"]
            return 200, {}, {}
        if place == "/account" and payload == {"onlyReturnExisting": True}:
            known = self.key == self.header["jwk"]
            return (200, {"Location": self.base + "/account/1"}, {"status": "valid"}) if known else \
                problem("accountDoesNotExist", status=400)(self, None)
        if place == "/account":
            self.key = self.header.get("jwk", self.key)
            return 201, {"Location": self.base + "/account/1"}, {"status": "valid"}
        if place == "/order":
            number = str(next(self.numbers))
            self.orders[number] = {"names": payload["identifiers"], "status": "pending"}
            return 201, {"Location": f"{self.base}/orders/{number}"}, self.order(number)
        number = number.split("-")[0]
        if place == "/orders/":
            return 200, {}, self.order(number)
        if place == "/authz/":
            return 200, {}, self.authorization(number)
        if place == "/challenge/":
            self.examine(number)
            return 200, {}, self.authorization(number)["challenges"][0]
        if place == "/finalize/":
            self.issue(number, payload)
            return 200, {}, self.order(number)
        return 200, {"Content-Type": "application/pem-certificate-chain"}, \
            self.orders[number]["certificate"]

    def order(self, number):
        order = self.orders[number]
        said = {"status": order["status"], "identifiers": order["names"],
                "authorizations": [f"{self.base}/authz/{number}"],
                "finalize": f"{self.base}/finalize/{number}"}
        if "certificate" in order:
            said["certificate"] = f"{self.base}/certificate/{number}"
        return said

    def authorization(self, number):
        order = self.orders[number]
        status = {"pending": "pending", "invalid": "invalid"}.get(order["status"], "valid")
        challenge = {"type": self.kind, "url": f"{self.base}/challenge/{number}",
                     "token": f"{self.token}-{number}", "status": status}
        if status == "invalid":
            challenge["error"] = {"type": "urn:ietf:params:acme:error:connection",
                                  "detail": "nobody answers"}
        return {"status": status, "identifier": order["names"][0], "challenges": [challenge]}

    def examine(self, number):
        order = self.orders[number]
        if order["status"] != "pending":
            return
        order["status"] = "ready"
        if not self.examines:
            return
        url = f"http://127.0.0.1:{self.http}/.well-known/acme-challenge/{self.token}-{number}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.read().startswith(f"{self.token}-{number}.".encode())
        except (OSError, AssertionError):
            order["status"] = "invalid"

    def issue(self, number, payload):
        order = self.orders[number]
        (self.folder / f"{number}.der").write_bytes(unwrap(payload["csr"]))
        self.openssl("req", "-inform", "DER", "-in", f"{number}.der", "-out", f"{number}.csr")
        order["certificate"] = self.openssl(
            "x509", "-req", "-in", f"{number}.csr", "-CA", "root.pem", "-CAkey", "root.key", "-days",
            "30", "-copy_extensions", "copyall", "-extfile", "extensions")
        order["status"] = "valid"


def problem(kind, detail="", status=403, headers=None, **more):
    """An answer that is a problem document, instead of the honest one."""
    def change(_server, _answer):
        return status, {"Replay-Nonce": "again", **(headers or {})}, {
            "type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, **more}
    return change


def once(change):
    """CHANGE for the first time, then the truth."""
    left = [change]
    return lambda server, answer: left.pop()(server, answer) if left else answer
