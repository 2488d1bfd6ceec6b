"""Certificates that renew by themselves, at a clock that the test sets."""

import datetime
import os

from harness import RSA_KEY, Clock, main, shell, until
from scep import Ca, Scep, assert_valid

DAY = 86400
AUTO = "auto-re-enrollment = enable\n"


def seconds(text):
    """Unix seconds of a time in `status`."""
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()


class Renewal(Scep):
    """A CA and a daemon with the same clock."""

    def setUp(self):
        super().setUp()
        self.clock = Clock(self)

    def ca(self, *options, **environment):
        return Ca(self, *options, SCEP_CA=str(self.clock.programs / "scep-ca"), **environment)

    def mount(self, *options, start=True):
        mount = super().mount(*options, start=False)
        mount.programs = self.clock.programs
        return mount.start() if start else mount

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

    def becomes(self, mount, name="www", **expected):
        def fits():
            status = mount.status(f"local/{name}")
            return all(status.get(key.replace("_", "-")) == str(value)
                       for key, value in expected.items())
        self.assertTrue(until(fits), mount.status(f"local/{name}"))


class Alone(Renewal):
    """One certificate id."""

    def renews(self, mount, version, name="www"):
        """The clock goes on to the time when VERSION comes, and it comes."""
        self.clock.step_to(self.due(mount, name))
        self.becomes(mount, name, version=version, request="done", state="valid")

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
        self.becomes(m, version=3)
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

    def test_one_that_was_loaded_by_hand_renews_where_its_profile_can_be_asked(self):
        ca = self.ca()
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m, more=AUTO)
        self.ready_key(m, "www", *RSA_KEY)
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


if __name__ == "__main__":
    main()
