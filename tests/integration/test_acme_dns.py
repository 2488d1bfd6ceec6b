"""ACME's dns-01: records put into a real name server's zones, or by a program, and taken away."""

import contextlib
import os
import random
import signal
import stat

from acme import Acme, AcmeTest
from harness import LAB, Clock, free_port, main, run, until


class Bind:
    """BIND of tests/lab at an address of its own, where name servers are looked for: port 53."""

    def __init__(self, test, address, start=True, **environment):
        self.test, self.address = test, address
        self.folder = test.folder / f"dns-{address}"
        self.environment = {"ADDRESS": address, **environment}
        test.addCleanup(self.stop)
        if start:
            self.start()

    def start(self):
        done = run(LAB / "dns-server", self.folder, 53, env={**os.environ, **self.environment})
        self.test.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def stop(self):
        run(LAB / "dns-server", "stop", self.folder)

    @contextlib.contextmanager
    def halted(self):
        """It answers nobody meanwhile."""
        pid = int((self.folder / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def key(self, name):
        """The TSIG key NAME as acme-dns-tsig has it."""
        return next(line for line in (self.folder / "keys").read_text().splitlines()
                    if line.startswith(name + ":"))

    def records(self, zone="example.net"):
        """The TXT records of ZONE, as (name, text)."""
        said = run("dig", f"@{self.address}", "+onesoa", zone, "AXFR").stdout
        rows = [line.split() for line in said.splitlines() if not line.startswith(";")]
        return sorted((row[0], row[4].strip('"')) for row in rows if row[3:4] == ["TXT"])


class DnsTest(AcmeTest):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("only root can have addresses and port 53")

    def addresses(self, count):
        """COUNT addresses of this machine that nobody else uses."""
        found = []
        while len(found) < count:
            address = ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])
            if run("ip", "address", "add", f"{address}/32", "dev", "lo").returncode == 0:
                self.addCleanup(run, "ip", "address", "del", f"{address}/32", "dev", "lo")
                found.append(address)
        return found

    def bind(self, **environment):
        return Bind(self, self.addresses(1)[0], **environment)

    def ca(self, bind):
        return Acme(self, RESOLVER=f"{bind.address}:53")

    def dns_profile(self, mount, ca, bind, key="hmac-sha256", more=""):
        self.profile(mount, ca, more=f"acme-dns-server = {bind.address}\n"
                                     f"acme-dns-tsig = {bind.key(key)}\n{more}")

    def dns_id(self, mount, name="www", more=""):
        self.certificate_id(mount, name, more="acme-challenge = dns-01\n" + more)

    def assert_clean(self, bind, *zones):
        for zone in zones or ("example.net", "sub.example.net"):
            self.assertTrue(until(lambda zone=zone: not bind.records(zone)), bind.records(zone))


class Update(DnsTest):
    def test_a_name_and_its_wildcard_by_a_signed_update(self):
        bind = self.bind()
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        self.dns_profile(mount, ca, bind)
        self.dns_id(mount, more="domain-name = *.www.example.net\ndomain-name = *.example.net\n"
                                "domain-name = a.sub.example.net\n")
        self.assertEqual(mount.request("local/www", "enroll"), "ok", mount.log.read_text())
        self.assert_issued(mount)
        names = run("openssl", "x509", "-in", mount.point / "local/www/cert.pem", "-noout",
                    "-ext", "subjectAltName").stdout
        self.assertIn("DNS:*.www.example.net", names)
        self.assert_clean(bind)
        self.assertEqual(mount.request("local/www", "re-enroll"), "ok")
        self.assert_issued(mount, version=2)
        self.assert_clean(bind)
        self.assertNotIn("acme-dns-left", mount.status("ca/corp"))
        self.assertNotIn(bind.key("hmac-sha256").split(":")[2],
                         mount.read("ca/corp/config") + mount.read("events") +
                         mount.log.read_text())

    def test_an_alias_of_the_record_leads_to_where_it_is_put(self):
        """By the older hash as well, which servers of long ago know alone."""
        bind = self.bind()
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        self.dns_profile(mount, ca, bind, key="hmac-sha1")
        self.dns_id(mount, "alias")
        self.assertEqual(mount.request("local/alias", "enroll"), "ok", mount.log.read_text())
        self.assert_issued(mount, "alias")
        self.assert_clean(bind)
        self.assertIn("alias.proofs.example.net", (bind.folder / "log").read_text(),
                      "the record was put where the alias leads to")

    def test_a_server_that_is_reached_by_ipv6(self):
        port = free_port()
        bind = self.bind(V6=str(port))
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        self.profile(mount, ca, more=f"acme-dns-server = [::1]:{port}\n"
                                     f"acme-dns-tsig = {bind.key('hmac-sha512')}\n")
        self.dns_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok", mount.log.read_text())
        self.assert_clean(bind)

    def test_the_other_name_server_is_waited_for(self):
        """The CA asks the one that learns of the record late."""
        one, other = self.addresses(2)
        first, second = Bind(self, one, SECOND=other), Bind(self, other, start=False, FIRST=one)
        second.folder.mkdir()
        (second.folder / "keys").write_text((first.folder / "keys").read_text())
        second.start()
        ca = self.ca(second)
        mount = self.acme_mount(ca)
        self.dns_profile(mount, ca, first)
        with second.halted():
            self.dns_id(mount)
            mount.write("local/www/request", "enroll\n")
            self.assertTrue(until(first.records))
            self.assertFalse(until(lambda: mount.status("local/www")["request"] != "running", 1))
        self.assertEqual(mount.wait("local/www"), "ok", mount.log.read_text())
        self.assert_clean(first)


