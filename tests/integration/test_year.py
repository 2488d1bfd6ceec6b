"""A year of certificates that nobody looks after, in minutes: the clock goes from one thing that
is to happen to the next, for the daemon and for the CA."""

import json
import random
import signal

from cmp import CERT_CONF, KUR, Cmp, CmpCa
from est import Est, EstServer
from harness import SHARE, main, until
from test_renewal import AUTO, DAY, Renewal, seconds

HOUR = 3600
DAYS = max(40, round(365 * SHARE / 100))
LIFETIME, BEFORE = 20, 10  # days; a CA that is away for a week leaves time enough
SEED = 4711


class Year(Renewal):
    """Some certificate ids at one CA that has bad weeks, and a daemon that has bad days."""

    names = ("www", "mail", "gate")
    manners = ("-n", str(LIFETIME))  # of the CA; what a protocol needs comes before
    loses = ("-k", "2")  # so many answers

    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        self.m = self.mount()
        self.authority = self.begin()
        self.m.write("ca/corp/config", self.m.read("ca/corp/config") +
                     "enrollment-retry-interval = 3600\n")
        for name in self.names:
            keys = "yes" if name == "gate" else "no"
            self.certificate_id(self.m, name, more=f"{AUTO}re-enroll-time = {BEFORE}d\n"
                                                   f"re-generate-keypair = {keys}\n")
            self.assertEqual(self.m.request(f"local/{name}", "enroll"), "ok")

    def faults(self, begin, end):
        """What goes wrong from BEGIN to END, as (time, what is to be done then)."""
        found = []
        when = begin + 9 * DAY
        while when < end:
            kind = self.random.choice((self.away, self.lost, self.restarted, self.killed))
            found += kind(when)
            when += self.random.uniform(4, 12) * DAY
        # one of each at least: a week within which all are due
        return sorted(found + self.away(begin + 10.5 * DAY) + self.lost(begin + 20 * DAY),
                      key=lambda fault: fault[0])

    def away(self, when):
        return [(when, self.authority.stop),
                (when + 7 * DAY, lambda: self.authority.restart(*self.manners))]

    def lost(self, when):
        """The next answers don't arrive."""
        return [(when, lambda: self.authority.restart(*self.manners, *self.loses))]

    def restarted(self, when):
        return [(when, lambda: (self.m.stop(), self.m.start()))]

    def killed(self, when):
        return [(when, lambda: self.m.kill(self.random.choice(("store", "keys", "enroll")),
                                           signal.SIGKILL))]

    def all_local(self):
        return json.loads(self.m.read("status.json"))["local"]

    def settle(self):
        """Waits until nothing runs: what all are like then."""
        self.assertTrue(until(lambda: not any(status["request"] in ("queued", "running")
                                              for status in self.all_local())))
        return self.all_local()

    def year(self):
        """How many certificates there were."""
        begin = self.clock.now()
        end, faults = begin + DAYS * DAY, self.faults(begin, begin + (DAYS - 10) * DAY)
        steps = 0
        while self.clock.now() < end:
            everything = self.settle()
            now = self.clock.now()
            for status in everything:
                self.assertEqual(status["state"], "valid", f"day {(now - begin) / DAY}: {status}")
                self.assertGreater(seconds(status["not-after"]), now)
            # one that may not ask yet, because the CA is away, is looked at an hour later
            times = [max(seconds(status["next-action-at"]), now + 60)
                     if seconds(status["next-action-at"]) > now else now + HOUR
                     for status in everything if "next-action-at" in status]
            if faults and faults[0][0] <= min(times):
                when, fault = faults.pop(0)
                self.clock.step_to(max(when, now))
                fault()
                until(self.m.is_mounted)
            else:
                self.step(self.m, min(times))
            steps += 1
        versions = [int(status["version"]) for status in self.settle()]
        print(f"{DAYS} days in {steps} steps: versions {versions}", flush=True)
        # each lasts for ten days, and a week longer where the CA was away
        self.assertGreaterEqual(min(versions), DAYS // 18)
        return sum(versions)


class ByScep(Year):
    def begin(self):
        authority = self.ca(*self.manners)
        self.trusted_profile(self.m, authority.url)
        return authority

    def test_no_certificate_ends_while_its_ca_can_be_reached(self):
        certificates = self.year()
        self.assertEqual(len(self.authority.messages()), certificates)


class ByCmp(Year, Cmp):
    manners = ("-P", "ca.pem", *Year.manners)
    loses = ("-k", str(KUR))  # the first answer to such a message

    def begin(self):
        authority = CmpCa(self, *self.manners, program=self.clock.programs / "cmp-ca")
        self.profile(self.m, authority)
        return authority

    def certificate_id(self, mount, name="www", profile="corp", more=""):
        self.cmp_id(mount, name, profile, more)

    def test_no_certificate_ends_while_its_ca_can_be_reached(self):
        certificates = self.year()
        self.assertEqual(len(set(self.authority.got(CERT_CONF))), certificates)


class ByEst(Year, Est):
    def begin(self):
        authority = EstServer(self, *self.manners, EST_CA=str(self.clock.programs / "est-ca"))
        self.est_profile(self.m, authority)
        return authority

    def certificate_id(self, mount, name="www", profile="corp", more=""):
        self.est_id(mount, name, profile, more)

    def test_no_certificate_ends_while_its_ca_can_be_reached(self):
        certificates = self.year()
        asked = self.authority.asked("simpleenroll") + self.authority.asked("simplereenroll")
        self.assertEqual(len(set(asked)), certificates)


del Year  # it is no test by itself


if __name__ == "__main__":
    main()
