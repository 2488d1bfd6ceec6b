"""When ACME certificates renew: as their CA suggests (RFC 9773)."""

import base64
import threading
import time

from acme import AcmeTest
from acme_fake import FakeAcme, once, problem
from harness import PATIENCE, Clock, main, run, until

HOUR, DAY = 3600, 86400


class Suggested(AcmeTest):
    def setUp(self):
        super().setUp()
        self.clock = Clock(self)
        self.now = int(time.time())

    def enrolled(self, begin=20 * DAY, length=60, more="", **changes):
        """A certificate of a CA that suggests a window, by its seconds from now."""
        self.peer = FakeAcme(self, **changes)
        self.suggest(begin, length)
        self.m = self.mount(f"http-01-listen=127.0.0.1:{self.peer.http}", clock=self.clock)
        self.profile(self.m, self.peer)
        self.certificate_id(self.m, more=more)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")

    def suggest(self, begin, length=60):
        self.peer.window = (self.now + begin, self.now + begin + length)

    def window(self):
        return self.m.status("local/www").get("acme-renewal-window")

    def orders(self):
        return [said for place, said in self.peer.payloads if place == "order"]

    def assert_renews_at(self, seconds, margin):
        left = self.next_try(self.m) - seconds
        self.assertTrue(-2 <= left <= margin, f"{left} {self.m.status('local/www')}")

    def test_it_renews_in_the_window_and_says_what_it_replaces(self):
        self.enrolled(10 * DAY)
        self.assertTrue(until(self.window))
        self.assert_renews_at(10 * DAY - (time.time() - self.now), 61)
        self.assertNotIn("replaces", self.orders()[0])
        folder = self.m.point / "local/www"
        serial = run("openssl", "x509", "-in", folder / "cert.pem", "-noout", "-serial").stdout
        issuer = run("openssl", "x509", "-in", folder / "cert.pem", "-noout", "-ext",
                     "authorityKeyIdentifier").stdout.split("\n")[1].strip()
        number = bytes.fromhex(serial.strip().split("=")[1])
        number = b"\0" * (number[0] >> 7) + number
        parts = (bytes.fromhex(issuer.replace(":", "")), number)
        name = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        self.assertEqual(self.peer.renewed, name)

        self.suggest(25 * DAY)
        self.clock.set(10 * DAY + 120)
        self.assertTrue(until(lambda: self.m.status("local/www")["version"] == "2"))
        self.assertEqual(self.orders()[1]["replaces"], name)
        self.assertTrue(until(lambda: self.peer.renewed != name), "the next one is asked for too")

    def test_a_window_that_comes_nearer_is_seen_at_the_next_question(self):
        self.enrolled(20 * DAY, ari=lambda _, answer: (
            answer[0], answer[1], {**answer[2], "explanationURL": "https://ca.example/why"}))
        self.assertTrue(until(self.window))
        self.assertEqual(self.m.status("local/www")["acme-renewal-reason"],
                         "https://ca.example/why")
        before = self.window()
        self.suggest(-DAY)
        self.clock.set(5 * HOUR)  # the CA is asked every six
        self.assertEqual(self.window(), before)
        self.assertEqual(self.peer.asked.count("ari"), 1)
        self.m.kill("store")  # what it said is not forgotten, nor when it is asked again
        self.assertTrue(until(lambda: self.m.children("store") and self.window() == before))
        self.clock.set(7 * HOUR)
        self.assertTrue(until(lambda: self.m.status("local/www")["version"] == "2"))

    def test_a_ca_that_suggests_to_renew_at_once_is_not_asked_again_at_once(self):
        self.enrolled(-DAY)
        self.assertTrue(until(self.window))
        self.assert_renews_at(HOUR - (time.time() - self.now), 60)

    def test_a_window_behind_the_end_is_too_late(self):
        self.enrolled(60 * DAY)
        self.assertTrue(until(self.window))
        self.assert_renews_at(27 * DAY - (time.time() - self.now), 60)

    def test_where_no_window_can_be_had_a_third_remains(self):
        for change in (lambda _, answer: (404, {}, ""),
                       lambda _, answer: (200, {}, {"suggestedWindow": {"start": "x"}}),
                       lambda _, answer: (200, {}, {"suggestedWindow": {
                           "start": "2031-01-02T00:00:00Z", "end": "2031-01-01T00:00:00Z"}})):
            self.enrolled(ari=change)
            self.assertTrue(until(lambda: "ari" in self.peer.asked))
            self.assert_renews_at(20 * DAY - (time.time() - self.now), 1.2 * DAY)
            self.assertIsNone(self.window())

    def test_many_are_asked_for_a_few_at_once(self):
        now, most, lock = [], [], threading.Lock()
        full = threading.Event()

        def slowly(_server, answer):
            with lock:
                now.append(None)
                most.append(len(now))
                if len(now) == 4:
                    full.set()
            full.wait(PATIENCE)
            with lock:
                now.pop()
            return answer

        names = [f"www{i}" for i in range(8)]
        self.enrolled(ari=slowly)
        for name in names:
            self.certificate_id(self.m, name)
            self.m.write(f"local/{name}/request", "enroll\n")
        for name in names:
            self.assertEqual(self.m.wait(f"local/{name}"), "ok")
        self.clock.set(400)
        self.assertTrue(until(lambda: all("acme-renewal-window" in self.m.status(f"local/{name}")
                                          for name in names)))
        self.assertEqual(max(most), 4)

    def test_a_setting_wins(self):
        self.enrolled(more="re-enroll-time = 5d\n")
        self.assert_renews_at(25 * DAY - (time.time() - self.now), DAY)
        self.assertIsNone(self.window())
        self.assertNotIn("ari", self.peer.asked)

    def test_an_order_need_not_replace(self):
        self.enrolled()
        self.peer.changes["/order"] = once(problem("alreadyReplaced", status=409))
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        self.assertEqual(["replaces" in order for order in self.orders()], [False, True, False])


if __name__ == "__main__":
    main()
