"""Certificates that renew by themselves, at a clock that the test sets."""

import datetime
import json
import os
import pathlib
import shutil
import signal
import tempfile
import types
from collections import Counter

from harness import BIN, PATIENCE, RSA_KEY, SHARE, Clock, main, many, run, shell, until
from scep import Ca, Scep, assert_valid

DAY = 86400
AUTO = "auto-re-enrollment = enable\n"


def seconds(text):
    """Unix seconds of a time in `status`."""
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()


class Renewal(Scep):
    """A CA and a daemon with the same clock. Their keys are made once for all tests."""

    made = tempfile.TemporaryDirectory(prefix="pkifs-test-")

    def setUp(self):
        super().setUp()
        self.clock = Clock(self)
        for key in pathlib.Path(self.made.name).glob("key-*"):
            shutil.copy(key, self.folder)

    def ca(self, *options):
        """A CA; all of them have the same key."""
        kept = pathlib.Path(self.made.name) / "ca"
        known = types.SimpleNamespace(folder=kept) if kept.exists() else None
        ca = Ca(self, *options, like=known, SCEP_CA=str(self.clock.programs / "scep-ca"))
        if not known:
            shutil.copytree(ca.folder, kept, ignore=shutil.ignore_patterns("pid", "log"))
        return ca

    def certificate_id(self, mount, name="www", profile="corp", more=""):
        super().certificate_id(mount, name, profile, more)
        self.ready_key(mount, name, *RSA_KEY)
        for key in self.folder.glob("key-*"):
            shutil.copy(key, self.made.name)

    def mount(self, *options, start=True):
        return super().mount(*options, start=start, clock=self.clock)

    def step(self, mount, when, **options):
        """The clock shows WHEN, and the store looks at it, as it does each second by itself."""
        self.clock.step_to(when, **options)
        mount.write("ca/corp/request", "verify\n")

    def next_action(self, mount, name="www"):
        """What comes next, and when; the time is None where there is none yet."""
        status = mount.status(f"local/{name}")
        at = status.get("next-action-at")
        return status.get("next-action"), at and seconds(at)

    def due(self, mount, name="www"):
        """When it renews: Unix seconds."""
        action, at = self.next_action(mount, name)
        self.assertEqual(action, "re-enroll", mount.status(f"local/{name}"))
        return at

    def events(self, mount, *names):
        """The events of these names, as dictionaries."""
        return [event for event in map(json.loads, mount.read("events").splitlines())
                if event["event"] in names]

    def becomes(self, mount, name="www", **expected):
        def fits():
            status = mount.status(f"local/{name}")
            return all(status.get(key.replace("_", "-")) == str(value)
                       for key, value in expected.items())
        self.assertTrue(until(fits), mount.status(f"local/{name}"))

    def renews(self, mount, version, name="www"):
        """The clock goes on to the time when VERSION comes, and it comes."""
        self.step(mount, self.due(mount, name))
        self.becomes(mount, name, version=version, request="done", state="valid")