class Refused(DnsTest):
    """Nothing is final that a name server or a program says: whoever mends it need do no more."""

    def reason(self, mount, name="www"):
        self.assertTrue(until(lambda: mount.status(f"local/{name}")["last-error"]))
        return mount.status(f"local/{name}")["last-error"]

    def change(self, mount, old, new):
        mount.write("ca/corp/config", mount.read("ca/corp/config").replace(old, new))

    def test_each_refusal_in_words_and_a_mended_key_goes_on(self):
        bind = self.bind()
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        true = bind.key("hmac-sha512")
        refused = {"wrong": (true[:-8] + "AAAAAA==", "another secret (BADSIG)"),
                   "unknown": ("nobody" + true[true.index(":"):], "does not know the TSIG key"),
                   "stranger": (bind.key("stranger"), "does not let the TSIG key stranger"),
                   "unsigned": ("", "acme-dns-tsig is not set (REFUSED)")}
        for name, (key, words) in refused.items():
            line = f"acme-dns-tsig = {key}\n" if key else ""
            self.profile(mount, ca, name=name, more=f"acme-dns-server = {bind.address}\n{line}")
            self.certificate_id(mount, name, profile=name, more="acme-challenge = dns-01\n")
            mount.write(f"local/{name}/request", "enroll\n")
        for name, (key, words) in refused.items():
            self.assertIn(words, self.reason(mount, name))
        mount.write("ca/wrong/config", mount.read("ca/wrong/config") +
                    f"acme-dns-tsig = {true}\n")
        self.assertEqual(mount.wait("local/wrong"), "ok")
        self.assert_issued(mount, "wrong", "wrong")
        self.assert_clean(bind)

    def test_a_clock_that_is_wrong(self):
        bind = self.bind()
        ca = self.ca(bind)
        clock = Clock(self)
        clock.set(600)
        mount = self.mount(clock=clock)
        self.dns_profile(mount, ca, bind)
        self.dns_id(mount)
        mount.write("local/www/request", "enroll\n")
        self.assertIn("differ by more than 300 seconds (BADTIME)", self.reason(mount))

    def test_zones_that_are_none_of_the_servers(self):
        bind = self.bind()
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        self.dns_profile(mount, ca, bind)
        for name, domain, words in (("other", "www.example.org", "has no zone"),
                                    ("far", "x.elsewhere.example.net", "other name servers'")):
            os.mkdir(mount.point / "local" / name)
            mount.write(f"local/{name}/config", f"ca-profile = corp\ndomain-name = {domain}\n"
                                                "acme-challenge = dns-01\nkey-type = ecdsa\n")
            mount.write(f"local/{name}/request", "enroll\n")
            self.assertIn(words, self.reason(mount, name))

    def test_a_dead_server_leaves_a_record_until_it_is_back(self):
        bind = self.bind(start=False)
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        bind.start()
        self.dns_profile(mount, ca, bind)
        bind.stop()
        self.dns_id(mount)
        mount.write("local/www/request", "enroll\n")
        self.assertIn("is not reached by TCP: Connection refused", self.reason(mount))
        self.assertTrue(until(lambda: "acme-dns-left" in mount.status("ca/corp")))
        bind.start()
        self.assertEqual(mount.wait("local/www"), "ok")
        self.assertTrue(until(lambda: "acme-dns-left" not in mount.status("ca/corp")))
        self.assert_clean(bind)

    def test_what_is_missing_is_said_at_once(self):
        ca = self.ca(self.bind(start=False))
        mount = self.acme_mount(ca)
        self.profile(mount, ca)
        for name, more, words in (("www", "", "acme-dns-server or acme-dns-hook"),
                                  ("ip", "ip-address = 127.0.0.1\n", "proves no ip-address")):
            self.dns_id(mount, name, more)
            with self.assertRaises(OSError):
                mount.write(f"local/{name}/request", "enroll\n")
            self.assertIn(words, mount.status(f"local/{name}")["last-error"])


