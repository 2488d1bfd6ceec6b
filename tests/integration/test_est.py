"""EST through the mount, against the lab's own server."""

from est import Est, EstServer
from harness import main
from scep import assert_valid


class Enrollment(Est):
    def test_from_nothing_to_a_certificate(self):
        server = EstServer(self)
        m = self.mount()
        self.tls_profile(m, server)
        self.est_profile(m, server)
        self.est_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www", version=1)
        self.assertEqual([who for _, who in server.asked("simpleenroll")], ["user est"])
        self.assertNotIn("secret", m.read("local/www/config") + m.read("local/www/request") +
                         m.log.read_text() + m.read("events"))


if __name__ == "__main__":
    main()