class Alone(Renewal):
    """One certificate id."""

    def test_it_renews_when_it_is_due_again_and_again(self):
        ca = self.ca("-n", "600s")
        m = self.enrolled(ca, AUTO, "re-enroll-trigger-time-percentage = 50")
        first = m.read("local/www/key.pem")
        for version in range(2, 5):
            status = m.status("local/www")
            begin, end = seconds(status["not-before"]), seconds(status["not-after"])
            due = self.due(m)
            # a little later than half of the lifetime, as all are spread
            self.assertGreaterEqual(due, end - (end - begin) / 2)
            self.assertLessEqual(due, end - (end - begin) / 2 * 0.9)
            self.renews(m, version)
        assert_valid(self, m, "www", version=4, at=self.clock.now())
        self.assertEqual(m.read("local/www/key.pem"), first)
        self.assertEqual(len(ca.said("received RenewalReq")), 3)

    def test_seconds_of_lifetime_are_enough(self):
        ca = self.ca("-n", "12s")
        m = self.enrolled(ca, AUTO)
        self.becomes(m, version=2)
        self.assertEqual(m.status("local/www")["state"], "valid")

    def test_a_time_before_the_end_wins_and_a_new_key_takes_over_with_its_certificate(self):
        m = self.enrolled(self.ca(), AUTO, "re-enroll-time = 12h", "re-generate-keypair = yes")
        first = m.read("local/www/key.pem")
        end = seconds(m.status("local/www")["not-after"])
        self.assertTrue(end - DAY / 2 <= self.due(m) <= end - DAY / 2 * 0.9)
        self.renews(m, 2)
        self.assertNotEqual(m.read("local/www/key.pem"), first)
        assert_valid(self, m, "www", at=self.clock.now())

    def test_what_is_due_while_nothing_runs_is_done_at_the_next_start(self):
        m = self.enrolled(self.ca(), AUTO)
        due = self.due(m)
        m.stop()
        m.start()
        self.assertEqual(self.due(m), due)
        m.stop()
        self.clock.step_to(due)
        m.start()
        self.becomes(m, version=2, request="done")

    def test_a_request_under_way_that_dies_with_the_daemon_goes_on(self):
        ca = self.ca()
        m = self.enrolled(ca, AUTO)
        ca.restart("-w", "1", "-t", "1")
        self.clock.step_to(self.due(m))
        self.becomes(m, request="waiting", next_action="poll the CA")
        m.kill_all()
        m.start()
        self.becomes(m, version=2, request="done")
        self.assertEqual(len(ca.messages()), 2)  # and not a third transaction

    def test_one_that_ends_before_the_ca_has_decided_comes_all_the_same(self):
        ca = self.ca()
        m = self.enrolled(ca, AUTO)
        ca.restart("-w", "2")
        self.step(m, self.due(m))
        self.becomes(m, request="waiting", next_action="poll the CA")
        self.step(m, seconds(m.status("local/www")["not-after"]))
        self.becomes(m, version=2, request="done", state="valid")
        self.assertEqual(len(ca.messages()), 2)

    def test_one_that_was_loaded_by_hand_renews_where_its_profile_can_be_asked(self):
        ca = self.ca()
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m, more=AUTO)
        (self.folder / "names").write_text("subjectAltName=DNS:www.example.net\n"
                                           "keyUsage=digitalSignature,keyEncipherment\n")
        done = shell(f"cd {self.folder} && openssl req -new -key key-*"
                     " -subj '/CN=www.example.net/O=Example' |"
                     f" openssl x509 -req -CA {ca.folder}/ca.pem -CAkey {ca.folder}/ca.key"
                     " -days 20 -extfile names")
        m.write("local/www/cert.pem", done.stdout)
        self.assertEqual(m.status("local/www")["trust"], "profile")
        config = m.read("ca/corp/config")
        m.write("ca/corp/config", config.replace("enrollment-url", "# enrollment-url"))
        self.becomes(m, next_action="expire",
                     warning="it can't renew by itself: profile corp has no enrollment-url")
        m.write("ca/corp/config", config)
        self.becomes(m, next_action="re-enroll")
        self.renews(m, 2)
        self.assertEqual(len(ca.said("received RenewalReq")), 1)

    def test_one_that_signed_itself_does_so_again(self):
        m = self.mount()
        os.mkdir(m.point / "local/own")
        m.write("local/own/config", f"subject = CN=own\nkey-type = ecdsa\n{AUTO}"
                                    "validity-period = 10\n")
        self.assertEqual(m.request("local/own", "generate-self-signed"), "ok")
        action, due = self.next_action(m, "own")
        self.assertEqual(action, "generate-self-signed")
        self.clock.step_to(due)
        self.becomes(m, "own", version=2, request="done", state="valid")

    def test_without_the_setting_nothing_is_asked_for(self):
        ca = self.ca()
        m = self.enrolled(ca)
        action, end = self.next_action(m)
        self.assertEqual(action, "expire")
        m.write("local/www/config", m.read("local/www/config") + AUTO)
        due = self.due(m)
        m.write("local/www/config", m.read("local/www/config").replace(AUTO, ""))
        self.assertEqual(self.next_action(m), ("expire", end))
        self.clock.step_to(due)
        # the store looks for what is due before it begins with another request
        self.assertEqual(m.request("local/www", "generate-csr"), "ok")
        self.assertEqual(len(ca.messages()), 1)


