"""What the guides say, with the real programs: their configs serve, and renewals lose nothing."""

import contextlib
import hashlib
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import unittest

import readers
from harness import OPEN, free_port, main, run, until, watched
from responder import Known, Responder
from scep import Ca, Scep, serial
from trace import let_go, traced
from web import Client

GUIDES = pathlib.Path(__file__).resolve().parents[2] / "docs/guides"
PAGE = "served\n"
RELOAD = "/usr/bin/systemctl try-reload-or-restart"
# What a systemd path unit sees as a change of the file that it watches.
PATH_CHANGED = ("attrib", "close_write", "delete_self", "move_self")


class Guide:
    """A guide's files by their names, and its commands."""

    def __init__(self, name):
        self.text = (GUIDES / name).read_text()
        self.files = dict(re.findall(r"^`(/[^`]+)`:\n\n```\w+\n(.*?)^```", self.text, re.M | re.S))

    def lines(self, language, words):
        """The block of LANGUAGE that begins with WORDS."""
        found, = re.findall(rf"^```{language}\n(\s*{words}.*?)^```", self.text, re.M | re.S)
        return found

    def command(self, words):
        """The one line to be typed that has WORDS."""
        found, = [line[2:] for line in self.text.splitlines()
                  if line.startswith("# ") and words in line]
        return found


def replaced(text, changes):
    """TEXT as a test runs it: with other paths and ports, each of which must stand in it."""
    for old, new in changes.items():
        assert old in text, f"{old} is not in\n{text}"
        text = text.replace(old, str(new))
    return text


