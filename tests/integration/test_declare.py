"""Declared objects: a box with files alone and nobody to type gets its certificates."""

import errno
import json
import os
import signal
import unittest

from harness import RSA_KEY, main, many, run, until
from scep import Ca, Scep, assert_valid

ANOTHER = ":".join(["AB"] * 32)  # fingerprint of no CA


class Declared(Scep):
    def declared(self, *sections, start=True, options=()):
        """A mount, with an empty store, whose configuration is SECTIONS."""
        m = self.mount(*options, start=False)
        m.conf = m.folder / "pkifs.conf"
        self.put(m, *sections)
        return m.start() if start else m

    def put(self, mount, *sections):
        mount.conf.write_text("\n".join(sections))

    def reload(self, mount, *sections, file=None, says="the configuration is read again"):
        """SECTIONS (or FILE as it is now) become the configuration of the daemon that runs."""
        if not file:
            self.put(mount, *sections)
        before = mount.log.read_text().count(says)
        mount.daemon.send_signal(signal.SIGHUP)
        self.assertTrue(until(lambda: mount.log.read_text().count(says) > before),
                        mount.log.read_text())

    def ca_section(self, ca, *more, fingerprint=None):
        return "\n".join(("[ca corp]", f"enrollment-url = {ca.url}",
                          f"ca-fingerprint = {fingerprint or ca.fingerprint()}",
                          "enrollment-retry-interval = 0", *more, ""))

    def local_section(self, *more, name="www"):
        return "\n".join((f"[local {name}]", "ca-profile = corp",
                          f"subject = CN={name}.example.net,O=Example",
                          f"domain-name = {name}.example.net",
                          "challenge-password = secret", *more, ""))

    def becomes(self, mount, path, **expected):
        """Waits until `status` of PATH says what is EXPECTED; it."""
        expected = {key.replace("_", "-"): value for key, value in expected.items()}
        self.assertTrue(until(lambda: (mount.point / path).exists() and
                              expected.items() <= mount.status(path).items()),
                        f"{path} is not {expected}: {mount.log.read_text()[-3000:]}")
        return mount.status(path)

    def events(self, mount, name=None):
        found = [json.loads(line) for line in mount.read("events").splitlines()]
        return [event for event in found if name in (None, event["event"])]

    def everything(self, mount):
        """What must not change by itself."""
        return (self.events(mount), mount.read("local/www/config"), mount.read("ca/corp/config"),
                mount.read("local/www/bundle.pem"), mount.status("local/www"))