class Configured(Renewal):
    """What the daemon's files say of all, and what people are told."""

    def test_the_defaults_of_its_protocol_make_an_id_renew(self):
        m = self.mount(start=False)
        m.conf = m.folder / "conf"
        m.conf.write_text("[auto-re-enrollment scep]\n" + AUTO +
                          "re-enroll-trigger-time-percentage = 50\nre-generate-keypair = yes\n")
        m.start()
        self.trusted_profile(m, self.ca().url)
        for name, more in (("www", ""), ("not", "auto-re-enrollment = disable\n")):
            self.certificate_id(m, name, more=more)
            self.assertEqual(m.request(f"local/{name}", "enroll"), "ok")
        key = m.read("local/www/key.pem")
        end = seconds(m.status("local/www")["not-after"])
        self.assertTrue(14 * DAY < end - self.due(m) <= 15.01 * DAY, m.status("local/www"))
        self.assertEqual(self.next_action(m, "not")[0], "expire")
        self.clock.step_to(self.due(m))
        self.becomes(m, version=2, request="done")
        self.assertNotEqual(m.read("local/www/key.pem"), key)
        # others are another time for all at once
        m.conf.write_text("[auto-re-enrollment scep]\n" + AUTO + "re-enroll-time = 2d\n")
        m.daemon.send_signal(signal.SIGHUP)
        end = seconds(m.status("local/www")["not-after"])
        self.assertTrue(until(lambda: 0 < end - self.due(m) <= 2 * DAY))
        m.conf.write_text("")
        m.daemon.send_signal(signal.SIGHUP)
        self.becomes(m, next_action="expire")

    def test_what_comes_next_is_shown_and_what_may_go_wrong(self):
        ca = self.ca("-n", "3000s")
        m = self.enrolled(ca, AUTO)
        self.assertEqual(m.status("local/www")["warning"],
                         "when it renews, 306 s are left: less than 24 h")
        m.write("ca/corp/config", f"enrollment-url = {ca.url}\n")
        self.becomes(m, warning="when it renews, 306 s are left: "
                                "less than two retries of 900 s")
        shown = run(BIN / "pkictl", "-m", m.point, "show", "www").stdout
        self.assertRegex(shown, r"Mind:  when it renews, 306 s are left.*\n"
                                r"Next:  renews by itself at .*, in 4\d minutes")
        listed = json.loads(m.read("status.json"))["local"][0]
        self.assertEqual(listed["next-action"], "re-enroll")
        self.assertEqual(seconds(listed["next-action-at"]), self.due(m))


