"""Enrollments by SCEP with ready-made keys, next to scepclient."""

from bench import Bench, Row, cpu_seconds
from clients import BATCH, ROUNDS, TOGETHER, Client, Pkifs, rates


class Scepclient(Client):
    done = "client.pem"

    def command(self, name):
        return ["scepclient", "-server-url", self.url, "-challenge", "secret", "-private-key",
                "key.pem", "-certificate", "client.pem"]


def measure():
    with Bench() as bench:
        folder, _, url = bench.server("scep-server")
        ca, mount = int((folder / "pid").read_text()), bench.mount()
        bench.trusted_profile(mount, url)
        pkifs, client, before = Pkifs(bench, mount), Scepclient(bench, url), cpu_seconds(ca)
        for together, (ours, theirs) in zip((1, TOGETHER), rates(pkifs, client)):
            yield Row(f"enrollments a second, {together} at a time", f"{ours:.1f}",
                      f"scepclient {theirs:.1f}", ours / theirs, ">= 1")
        yield Row("CPU of one enrollment", f"{pkifs.cpu_of_one():.1f} ms",
                  f"scepclient {client.cpu_of_one():.1f} ms",
                  pkifs.cpu_of_one() / client.cpu_of_one(), "<= 0.5")
        ca_cpu = (cpu_seconds(ca) - before) / (pkifs.number + client.number) * 1000
        yield Row("the same next to the CA's own", f"{pkifs.cpu_of_one():.1f} ms",
                  f"scepserver {ca_cpu:.1f} ms", pkifs.cpu_of_one() / ca_cpu, "<= 1")


NOTE = f"""\
**Enrollments** by SCEP at Debian's scepserver, RSA keys of 2048 bits made before. pkifs: write \
`enroll`, read `wait`; it makes the PKCS#10 and commits each step. scepclient: a process for each, \
key and PKCS#10 ready, three questions to the CA (pkifs knows its certificate and capabilities). \
CPU is user and system time of all processes of pkifs, those that have ended as well. Below 1 next \
to the CA's own the CA is the bottleneck. {BATCH} enrollments, {ROUNDS} rounds in turns, median."""
