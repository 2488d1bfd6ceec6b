"""CMPv2: certificates from a CA that really issues, through the mount."""

from cmp import CERT_CONF, IR, Cmp, CmpCa
from harness import main
from scep import assert_valid


class Enrolling(Cmp):
    def test_a_secret_brings_certificate_and_ca(self):
        """No CA certificate is fetched before: the first answer has it."""
        ca = CmpCa(self, "-P", "ca.pem")
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m)
        self.assertEqual(m.status("ca/corp")["state"], "empty")
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www", version=1)
        self.assertEqual((len(ca.got(IR)), len(ca.got(CERT_CONF))), (1, 1))
        self.assertEqual(ca.said("certConf"), ["certConf PKIStatus: accepted"])
        self.assertEqual(m.status("ca/corp")["trusted-by"], "the CMP answer to www")


if __name__ == "__main__":
    main()