class Weather(Renewal):
    """A CA that is not there, or says no; a clock that is wrong."""

    def test_attack_68_nothing_renews_on_account_of_a_wrong_clock(self):
        ca = self.ca("-n", "3000")
        m = self.enrolled(ca, AUTO)
        self.certificate_id(m, "other")
        for year, words in ((1970, "not trusted"), (2040, "doubtful"), (2038, "doubtful")):
            self.clock.step_to((year - 1970) * 365.25 * DAY + DAY)
            for again in (False, True):
                # the store looks for what is due before it begins with another request
                self.assertEqual(m.request("local/other", "generate-csr"), "ok")
                self.assertIn(words, m.status("local/www")["clock"])
                if not again:
                    m.stop()
                    m.start()
        self.assertEqual(len(ca.messages()), 1)
        self.clock.set(0)
        self.assertNotIn("clock", m.status("local/www"))
        self.assertEqual(self.next_action(m)[0], "re-enroll")

    def test_a_machine_that_stood_still_for_years_goes_on_when_its_clock_is_vouched_for(self):
        m = self.enrolled(self.ca("-n", "3000"), AUTO)
        due = self.due(m)
        m.stop()
        self.clock.step_to(due)
        m.start()
        self.assertIn("doubtful", m.status("local/www")["clock"])
        self.clock.step_to(due, synchronised=True)
        self.becomes(m, version=2, request="done")
        self.clock.step_to(due)  # the CA signed at that time: that vouches for it as well
        self.assertNotIn("clock", m.status("local/www"))


    def test_a_ca_that_is_away_is_asked_less_often_and_at_the_end_more_often(self):
        ca = self.ca("-n", "4000s")
        m = self.enrolled(ca, AUTO)
        m.write("ca/corp/config", f"enrollment-url = {ca.url}\nenrollment-retry-interval = 16\n")
        end = seconds(m.status("local/www")["not-after"])
        ca.stop()
        self.step(m, self.due(m))
        waits = []
        while end - self.clock.now() > 180:
            self.becomes(m, request="waiting", attempts=len(waits) + 1)
            now, (action, at) = self.clock.now(), self.next_action(m)
            self.assertEqual(action, "try again")
            self.assertLess(at, now + (end - now) / 8 * 1.1 + 2, waits)
            waits.append(at - now)
            self.step(m, at)
        longest = waits.index(max(waits))
        self.assertTrue(0 < longest < len(waits) - 1, waits)
        ca.start("-n", "4000s")
        self.step(m, self.clock.now() + 30)
        self.becomes(m, version=2, request="done")
        self.assertLess(self.clock.now(), end)

    def test_what_the_ca_refuses_is_asked_for_again_later(self):
        ca = self.ca()
        m = self.enrolled(ca, AUTO)
        ca.restart("-R", "2", "-T", "not today")
        first = self.due(m)
        self.step(m, first)
        self.becomes(m, request="failed", attempts=1)
        status = m.status("local/www")
        self.assertEqual((status["state"], status["version"]), ("valid", "1"))
        self.assertIn("not today", status["last-error"])
        self.assertTrue(until(lambda: self.due(m) >= first + 60))
        ca.restart()
        self.renews(m, 2)
        self.assertNotIn("attempts", m.status("local/www"))

    def test_other_names_than_in_force_are_rejected_and_the_old_ones_stay(self):
        ca = self.ca()
        m = self.enrolled(ca, AUTO, "accept-changed-names = yes")
        before = m.read("local/www/bundle.pem")
        ca.restart("-a", "other-name")
        self.step(m, self.due(m))
        self.becomes(m, request="rejected", attempts=1)
        self.assertEqual(m.read("local/www/bundle.pem"), before)
        reason = self.events(m, "rejected")[0]["reason"]
        self.assertIn("left out DNS:www.example.net", reason)
        self.assertIn("added DNS:somebody.else.example", reason)
        ca.restart()
        self.renews(m, 2)

    def test_what_cannot_be_asked_for_says_why_and_goes_on_when_it_can(self):
        ca = self.ca()
        m = self.enrolled(ca, AUTO)
        config = m.read("local/www/config")
        m.write("local/www/config", config.replace("domain-name", "# domain-name"))
        self.step(m, self.due(m))
        self.becomes(m, attempts=1)
        self.assertIn("SCEP needs at least one of", m.status("local/www")["last-error"])
        m.write("local/www/config", config)
        self.becomes(m, version=2, request="done")


class Rollover(Renewal):
    """A CA whose own time comes."""

    def test_a_ca_that_nears_its_end_is_told_once_and_shown_till_there_is_another(self):
        m = self.mount()
        self.trusted_profile(m, self.ca().url)
        end = seconds(m.status("ca/corp")["not-after"])
        self.assertNotIn("warning", m.status("ca/corp"))
        self.step(m, end - 90 * DAY, synchronised=True)  # the lab's CAs last for ten years
        self.assertTrue(until(lambda: self.events(m, "ca-ends")))
        self.assertIn("nears its end", m.status("ca/corp")["warning"])
        m.stop()
        m.start()
        self.step(m, end - 10 * DAY, synchronised=True)
        self.certificate_id(m)
        self.assertEqual(m.request("local/www", "generate-csr"), "ok")  # it has looked
        self.assertEqual([event["name"] for event in self.events(m, "ca-ends")], ["corp"])


