"""A CA made by openssl, and OCSP responders for it."""

import base64
import http.server
import threading
import urllib.parse

from harness import free_port, run, shell, until

EC = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"


class Authority:
    """A CA in a folder: what it issues, revokes, and says of that."""

    def __init__(self, folder, name="Lab CA"):
        self.folder = folder
        folder.mkdir()
        (folder / "index").touch()
        (folder / "index.attr").write_text("unique_subject = no\n")
        (folder / "serial").write_text("1000\n")
        (folder / "number").write_text("10\n")
        (folder / "conf").write_text(f"""
[ca]
default_ca = c
[c]
dir = {folder}
new_certs_dir = {folder}
database = {folder}/index
serial = {folder}/serial
crlnumber = {folder}/number
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
default_crl_days = 7
default_days = 30
policy = p
email_in_dn = no
copy_extensions = none
[p]
commonName = supplied
""")
        self.do(f"openssl req -x509 {EC} -keyout ca.key -out ca.pem -days 365 -subj '/CN={name}'"
                " -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature")

    def do(self, command):
        done = shell(f"cd {self.folder} && {command}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def issue(self, name, *extensions, days=30, csr=None):
        """NAME.pem, and NAME.key where there is no CSR."""
        (self.folder / f"{name}.ext").write_text("\n".join(
            ("basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", *extensions)))
        if csr:
            (self.folder / f"{name}.csr").write_text(csr)
        else:
            self.do(f"openssl req {EC} -keyout {name}.key -out {name}.csr -subj '/CN={name}'")
        self.do(f"openssl ca -batch -notext -config conf -in {name}.csr -out {name}.pem"
                f" -subj '/CN={name}' -days {days} -extfile {name}.ext")
        return (self.folder / f"{name}.pem").read_text()

    def revoke(self, name, reason="keyCompromise"):
        self.do(f"openssl ca -config conf -revoke {name}.pem -crl_reason {reason}")

    def crl(self, days=7):
        self.do(f"openssl ca -config conf -gencrl -crldays {days} -out crl.pem")
        return (self.folder / "crl.pem").read_text()


class Known:
    """A CA that is there, with ca.pem and ca.key in FOLDER, for responders: what it issued."""

    do = Authority.do

    def __init__(self, folder, *serials):
        self.folder = folder
        (folder / "index").write_text("".join(
            f"V\t360101000000Z\t\t{serial}\tunknown\t/CN=known\n" for serial in serials))


class Responder:
    """
    Answers by `openssl ocsp`, a process for each question. Its OPTIONS (how to sign, until when) and
    what it does instead (`answer`: a function of the request's DER) change while it runs.
    """

    def __init__(self, test, authority, signer="ca", options="-ndays 7"):
        self.authority, self.signer, self.options = authority, signer, options
        self.asked = []  # (method, DER of the request)
        self.answer = self.honest
        self.type = "application/ocsp-response"
        self.headers = {}  # more of them
        responder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def respond(self, der):
                responder.asked.append((self.command, der))
                answer = responder.answer(der)
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                self.send_response(status)
                self.send_header("Content-Type", responder.type)
                for name, value in responder.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.respond(base64.b64decode(urllib.parse.unquote(self.path[1:].split("/")[-1])))

            def do_POST(self):
                self.respond(self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()
        test.addCleanup(self.server.server_close)
        test.addCleanup(self.server.shutdown)

    def honest(self, der):
        folder, signer = self.authority.folder, self.signer
        name = folder / f"question-{threading.get_ident()}"
        name.write_bytes(der)
        self.authority.do(f"openssl ocsp -index index -CA ca.pem -rsigner {signer}.pem"
                          f" -rkey {signer}.key -reqin {name} -respout {name}.answer"
                          f" {self.options}")
        return (folder / f"{name}.answer").read_bytes()


def openssl_responder(test, authority, signer):
    """`openssl ocsp` as a server: its URL. It must not be probed: whoever hangs up spoils it."""
    port = free_port()
    done = shell(f"cd {authority.folder} && (openssl ocsp -port {port} -index index -CA ca.pem"
                 f" -rsigner {signer}.pem -rkey {signer}.key -ndays 7 >ocsp.log 2>&1 &"
                 f" echo $! >ocsp.pid)")
    assert done.returncode == 0, done.stderr
    test.addCleanup(shell, f"kill $(cat {authority.folder}/ocsp.pid)")
    assert until(lambda: "waiting" in (authority.folder / "ocsp.log").read_text())
    return f"http://127.0.0.1:{port}"


def cfssl_responder(test, authority, name):
    """cfssl serves answers that were made before: no nonces. Its URL."""
    port = free_port()
    authority.do(f"cfssl ocspsign -ca ca.pem -responder ca.pem -responder-key ca.key"
                 f" -cert {name}.pem 2>sign.log | cfssljson -bare -stdout {name} > {name}.answers")
    done = shell(f"cd {authority.folder} && (cfssl ocspserve -address 127.0.0.1 -port {port}"
                 f" -responses {name}.answers >cfssl.log 2>&1 & echo $! >cfssl.pid)")
    assert done.returncode == 0, done.stderr
    test.addCleanup(shell, f"kill $(cat {authority.folder}/cfssl.pid)")
    assert until(lambda: "listening" in (authority.folder / "cfssl.log").read_text())
    return f"http://127.0.0.1:{port}"
