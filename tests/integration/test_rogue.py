"""Servers gone bad: each ends in the right state, in time, with a sentence that names the cause."""

import os
import pathlib
import shutil
import socket
import unittest

from harness import PATIENCE, SANITIZED, SHARE, free_port, main, run, until
from scep import Ca, Scep, assert_valid

# What they do (tests/lab/rogue.py), and what `status` says: when the CA's certificate is asked
# for, and when a certificate is.
MODES = {
    "huge": ("sends more than 1048576 bytes",) * 2,
    "bomb": ("is neither a certificate nor a bundle", "is no SCEP message"),
    "long": ("sends more than 1048576 bytes",) * 2,
    "page": ("an HTML page",) * 2,
    "half": ("breaks off in the middle of its answer",) * 2,
    "cut": ("is neither a certificate nor a bundle", "is no SCEP message"),
    "flip": (None, "the signature of the answer is wrong"),
    "empty": ("(0 bytes) is neither a certificate nor a bundle", "the answer is empty"),
    "fail": ("answered with HTTP status 500: out of order",) * 2,
    "busy": ("answered with HTTP status 503",) * 2,
    "loop": ("leads through more than 3 redirects",) * 2,
    "garbage": ("does not speak HTTP",) * 2,
    "chunk": ("sends an answer that cannot be read|resets the connection",) * 2,
    "header": ("sends a header line without end",) * 2,
    "headers": ("sends more than 65536 bytes of headers",) * 2,
    "reset": ("resets the connection",) * 2,
    "hang-up": ("closes the connection without an answer|resets the connection",) * 2,
}
# Those that end by a limit of time alone.
SLOW = {
    "dead": "does not answer in time",
    "trickle": "answers too slowly",
    "slow": "answers too slowly",
}
TRIES = "enrollment-retry = 1\nenrollment-retry-interval = 0\n"
# A body of 1 GB would be seen at once; sanitizers alone take some ten MB more.
MEMORY_KB = 64 << 10