class Alone(Declared):
    """Nobody writes anything."""

    def test_files_alone_give_a_certificate(self):
        ca = Ca(self, script="scep-server")
        ca.folder.joinpath("ca.pem").symlink_to("depot/ca.pem")
        m = self.declared(self.ca_section(ca), self.local_section())
        self.becomes(m, "local/www", state="valid")
        status = assert_valid(self, m, "www", version=1)
        self.assertEqual(status["declared"],
                         "ca-profile subject domain-name challenge-password")
        self.assertEqual(m.status("ca/corp")["trusted-by"], "ca-fingerprint")
        self.assertEqual(m.read("local/www/config"),
                         "ca-profile = corp\nsubject = CN=www.example.net,O=Example\n"
                         "domain-name = www.example.net\nchallenge-password = ***\n")

    def test_a_restart_and_a_reload_change_nothing(self):
        ca = Ca(self)
        m = self.declared(self.ca_section(ca), self.local_section())
        self.becomes(m, "local/www", state="valid")
        before = self.everything(m)
        self.reload(m, file=m.conf)
        self.assertEqual(self.everything(m), before)
        self.assertEqual(m.stop(), 0)
        m.start()
        self.assertEqual(self.everything(m), before)
        m.kill("store")
        self.assertEqual(self.everything(m), before)
        self.assertEqual(len(ca.said("received PKCSReq")), 1)

    def test_with_privilege_separation_secrets_are_root_s(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        ca = Ca(self, "-c", "a secret of root's")
        secret = self.folder / "secret"
        secret.touch(0o600)
        secret.write_text("a secret of root's\n")
        m = self.declared(self.ca_section(ca),
                          self.local_section(f"challenge-password = @file:{secret}"),
                          options=(f"store={self.folder}/var/store.db",
                                   "privilege-separation=yes", "user=daemon",
                                   "worker-user=games"))
        self.becomes(m, "local/www", state="valid")
        assert_valid(self, m, "www", version=1)

    @unittest.skipUnless(os.geteuid() == 0, "a test as an ordinary user is one already")
    def test_as_an_ordinary_user(self):
        ca = Ca(self)
        m = self.declared(self.ca_section(ca), self.local_section(), start=False)
        there = m.by_nobody()
        self.assertTrue(until(lambda: "state = valid" in run(
            *there, "cat", m.point / "local/www/status").stdout), m.log.read_text())

    def test_the_store_dies_again_and_again(self):
        ca = Ca(self, "-w", "1")
        m = self.declared(self.ca_section(ca), self.local_section())
        for _ in range(5):
            m.kill("store")
            self.assertTrue(until(lambda: m.children("store")))
        self.becomes(m, "local/www", state="valid")
        assert_valid(self, m, "www", version=1)
        self.assertEqual(len(ca.messages()), 1)  # one transaction

    def test_a_ca_that_is_down_at_first(self):
        ca = Ca(self, start=False)
        ca.start()
        fingerprint = ca.fingerprint()
        ca.stop()
        m = self.declared(self.ca_section(ca, fingerprint=fingerprint), self.local_section())
        status = self.becomes(m, "ca/corp", request="waiting")
        self.assertEqual(status["state"], "empty")
        self.assertEqual(m.status("local/www")["next-action"],
                         "enroll as soon as profile corp is trusted")
        self.assertEqual(m.status("local/www")["request"], "none")
        ca.start()
        self.becomes(m, "local/www", state="valid")


class Secrets(Declared):
    def test_values_from_files_and_credentials(self):
        ca = Ca(self, "-c", "from elsewhere")
        (self.folder / "credentials").mkdir()
        for path in ("file", "credentials/scep"):
            (self.folder / path).write_text("from elsewhere\nand no more\n")
            (self.folder / path).chmod(0o600)
        m = self.declared(
            self.ca_section(ca),
            self.local_section(f"challenge-password = @file:{self.folder}/file"),
            self.local_section("challenge-password = @credential:scep", name="mail"), start=False)
        m.conf.chmod(0o600)
        m.environment["CREDENTIALS_DIRECTORY"] = self.folder / "credentials"
        m.options = ("log-level=debug",)
        m.start()
        for name in ("www", "mail"):
            self.becomes(m, f"local/{name}", state="valid")
            shown = "".join(m.read(f"local/{name}/{file}")
                            for file in ("config", "request", "status"))
            self.assertIn("challenge-password = ***", shown)
            self.assertNotIn("elsewhere", shown + m.read("events") + m.read("status.json"))
        self.assertNotIn("elsewhere", m.log.read_text())
        self.assertNotIn("can be read by all", m.log.read_text())

    def test_a_secret_that_all_can_read_is_told_with_the_remedy(self):
        m = self.declared("[local www]", "challenge-password = secret", start=False)
        m.conf.chmod(0o644)
        m.start()
        self.assertIn(f"{m.conf} holds challenge-password and can be read by all: "
                      f"chmod o-r {m.conf}", m.log.read_text())


class Precedence(Declared):
    """What files say wins; all else is the user's."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.m.conf = self.m.folder / "pkifs.conf"
        os.mkdir(self.m.point / "ca/corp")
        os.mkdir(self.m.point / "local/mine")
        self.m.write("local/mine/config", "subject = CN=mine\n")
        os.mkdir(self.m.point / "local/www")
        self.m.write("local/www/config", "# by hand\nkey-size = 3072\nca-profile = corp\n"
                     "domain-name = c.example.net\nvalidity-period = 30\n"
                     "domain-name = d.example.net\n")
        self.m.stop()
        self.put(self.m, "[local www]", "domain-name = a.example.net",
                 "domain-name = b.example.net", "key-size = 4096", "challenge-password = secret")
        self.m.start()

    DECLARED = ("# by hand\nkey-size = 4096\nca-profile = corp\ndomain-name = a.example.net\n"
                "domain-name = b.example.net\nvalidity-period = 30\nchallenge-password = ***\n")

    def test_files_win_and_the_rest_stays(self):
        self.assertEqual(self.m.read("local/www/config"), self.DECLARED)
        self.assertEqual(self.m.read("local/mine/config"), "subject = CN=mine\n")
        self.assertNotIn("declared", self.m.status("local/mine"))
        self.m.write("local/www/config", self.DECLARED.replace("30", "60"))
        self.assertEqual(self.m.read("local/www/config"), self.DECLARED.replace("30", "60"))

    def test_another_value_is_refused(self):
        for key, value in (("key-size", "3072"), ("domain-name", "e.example.net"),
                           ("challenge-password", "other")):
            for file, text in (("config", f"{key} = {value}\n"),
                               ("request", f"action = generate-key-pair\n{key} = {value}\n")):
                self.refused(self.m, f"local/www/{file}", text, f"{key} is declared in pkifs.conf")
        for some in ("domain-name = a.example.net\n",  # the values of one that repeats are one
                     "domain-name = b.example.net\ndomain-name = a.example.net\n"):
            self.refused(self.m, "local/www/config", some, "domain-name is declared")
        self.assertEqual(self.m.read("local/www/config"), self.DECLARED)
        self.assertEqual(self.m.status("local/www")["request"], "none")

    def test_a_text_that_leaves_it_out_keeps_it(self):
        self.m.write("local/www/config", "digest = sha384\n")
        text = self.m.read("local/www/config")
        self.assertTrue(text.startswith("digest = sha384\n"), text)
        for line in self.DECLARED.splitlines():
            self.assertEqual(line in text, not line.startswith(("#", "ca-p", "valid")), text)
        self.m.write("local/www/config", "")
        self.assertTrue(until(lambda: sorted(self.m.read("local/www/config").splitlines()) ==
                              sorted(set(text.splitlines()) - {"digest = sha384"})))

    def test_it_is_not_removed(self):
        with self.assertRaises(OSError) as caught:
            os.rmdir(self.m.point / "local/www")
        self.assertEqual(caught.exception.errno, errno.EBUSY)
        self.assertIn("local www is declared in pkifs.conf",
                      self.m.status("local/www")["last-error"])
        self.reload(self.m, "")
        self.becomes(self.m, "local/www", state="empty")
        self.assertTrue(until(lambda: "declared" not in self.m.status("local/www")))
        self.assertEqual(self.m.read("local/www/config"), self.DECLARED)  # it stays as it is
        self.m.write("local/www/config", "key-size = 3072\n")
        os.rmdir(self.m.point / "local/www")

    def test_a_key_that_leaves_the_files_has_its_default(self):
        self.reload(self.m, "[local www]", "key-size = 4096")
        self.assertTrue(until(lambda: self.m.status("local/www")["declared"] == "key-size"))
        self.assertEqual(self.m.read("local/www/config"),
                         "# by hand\nkey-size = 4096\nca-profile = corp\nvalidity-period = 30\n")

    def test_what_cannot_be_stops_nothing_else(self):
        self.reload(self.m, "[local bad]", "ca-profile = nowhere", "[local good]",
                    "ca-profile = corp", "auth-certificate-id = later", "[local later]")
        self.becomes(self.m, "local/good", last_error="")
        self.assertTrue(until(lambda: "auth-certificate-id = later" in
                              self.m.read("local/good/config")))
        reason = "ca-profile = nowhere: there is no CA profile of that name"
        self.becomes(self.m, "local/bad", last_error=reason)
        self.assertEqual(self.m.read("local/bad/config"), "")
        self.assertIn(f"local bad cannot be as it is declared: {reason}", self.m.log.read_text())
        self.assertEqual(self.m.stop(), 0)
        self.m.start()
        self.assertEqual([event["reason"] for event in self.events(self.m, "refused")], [reason])
        os.mkdir(self.m.point / "ca/nowhere")
        self.reload(self.m, file=self.m.conf)
        self.assertTrue(until(lambda: self.m.status("local/bad")["declared"] == "ca-profile"))


class Reload(Declared):
    def test_files_in_order_of_name(self):
        m = self.mount(start=False)
        m.conf = m.folder / "etc"
        (m.conf / "conf.d").mkdir(parents=True)
        (m.conf / "pkifs.conf").write_text("keep-versions = 5\n[local www]\nkey-size = 2048\n")
        (m.conf / "conf.d/20-b.conf").write_text("[local www]\nkey-size = 4096\n")
        (m.conf / "conf.d/10-a.conf").write_text("[local www]\nkey-size = 3072\n"
                                                 "digest = sha384\n[local mail]\n")
        (m.conf / "conf.d/30-c.conf.bak").write_text("[local www]\nkey-size = 2048\n")
        m.start()
        self.assertEqual(m.read("local/www/config"), "key-size = 4096\ndigest = sha384\n")
        self.assertEqual(sorted(os.listdir(m.point / "local")), ["mail", "www"])
        (m.conf / "conf.d/20-b.conf").unlink()
        self.reload(m, file=m.conf)
        self.assertTrue(until(lambda: "3072" in m.read("local/www/config")))

    def test_objects_and_keys_come_and_change(self):
        m = self.declared("[local www]", "key-size = 3072")
        self.assertEqual(m.read("local/www/config"), "key-size = 3072\n")
        self.reload(m, "[ca corp]", "[local www]", "key-size = 4096", "ca-profile = corp")
        self.assertTrue(until(lambda: m.read("local/www/config") ==
                              "key-size = 4096\nca-profile = corp\n"))
        self.assertEqual(m.status("ca/corp")["state"], "empty")

    def test_very_many(self):
        names = [f"host{i}" for i in range(many(10000))]
        ca = "[ca corp]\nenrollment-url = http://127.0.0.1:9/scep\n"
        sections = [ca] + [self.local_section(name=name) for name in names]
        m = self.declared(*sections)
        m.kill("store")  # in the middle
        last = f"local/{names[-1]}"
        self.becomes(m, last, next_action="enroll as soon as profile corp is trusted")
        self.assertEqual(sorted(os.listdir(m.point / "local")), sorted(names))
        m.kill("store")
        self.reload(m, *sections[:-1])
        self.assertTrue(until(lambda: "declared" not in m.status(last)))
        os.rmdir(m.point / last)

    def test_a_bad_file_changes_nothing_and_says_so(self):
        m = self.declared("[local www]", "key-size = 3072")
        self.reload(m, "[local mail]", "[local www]", "key-size = 12",
                    says="the configuration stays as it was")
        reason = f"{m.conf}: line 3: key-size takes"
        self.assertIn(reason, m.log.read_text())
        self.assertTrue(until(lambda: self.events(m, "conf-refused")))
        self.assertIn(reason, self.events(m, "conf-refused")[0]["reason"])
        self.assertEqual(m.read("local/www/config"), "key-size = 3072\n")
        self.assertFalse((m.point / "local/mail").exists())
        self.assertEqual(m.status("local/www")["declared"], "key-size")
        m.kill("store")
        self.assertEqual(m.read("local/www/config"), "key-size = 3072\n")

    def test_a_bad_file_at_the_start_is_named_with_its_line(self):
        m = self.declared("workers = 4", "[local www]", "key-sise = 3072", start=False)
        self.fails_to_start(m, f"{m.conf}: line 3: unknown key \"key-sise\"; did you mean")
        self.put(m, "[ipsec berlin]", "mark = x")
        self.fails_to_start(m, f"{m.conf}: line 2: mark takes VALUE or VALUE/MASK")
        self.put(m, "[local www]", "challenge-password = @credential:scep")
        self.fails_to_start(m, "line 2: @credential:scep: systemd passed no credentials")

    def test_a_file_that_is_named_from_here_is_read_again_from_anywhere(self):
        m = self.declared("[local www]", start=False)
        m.conf = os.path.relpath(m.conf)
        run(m.programs / "pkifsd", "-c", m.conf, "-s", m.folder / "store.db", "-o",
            f"store-key={m.folder}/store.key", "-o", "log=syslog",
            *(["-o", "privilege-separation=no"] if os.geteuid() == 0 else []), m.point)
        self.addCleanup(run, "fusermount3", "-u", m.point)
        pid = int(run("pgrep", "-of", f"pkifsd .*{m.point}").stdout)
        (m.folder / "pkifs.conf").write_text("[local www]\n[local mail]\n")
        os.kill(pid, signal.SIGHUP)
        self.assertTrue(until(lambda: (m.point / "local/mail").exists()))

    def test_the_place_of_the_store_stays_until_the_next_start(self):
        m = self.declared(start=False)
        m.under = ("bash", "-c", f'exec "$1" -f -c {m.conf}', "_")  # all stands in the file
        other = m.folder / "other"

        def places(folder):
            return (f"store = {folder}/store.db", f"store-key = {folder}/store.key",
                    f"mount-point = {m.point if folder == m.folder else folder}",
                    "privilege-separation = no")

        self.put(m, *places(m.folder))
        m.start()
        os.mkdir(m.point / "local/www")
        self.reload(m, *places(other), "[local mail]")
        m.kill("store")
        self.assertTrue(until(lambda: sorted(os.listdir(m.point / "local")) == ["mail", "www"]))
        m.kill("keys")
        m.write("local/www/config", "subject = CN=www\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        self.assertFalse(other.exists())

    def test_a_wrong_fingerprint_is_refused_once_and_mended(self):
        ca = Ca(self)
        m = self.declared(self.ca_section(ca, fingerprint=ANOTHER), self.local_section())
        status = self.becomes(m, "ca/corp", request="rejected")
        self.assertIn(f"SHA-256 fingerprint {ca.fingerprint()}, which is no ca-fingerprint",
                      status["last-error"])
        self.reload(m, file=m.conf)
        self.assertEqual(m.stop(), 0)
        m.start()
        self.becomes(m, "ca/corp", request="rejected", state="empty")
        self.assertEqual(len(self.events(m, "rejected")), 1)
        self.reload(m, self.ca_section(ca), self.local_section())
        self.becomes(m, "local/www", state="valid")

    def test_another_ca_takes_the_place_of_the_one_before(self):
        old, new = Ca(self), Ca(self)
        m = self.declared(self.ca_section(old), self.local_section())
        self.becomes(m, "local/www", state="valid")
        self.reload(m, self.ca_section(new), self.local_section())
        self.assertTrue(until(lambda: new.fingerprint() in m.read("ca/corp/fingerprint")))
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www", version=2)

    def test_a_server_that_is_named_anew_is_asked_at_once(self):
        ca = Ca(self)
        nobody = Ca(self, like=ca, start=False)
        slow = "enrollment-retry-interval = 3600"
        m = self.declared(self.ca_section(nobody, slow), self.local_section())
        self.becomes(m, "ca/corp", request="waiting")
        self.reload(m, self.ca_section(ca, slow), self.local_section())
        self.becomes(m, "local/www", state="valid")


class AutoEnroll(Declared):
    """The same for what is written by hand."""

    def profile(self, ca, *more):
        m = self.mount()
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/config", "\n".join((f"enrollment-url = {ca.url}",
                                             "enrollment-retry-interval = 0", *more, "")))
        return m

    def test_it_waits_for_trust(self):
        ca = Ca(self)
        m = self.profile(ca)
        self.certificate_id(m, more="auto-enroll = enable\n")
        self.certificate_id(m, "mail")
        self.becomes(m, "local/www", next_action="enroll as soon as profile corp is trusted")
        self.assertEqual(m.request("ca/corp", "enroll"), "ok")
        self.assertEqual(m.status("local/www")["request"], "none")
        m.write("ca/corp/confirm", "yes\n")
        self.becomes(m, "local/www", state="valid")
        self.assertEqual(m.status("local/mail")["request"], "none")
        m.write("local/mail/config", m.read("local/mail/config") + "auto-enroll = enable\n")
        self.becomes(m, "local/mail", state="valid")
        self.assertEqual(m.request("local/mail", "clear-certificate"), "ok")
        m.write("local/www/config", m.read("local/www/config") + "validity-period = 30\n")
        self.assertEqual(m.status("local/mail")["state"], "key")  # that was meant
        self.assertEqual(len(ca.said("received PKCSReq")), 2)

    def test_a_known_fingerprint_is_enough(self):
        ca = Ca(self)
        m = self.profile(ca, f"ca-fingerprint = {ca.fingerprint()}")
        self.assertEqual(m.status("ca/corp")["request"], "none")  # nobody needs it yet
        self.certificate_id(m, more="auto-enroll = enable\n")
        self.becomes(m, "local/www", state="valid")

    def test_what_the_ca_refuses_is_tried_again_with_another_config_alone(self):
        ca = Ca(self, "-c", "right")
        m = self.profile(ca, f"ca-fingerprint = {ca.fingerprint()}")
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "ca-profile = corp\ndomain-name = www.example.net\n"
                                    "auto-enroll = enable\nchallenge-password = wrong\n")
        status = self.becomes(m, "local/www", request="failed")
        self.assertIn("the CA refuses", status["last-error"])
        self.assertEqual(m.stop(), 0)
        m.start()
        m.write("local/www/config", m.read("local/www/config"))  # the same
        self.assertEqual(m.status("local/www")["request"], "failed")
        self.assertEqual(len(ca.said("received PKCSReq")), 1)
        m.write("local/www/config", m.read("local/www/config") + "validity-period = 30\n")
        self.assertTrue(until(lambda: len(ca.said("received PKCSReq")) == 2))
        self.becomes(m, "local/www", request="failed")
        m.write("local/www/config", m.read("local/www/config") + "challenge-password = right\n")
        self.becomes(m, "local/www", state="valid")
        self.assertEqual(len(ca.said("received PKCSReq")), 3)

    def test_another_config_while_a_request_runs_counts_after_it(self):
        ca = Ca(self, "-c", "right")
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        self.ready_key(m, "www", *RSA_KEY)
        text = m.read("local/www/config")
        server = int((ca.folder / "pid").read_text())
        os.kill(server, signal.SIGSTOP)
        try:
            m.write("local/www/config", text + "auto-enroll = enable\n")
            self.becomes(m, "local/www", request="running")
            m.write("local/www/config", text + "auto-enroll = enable\n"
                                               "challenge-password = right\n")
        finally:
            os.kill(server, signal.SIGCONT)
        self.becomes(m, "local/www", state="valid")
        self.assertEqual(len(self.events(m, "failed")), 1)
        self.assertEqual(len(ca.said("received PKCSReq")), 2)

    def test_what_cannot_work_says_why(self):
        ca = Ca(self)
        m = self.profile(ca, f"ca-fingerprint = {ca.fingerprint()}")
        self.certificate_id(m, more="auto-enroll = enable\nkey-type = ecdsa\n")
        reason = "ECDSA Keypair not supported with SCEP for cert_id www"
        self.becomes(m, "local/www", last_error=reason, request="none")
        self.assertEqual([e["reason"] for e in self.events(m, "refused")], [reason])

    def test_cancel_ends_it(self):
        ca = Ca(self, "-w", "1000", "-t", "1")
        m = self.profile(ca, f"ca-fingerprint = {ca.fingerprint()}")
        self.certificate_id(m, more="auto-enroll = enable\n")
        self.becomes(m, "local/www", request="waiting")
        m.write("local/www/config", m.read("local/www/config") + "validity-period = 30\n")
        m.write("local/www/request", "cancel\n")
        self.assertEqual(m.stop(), 0)
        m.start()
        self.assertEqual(m.status("local/www")["request"], "failed")
        self.assertEqual(len(ca.messages()), 1)


class Defaults(Declared):
    """[auto-re-enrollment PROTOCOL]"""

    def test_a_key_of_the_id_itself_wins(self):
        ca = Ca(self, "-c", "shared")
        m = self.declared(self.ca_section(ca, "protocol = scep"),
                          "[auto-re-enrollment scep]", "challenge-password = shared",
                          "re-generate-keypair = yes", "[auto-re-enrollment cmpv2]",
                          "challenge-password = another",
                          self.local_section("re-generate-keypair = no").replace(
                              "challenge-password = secret\n", ""),
                          self.local_section(name="mail").replace(
                              "challenge-password = secret\n", ""),
                          self.local_section(name="wrong"))
        self.assertNotIn("challenge", m.read("local/www/config"))
        self.becomes(m, "local/wrong", request="failed")
        for name, same in (("www", True), ("mail", False)):
            self.becomes(m, f"local/{name}", state="valid")
            key = m.read(f"local/{name}/key.pem")
            self.assertEqual(m.request(f"local/{name}", "re-enroll"), "ok")
            self.assertEqual(m.read(f"local/{name}/key.pem") == key, same, name)

    def test_other_defaults_are_another_config(self):
        ca = Ca(self, "-c", "right")
        local = self.local_section().replace("challenge-password = secret\n", "")
        m = self.declared(self.ca_section(ca), local, "[auto-re-enrollment scep]",
                          "challenge-password = wrong")
        self.becomes(m, "local/www", request="failed")
        self.reload(m, self.ca_section(ca), local, "[auto-re-enrollment scep]",
                    "challenge-password = right")
        self.becomes(m, "local/www", state="valid")


if __name__ == "__main__":
    main()