class Deaths(DnsTest):
    def test_what_was_put_is_taken_away_after_any_death(self):
        bind = self.bind()
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        self.dns_profile(mount, ca, bind)
        self.dns_id(mount, more="domain-name = *.www.example.net\n")
        for version, death in enumerate((lambda: mount.kill("enroll"), lambda: mount.kill("store"),
                                         lambda: (mount.kill_all(), mount.start())), 1):
            mount.write("local/www/request", "enroll\n" if version == 1 else "re-enroll\n")
            until(lambda: bind.records() or mount.status("local/www")["request"] == "done")
            death()
            self.assertEqual(mount.wait("local/www"), "ok")
            self.assert_issued(mount, version=version)
            self.assert_clean(bind)


class Hook(DnsTest):
    """The program does what nsupdate would, for a server that the profile says nothing of."""

    def hook(self, text):
        program = self.folder / "hook"
        program.write_text(text)
        program.chmod(stat.S_IRWXU | stat.S_IXGRP | stat.S_IRGRP | stat.S_IXOTH | stat.S_IROTH)
        return program

    def test_a_program_puts_the_records_and_takes_them_away(self):
        bind = self.bind()
        ca = self.ca(bind)
        mount = self.acme_mount(ca)
        name, algorithm, secret = bind.key("hmac-sha256").split(":")
        program = self.hook(f"""#!/bin/sh
PATH=/usr/bin:/bin
case $PKIFS_ACTION in
add) change="add $PKIFS_NAME. 60 TXT $PKIFS_VALUE" ;;
remove) change="delete $PKIFS_NAME. TXT $PKIFS_VALUE" ;;
esac
env >{self.folder}/environment
printf 'server {bind.address}\\nupdate %s\\nsend\\n' "$change" |
	nsupdate -y {algorithm}:{name}:{secret}
""")
        self.profile(mount, ca, more=f"acme-dns-hook = {program}\n")
        self.dns_id(mount, more="domain-name = *.www.example.net\n")
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assert_issued(mount)
        self.assert_clean(bind)
        told = (self.folder / "environment").read_text()
        self.assertEqual({line.split("=")[0] for line in told.splitlines()} - {"PWD", "_", "SHLVL"},
                         {"PKIFS_ACTION", "PKIFS_NAME", "PKIFS_VALUE"})

    def test_its_failure_is_told_with_its_last_words(self):
        ca = self.ca(self.bind(start=False))
        mount = self.acme_mount(ca)
        program = self.hook("#!/bin/sh\necho first >&2\nprintf 'no such zone\\033[2J\\n' >&2\nexit 3\n")
        self.profile(mount, ca, more=f"acme-dns-hook = {program}\n")
        self.dns_id(mount)
        mount.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: mount.status("local/www")["last-error"]))
        self.assertIn("acme-dns-hook failed (exit code 3): no such zone?[2J",
                      mount.status("local/www")["last-error"])
        program.chmod(0o777)
        self.assertTrue(until(lambda: "others than root can change it" in
                              mount.status("local/www")["last-error"]))


if __name__ == "__main__":
    main()