class Many(Renewal):
    """Certificate ids that fall due together."""

    WORKERS = 4

    def due_together(self, ca, count):
        m = self.mount(f"workers={self.WORKERS}")
        self.trusted_profile(m, ca.url)
        self.names = [f"id{i}" for i in range(count)]
        for name in self.names:
            self.certificate_id(m, name, more=AUTO)
            m.write(f"local/{name}/request", "enroll\n")
        for name in self.names:
            self.assertEqual(m.wait(f"local/{name}"), "ok")
        return m

    def all_local(self, mount):
        return json.loads(mount.read("status.json"))["local"]

    def began(self, mount):
        """When each of those that are due together began to renew, in this order."""
        times = {}
        for event in self.events(mount, "request"):
            if event["action"] == "re-enroll" and event["name"] in self.names:
                times.setdefault(event["name"], seconds(event["time"]))
        return sorted(times.values())

    def at_once(self, mount):
        """How many renewals were under way at the same time."""
        most, running = 0, set()
        for event in self.events(mount, "request", "retry", "done", "failed"):
            if event.get("action") != "re-enroll":
                continue
            running.discard(event["name"])
            if event["event"] == "request":
                running.add(event["name"])
            most = max(most, len(running))
        return most

    def test_they_are_spread_and_no_ca_has_more_than_its_part_of_the_workers(self):
        ca = self.ca()
        m = self.due_together(ca, 10_000 if SHARE >= 100 else max(many(200), 12))
        due = [seconds(status["next-action-at"]) for status in self.all_local(m)]
        self.assertLessEqual(max(Counter(due).values()), 3 + len(due) // 1000)  # in one second
        self.assertGreater(max(due) - min(due), DAY / 6)
        # a machine that was off for a day
        m.stop()
        self.clock.step_to(max(due))
        m.start()
        self.assertTrue(until(lambda: all(status["version"] == "2" and status["request"] == "done"
                                          for status in self.all_local(m)), 40 * PATIENCE))
        self.assertEqual(len(ca.messages()), 2 * len(due))
        self.assertLessEqual(self.at_once(m), self.WORKERS // 2)

    def test_a_ca_that_is_away_is_not_asked_by_all(self):
        away, here = self.ca(), self.ca()
        m = self.due_together(away, 5)
        self.trusted_profile(m, here.url, "here")
        self.certificate_id(m, "lucky", "here", AUTO)
        self.assertEqual(m.request("local/lucky", "enroll"), "ok")
        away.stop()
        self.step(m, max(self.due(m, name) for name in (*self.names, "lucky")))
        self.becomes(m, "lucky", version=2, request="done")  # the other CA's have their turn
        self.assertTrue(until(lambda: self.events(m, "retry")))
        self.step(m, self.clock.now() + 6)
        self.assertTrue(until(lambda: len(self.began(m)) > self.WORKERS // 2))
        waited = self.began(m)[self.WORKERS // 2] - seconds(self.events(m, "retry")[0]["time"])
        self.assertGreaterEqual(waited, 5)
        away.start()
        self.assertTrue(until(lambda: self.all_have(m, 2), 4 * PATIENCE), m.read("status"))

    def all_have(self, mount, version):
        """Whether all are renewed; else the clock goes on to the next try of one that waits."""
        times = [seconds(status["next-action-at"]) for status in self.all_local(mount)
                 if status["version"] != str(version) and "next-action-at" in status]
        if times:
            self.step(mount, max(self.clock.now() + 2, min(times)))
        return all(status["version"] == str(version) for status in self.all_local(mount))


if __name__ == "__main__":
    main()