def state(pid):
    """One letter, as proc(5) has it."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


@unittest.skipUnless(os.geteuid() == 0, "the programs start as root")
class Served(Scep):
    """A certificate id that a program serves as its guide says."""

    guide = unit = None  # the guide's file, and the systemd unit that it is about
    reload = None  # a script that does what the guide has systemd do

    def setUp(self):
        super().setUp()
        self.guide = Guide(self.guide)
        self.ca = Ca(self)
        self.m = self.enrolled(self.ca, "ip-address = 127.0.0.1")
        self.www = self.m.point / "local/www"
        self.port = free_port()
        self.client = Client(self.port, self.m.point / "ca/corp/cert.pem", PAGE)

    def config(self, path, changes, more=""):
        """A file of the guide, with changes, in the test's folder."""
        file = self.folder / pathlib.Path(path).name
        file.write_text(replaced(self.guide.files[path] + more, changes))
        return file

    def program(self, port, *arguments, **options):
        """A program in the foreground that listens on PORT, and ends with the test."""
        log = self.folder / f"{arguments[0]}.log"
        with open(log, "ab") as output:
            process = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=output, **options)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

        def listens():
            with contextlib.suppress(ConnectionError), \
                    socket.create_connection(("127.0.0.1", port), readers.HANG):
                return True
            return process.poll() is not None

        self.assertTrue(until(listens))
        self.assertIsNone(process.poll(), log.read_text())
        return process

    def script(self, name, *lines):
        file = self.folder / name
        file.write_text("\n".join(("#!/bin/sh -e", *lines, "")))
        file.chmod(0o755)
        return file

    def types(self, words, changes=()):
        """The guide's command that has WORDS."""
        done = run("bash", "-c", replaced(self.guide.command(words),
                                          {**dict(changes), "/pki/": f"{self.m.point}/"}))
        self.assertEqual(done.returncode, 0, done.stderr)

    def told_by_on_change(self):
        self.types("on-change = ", {f"{RELOAD} {self.unit}": self.reload})

    def in_force(self):
        certificate = ssl.PEM_cert_to_DER_cert(self.m.read("local/www/cert.pem"))
        return hashlib.sha256(certificate).hexdigest()

    def renew(self, keys="no"):
        before = self.in_force()
        self.assertEqual(self.m.request(
            "local/www", f"action = re-enroll\nre-generate-keypair = {keys}"), "ok")
        self.assertNotEqual(self.in_force(), before)

    def is_served(self):
        return self.client.certificate() == self.in_force()

    def is_told_by_an_event(self, file, unit, change):
        """CHANGE makes the event on FILE that path unit UNIT waits for; then its service runs."""
        self.assertIn(f"PathChanged={file}\n", self.guide.files[f"{unit}.path"])
        self.assertIn(f"ExecStart={RELOAD} {self.unit}\n",
                      self.guide.files[f"{unit}.service"])
        with watched(replaced(file, {"/pki/": f"{self.m.point}/"}), *PATH_CHANGED) as watcher:
            change()
            watcher.wait(readers.HANG)
        self.assertEqual(watcher.returncode, 0, f"no event on {file}")
        done = run(self.reload)
        self.assertEqual(done.returncode, 0, done.stderr)

    def clients_until_revoked(self, unit):
        """A client with a certificate of the CA gets in until a CRL says that it is revoked."""
        laptop = self.m.point / "local/laptop/bundle.pem"
        client = Client(self.port, self.m.point / "ca/corp/cert.pem", PAGE, laptop)
        self.assertFalse(self.client.gets_in(), "without a certificate")
        self.assertTrue(client.gets_in())

        def revoke():
            (self.ca.folder / "revoked").write_text(serial(laptop) + "\n")
            self.assertEqual(self.m.request("ca/corp", "refresh-crl"), "ok")

        self.is_told_by_an_event("/pki/ca/corp/crl.pem", unit, revoke)
        self.assertTrue(until(lambda: not client.gets_in()))

    def with_client_certificates(self):
        """What the programs need before they start with them."""
        self.certificate_id(self.m, "laptop")
        self.assertEqual(self.m.request("local/laptop", "enroll"), "ok")
        self.assertEqual(self.m.request("ca/corp", "refresh-crl"), "ok")

    def renewals_lose_nothing(self, process, first):
        """
        Renews under clients: with and without a new key, with a store that dies in the middle of
        the program's reload, in the middle of a reload that has opened the file FIRST, and after a
        reload while pkifs was not there.
        """
        clients = readers.start(*[self.client.asks_anew] * 2,
                                *[self.client.keeps_its_connection] * 2, pause=0.01)

        def all_ask():
            before = [client.rounds.value for client in clients]
            return until(lambda: all(client.rounds.value > rounds + 1 or not client.is_alive()
                                     for client, rounds in zip(clients, before)))

        def in_a_reload_with_a_dying_store():
            with self.m.killed_at("store", process.pid, OPEN):
                self.renew("yes")

        def in_a_reload_of_another():
            trace = traced([process.pid], "-o", "/dev/null", "-e", "trace=openat", "-P", first,
                           "-e", "inject=openat:signal=STOP:when=1")
            try:
                self.renew("yes")
                self.assertTrue(until(lambda: state(process.pid) in "tT"))
                self.renew("yes")
            finally:
                process.send_signal(signal.SIGCONT)
                let_go(trace)

        def after_a_reload_without_a_mount():
            self.assertEqual(self.m.stop(), 0)
            run(self.reload)
            all_ask()
            self.m.start()
            self.renew()

        self.assertTrue(all_ask())
        for renew in (self.renew, lambda: self.renew("yes"), in_a_reload_with_a_dying_store,
                      in_a_reload_of_another, after_a_reload_without_a_mount):
            renew()
            self.assertTrue(until(self.is_served), self.m.read("local/www/status"))
            all_ask()
        results = readers.finish(self, clients)
        self.assertTrue(until(self.is_served))
        print(f"6 renewals, {readers.told(results)}, {self.client.repeated.value} sent again")

    def with_a_responder(self):
        """The CA has one, which knows the certificate: what is served has its answer."""
        self.responder = Responder(self, Known(self.ca.folder, serial(self.www / "cert.pem")))
        config = self.m.read("ca/corp/config")
        self.m.write("ca/corp/config", f"{config}ocsp-url = {self.responder.url}\n"
                                       "ocsp-nonce = disable\n")

    def stapled(self):
        """What a client is shown: openssl's words for the answer."""
        done = run("openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", "-status",
                   "-CAfile", self.m.point / "ca/corp/cert.pem", stdin=subprocess.DEVNULL)
        return "OCSP Response Status: successful" in done.stdout and "Cert Status: good" in done.stdout

    def backend(self):
        """The port of a server without TLS, for what stands before one."""
        port, conf = free_port(), self.folder / "backend.conf"
        conf.write_text(f"pid {self.folder}/backend.pid;\nevents {{}}\nhttp {{ access_log off; server "
                        f"{{ listen 127.0.0.1:{port}; return 200 '{PAGE}'; }} }}\n")
        self.program(port, "nginx", "-c", conf, "-g", "daemon off;")
        return port


