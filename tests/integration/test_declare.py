"""Declared objects: a box with files alone and nobody to type gets its certificates."""

from harness import main, until
from scep import Ca, Scep, assert_valid


class Declared(Scep):
    def declared(self, *sections, start=True):
        """A mount, with an empty store, whose configuration is SECTIONS."""
        m = self.mount(start=False)
        m.conf = m.folder / "pkifs.conf"
        m.conf.write_text("\n".join(sections))
        return m.start() if start else m

    def ca_section(self, ca, *more):
        return "\n".join(("[ca corp]", f"enrollment-url = {ca.url}",
                          f"ca-fingerprint = {ca.fingerprint()}",
                          "enrollment-retry-interval = 0", *more, ""))

    def local_section(self, *more, name="www"):
        return "\n".join((f"[local {name}]", "ca-profile = corp",
                          f"subject = CN={name}.example.net,O=Example",
                          f"domain-name = {name}.example.net",
                          "challenge-password = secret", *more, ""))

    def becomes(self, mount, path, **expected):
        """Waits until `status` of PATH says what is EXPECTED."""
        expected = {key.replace("_", "-"): value for key, value in expected.items()}
        self.assertTrue(until(lambda: expected.items() <= mount.status(path).items()),
                        mount.status(path))


class Alone(Declared):
    def test_files_alone_give_a_certificate(self):
        ca = Ca(self, script="scep-server")
        ca.folder.joinpath("ca.pem").symlink_to("depot/ca.pem")
        m = self.declared(self.ca_section(ca), self.local_section())
        self.assertTrue(until(lambda: (m.point / "local/www/cert.pem").exists()),
                        m.log.read_text())
        assert_valid(self, m, "www", version=1)
        self.assertEqual(m.status("ca/corp")["trusted-by"], "ca-fingerprint")


if __name__ == "__main__":
    main()