def peak(pid):
    """The most memory that the process ever had, in kB."""
    for line in (pathlib.Path("/proc") / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


class Rogue(Scep):
    def setUp(self):
        super().setUp()
        self.ca = Ca(self)
        self.m = self.mount()

    def rogue(self, *tls):
        """A bad server in front of the good CA: its URL."""
        return self.server("rogue-server", f"http://127.0.0.1:{self.ca.port}", *tls)[2]

    def ended(self, path, seconds=4 * PATIENCE):
        """The `status` of an object whose request has come to its end."""
        self.assertTrue(until(lambda: self.m.status(path)["request"] not in
                              ("queued", "running", "waiting"), seconds), self.m.status(path))
        return self.m.status(path)

    def fetch(self, name, url, more=TRIES):
        """Asks a new profile NAME at URL for the CA's certificate."""
        os.mkdir(self.m.point / "ca" / name)
        self.m.write(f"ca/{name}/config", f"enrollment-url = {url}\n{more}")
        self.m.write(f"ca/{name}/request", "enroll\n")

    def enroll(self, name, url, more=TRIES):
        """Asks for a certificate at URL, from a CA that was good when it was confirmed."""
        self.trusted_profile(self.m, self.ca.url, name)
        self.m.write(f"ca/{name}/config", f"enrollment-url = {url}\n{more}")
        self.certificate_id(self.m, name, name)
        self.m.write(f"local/{name}/request", "enroll\n")

    def assert_failed(self, path, words, state, seconds=4 * PATIENCE):
        status = self.ended(path, seconds)
        self.assertEqual((status["request"], status["state"]), ("failed", state), status)
        self.assertTrue(any(some in status["last-error"] for some in words.split("|")),
                        (path, words, status))
        self.assertEqual(self.m.wait(path), "failed: " + status["last-error"])


class Modes(Rogue):
    def test_fetching_a_ca_certificate(self):
        url = self.rogue()
        modes = {mode: words[0] for mode, words in MODES.items() if words[0]}
        for mode in modes:
            self.fetch(mode, f"{url}/{mode}/scep")
        for mode, words in modes.items():
            self.assert_failed(f"ca/{mode}", words, "empty")
            self.assertFalse((self.m.point / "ca" / mode / "pending.pem").exists(), mode)

    def test_enrolling(self):
        url = self.rogue()
        for mode in MODES:
            self.enroll(mode, f"{url}/{mode}/scep")
        for mode, words in MODES.items():
            self.assert_failed(f"local/{mode}", words[1], "key")
            self.assertFalse((self.m.point / "local" / mode / "cert.pem").exists(), mode)

    def test_names_that_do_not_resolve_and_dead_ports(self):
        dead = free_port()
        cases = {"name": ("http://ca.invalid/scep", "http://ca.invalid/scep: its name is not known"),
                 "port": (f"http://127.0.0.1:{dead}/scep",
                          f"cannot reach http://127.0.0.1:{dead}/scep: Connection refused")}
        for name, (url, words) in cases.items():
            self.fetch(name, url, "enrollment-retry-interval = 3600\n")
            self.enroll(f"{name}-2", url, "enrollment-retry-interval = 3600\n")
            for path in (f"ca/{name}", f"local/{name}-2"):
                # it is told at once, though tries go on
                self.assertIn(words, self.m.wait(path))
                self.assertTrue(self.m.wait(path).startswith("failed: cannot reach "), path)
                status = self.m.status(path)
                self.assertEqual((status["request"], status["next-action"]),
                                 ("waiting", "try again"), status)

    def test_a_replayed_answer_of_another_transaction(self):
        url = self.rogue()
        self.enroll("first", f"{url}/replay/scep")
        self.assertEqual(self.m.wait("local/first"), "ok")
        self.enroll("second", f"{url}/replay/scep")
        self.assert_failed("local/second", "another transaction", "key")

    def test_bad_at_first_and_then_fine(self):
        url = self.rogue()
        modes = ("fail", "busy", "page", "half", "cut", "garbage", "reset", "hang-up", "flip")
        for mode in modes:
            self.enroll(mode, f"{url}/{mode}=1/scep", "enrollment-retry-interval = 0\n")
        for mode in modes:
            self.assertTrue(until(lambda: self.m.status(f"local/{mode}")["state"] == "valid"),
                            f"{mode}: {self.m.status(f'local/{mode}')}")
            self.assertEqual(self.m.wait(f"local/{mode}"), "ok")
            assert_valid(self, self.m, mode, mode, version=1)
            self.assertEqual(self.m.status(f"local/{mode}")["last-error"], "", mode)
        # whoever got no answer asked for it, and did not ask twice for a certificate
        self.assertEqual(len(set(self.ca.said("received PKCSReq"))), len(modes))

    def test_a_damaged_answer_is_asked_for_and_the_challenge_not_sent_again(self):
        url = self.rogue()
        self.enroll("www", f"{url}/cut=2/scep", "enrollment-retry-interval = 0\n")
        self.assertTrue(until(lambda: self.m.status("local/www")["state"] == "valid"))
        self.assertEqual(len(self.ca.said("received PKCSReq")), 1)
        self.assertEqual(len(self.ca.said("received CertPoll")), 2)

    @unittest.skipIf(SANITIZED, "memory is no measure then")
    def test_memory_stays_flat(self):
        url = self.rogue()
        self.enroll("warm", self.ca.url)
        self.assertEqual(self.m.wait("local/warm"), "ok")
        before = {role: max(map(peak, self.m.children(role))) for role in ("store", "enroll")}
        for mode in ("huge", "long", "bomb", "header", "headers"):
            self.fetch(mode, f"{url}/{mode}/scep")
            self.enroll(f"{mode}-2", f"{url}/{mode}/scep")
            self.ended(f"ca/{mode}")
            self.ended(f"local/{mode}-2")
        for role, kb in before.items():
            after = max(map(peak, self.m.children(role)))
            print(f"{role}: {kb} kB before, {after} kB after")
            self.assertLess(after, kb + MEMORY_KB, role)

    def test_the_others_are_served_while_one_server_is_dead(self):
        m, url = self.m, self.rogue()
        self.trusted_profile(m, self.ca.url, "bad", TRIES)
        m.write("ca/bad/config", f"enrollment-url = {url}/dead/scep\n{TRIES}")
        stuck = [f"stuck{i}" for i in range(20)]
        for name in stuck:
            self.certificate_id(m, name, "bad")
            m.write(f"local/{name}/request", "enroll\n")
        self.assertTrue(until(lambda: sum(m.status(f"local/{n}")["request"] == "running"
                                          for n in stuck) == 8))
        self.trusted_profile(m, self.ca.url)
        self.certificate_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        states = [m.status(f"local/{name}")["request"] for name in stuck]
        self.assertEqual((states.count("running"), states.count("queued")), (8, 12))
        self.assertLessEqual(len(m.children("enroll")), 9)
        for name in stuck: # and the stuck ones can be called off
            m.write(f"local/{name}/request", "cancel\n")
            self.assertEqual(m.wait(f"local/{name}"), "failed: cancelled")


class Attacks(Rogue):
    """On HTTP in general; the numbers are those of docs/reliability.md."""

    def test_attack_25_a_redirect_to_a_file_or_another_protocol(self):
        url = self.rogue()
        targets = {"file": "file:///etc/passwd", "ldap": "ldap://127.0.0.1:9/"}
        for mode in targets:
            self.fetch(mode, f"{url}/{mode}/scep")
            self.enroll(f"{mode}-2", f"{url}/{mode}/scep")
        for mode, target in targets.items():
            words = f"redirects to {target}, which is not followed"
            self.assert_failed(f"ca/{mode}", words, "empty")
            self.assert_failed(f"local/{mode}-2", words, "key")

    def test_attack_25_a_request_that_is_sent_on_to_another_server(self):
        self.enroll("www", f"{self.rogue()}/away/scep")
        self.assert_failed("local/www", "redirects a request to another server, "
                                        "http://127.0.0.1:9/scep", "key")

    def test_attack_29_answers_without_end(self):
        url = self.rogue()
        modes = ("huge", "headers", "bomb")
        for mode in modes:
            self.fetch(mode, f"{url}/{mode}/scep")
        for mode in modes:
            self.assert_failed(f"ca/{mode}", MODES[mode][0], "empty")

    def poisoned(self, anchor):
        """An environment that would lead us astray: a proxy, trust in ANCHOR, code."""
        library = self.folder / "preload.so"
        shutil.copy(next(pathlib.Path("/lib").glob("*-linux-gnu/libutil.so.1")), library)
        config = self.folder / "openssl.cnf"
        config.write_text("config_diagnostics = 1\nopenssl_conf = init\n[init]\n"
                          "providers = all\n[all]\nnone = nothing\n[nothing]\nactivate = 1\n")
        proxy = f"http://127.0.0.1:{free_port()}"
        return {**{name: proxy for name in ("http_proxy", "HTTP_PROXY", "https_proxy",
                                            "HTTPS_PROXY", "all_proxy", "ALL_PROXY")},
                "SSL_CERT_FILE": str(anchor), "CURL_CA_BUNDLE": str(anchor),
                "OPENSSL_CONF": str(config), "LD_PRELOAD": str(library),
                "ASAN_OPTIONS": "verify_asan_link_order=0"}

    def test_attack_32_the_daemons_environment_has_no_effect(self):
        key, anchor = self.folder / "tls.key", self.folder / "tls.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
            anchor, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        secure = self.rogue(anchor, key)
        self.m = m = self.mount(start=False)
        m.environment = self.poisoned(anchor)
        m.start()
        self.fetch("plain", self.ca.url)
        self.assertEqual(m.wait("ca/plain"), "ok")
        self.fetch("secure", f"{secure}/truth/scep")
        self.assert_failed("ca/secure", "certificate", "empty")
        for role in ("store", "keys", "publisher", "enroll"):
            for pid in m.children(role):
                self.assertNotIn("preload.so", pathlib.Path(f"/proc/{pid}/maps").read_text(), role)

    def test_attack_33_control_bytes_in_a_url_or_a_name(self):
        os.mkdir(self.m.point / "ca/corp")
        self.m.write("ca/corp/config", f"enrollment-url = {self.ca.url}\n")
        for key, value in (("enrollment-url", "http://127.0.0.1/scep"), ("ca-identity", "corp")):
            for byte in ("\r", "\0", "\x01", "\x1b", "\x7f"):
                spoiled = value[:-2] + byte + value[-2:]
                self.refused(self.m, "ca/corp/config", f"{key} = {spoiled}\n", "control")
            # a line feed ends the value; what follows is no setting
            self.refused(self.m, "ca/corp/config", f"{key} = {value}\nHost: evil\n", "line 2")
        self.assertEqual(self.m.read("ca/corp/config"), f"enrollment-url = {self.ca.url}\n")
        self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")


@unittest.skipUnless(SHARE >= 100, "takes minutes: ctest --preset full")
class Slow(Rogue):
    """What ends by a limit of time alone."""

    def test_slow_bytes_and_no_answer_at_all(self):
        url = self.rogue()
        for mode in SLOW:
            self.fetch(mode, f"{url}/{mode}/scep")
            self.enroll(f"{mode}-2", f"{url}/{mode}/scep")
        for mode, words in SLOW.items():
            self.assert_failed(f"local/{mode}-2", words, "key", 300)
            if mode == "slow":  # a CA certificate is short enough to come in time
                self.assertEqual(self.m.wait(f"ca/{mode}"), "ok")
            else:
                self.assert_failed(f"ca/{mode}", words, "empty", 300)

    def test_a_host_that_takes_no_connection(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(0)
            url = "http://127.0.0.1:%d/scep" % silent.getsockname()[1]
            queued = [socket.create_connection(silent.getsockname()) for _ in range(1)]
            self.fetch("silent", url)
            self.assert_failed("ca/silent", f"cannot reach {url}: Connection timed out", "empty",
                               120)
            for connection in queued:
                connection.close()


if __name__ == "__main__":
    main()