class Nginx(Served):
    guide, unit = "nginx.md", "nginx"

    def start(self, *more):
        page = self.folder / "html/index.html"
        page.parent.mkdir()
        page.write_text(PAGE)
        server = self.config("/etc/nginx/conf.d/www.conf", {
            "/pki/": f"{self.m.point}/", "443": f"127.0.0.1:{self.port}", "/var/www/html": page.parent})
        for snippet in more:
            file = self.config(snippet, {"/pki/": f"{self.m.point}/"})
            server.write_text(replaced(server.read_text(), {
                "listen": f"include {file};\n    listen"}))
        conf = self.folder / "nginx.conf"
        conf.write_text(
            f"user www-data;\npid {self.folder}/pid;\nerror_log {self.folder}/error.log notice;\n"
            f"events {{}}\nhttp {{ access_log off; include {server}; }}\n")
        self.reload = self.script("reload", f"nginx -c {conf} -s reload")
        return self.program(self.port, "nginx", "-c", conf, "-g", "daemon off;")

    def test_renewals_lose_nothing(self):
        nginx = self.start()
        self.told_by_on_change()
        self.renewals_lose_nothing(nginx, self.www / "fullchain.pem")
        self.assertIn("key values mismatch", (self.folder / "error.log").read_text())

    def test_a_revoked_client_is_kept_out(self):
        self.with_client_certificates()
        self.start("/etc/nginx/snippets/clients.conf")
        self.clients_until_revoked("/etc/systemd/system/nginx-crl")

    def test_it_staples_what_the_responder_says(self):
        self.with_a_responder()
        self.assertTrue(until((self.www / "ocsp.der").exists))
        self.start("/etc/nginx/snippets/staple.conf")
        self.assertTrue(self.stapled())


class Haproxy(Served):
    guide, unit = "haproxy.md", "haproxy"

    def start(self, *changes):
        conf = self.config("/etc/haproxy/haproxy.cfg", {
            **dict(changes), "/pki/": f"{self.m.point}/", ":443": f"127.0.0.1:{self.port}",
            "127.0.0.1:8080": f"127.0.0.1:{self.backend()}"})
        self.reload = self.config("/usr/local/sbin/haproxy-reload", {
            "/etc/haproxy/haproxy.cfg": conf, "/run/haproxy.pid": self.folder / "pid",
            "/run/haproxy-reload.lock": self.folder / "lock"})
        self.reload.chmod(0o755)
        return self.program(self.port, "haproxy", "-Ws", "-f", conf, "-p", self.folder / "pid",
                            "-S", self.folder / "master.sock")

    def test_renewals_lose_nothing(self):
        haproxy = self.start()
        self.told_by_on_change()
        self.renewals_lose_nothing(haproxy, self.www / "bundle.pem")
        self.assertEqual(self.client.repeated.value, 0)

    def test_a_reload_whose_check_does_not_end_is_ended(self):
        """OpenSSL reads on for ever where reads fail, as they do in a file whose pkifs is stopped."""
        self.start()
        done = run("strace", "-f", "-qq", "-o", "/dev/null", "-P", self.www / "bundle.pem",
                   "-e", "inject=read:error=ENOTCONN", self.reload)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(run("flock", "-n", self.folder / "lock", "true").returncode, 0)
        self.assertEqual(run(self.reload).returncode, 0)

    def test_a_revoked_client_is_kept_out(self):
        self.with_client_certificates()
        self.start(("    bind :443 ssl crt /pki/local/www/bundle.pem\n",
                    self.guide.lines("haproxy", "bind")))
        self.clients_until_revoked("/etc/systemd/system/haproxy-crl")

    def test_it_staples_what_the_responder_says(self):
        self.start()
        self.assertFalse(self.stapled(), "bundle.pem.ocsp is there, and empty")
        self.is_told_by_an_event("/pki/local/www/bundle.pem.ocsp",
                                 "/etc/systemd/system/haproxy-ocsp", self.with_a_responder)
        self.assertTrue(until(self.stapled))


class Stunnel(Served):
    guide, unit = "stunnel.md", "stunnel@www"

    def start(self, more=""):
        self.types("key-readers = ")
        conf = self.config("/etc/stunnel/www.conf", {
            "/pki/": f"{self.m.point}/", "127.0.0.1:8080": f"127.0.0.1:{self.backend()}"}, more)
        with socket.create_server(("127.0.0.1", self.port), backlog=511) as listening:
            stunnel = self.program(
                self.port, "sh", "-c", f"exec 3<&{listening.fileno()}; export LISTEN_FDS=1 "
                f"LISTEN_PID=$$; exec stunnel4 {conf}", pass_fds=[listening.fileno()])
        self.reload = self.script("reload", f"kill -HUP {stunnel.pid}")
        return stunnel

    def test_renewals_lose_nothing(self):
        stunnel = self.start()
        self.told_by_on_change()
        self.renewals_lose_nothing(stunnel, self.www / "bundle.pem")
        self.assertEqual(self.client.repeated.value, 0)
        self.assertIn("key values mismatch", (self.folder / "sh.log").read_text())

    def test_a_revoked_client_is_kept_out(self):
        self.with_client_certificates()
        self.start(self.guide.lines("ini", "verifyChain"))
        self.clients_until_revoked("/etc/systemd/system/stunnel-crl")


if __name__ == "__main__":
    main()
