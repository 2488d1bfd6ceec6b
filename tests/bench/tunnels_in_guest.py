"""tunnels_in_guest.py ROUNDS: prints, as JSON, medians in milliseconds: from `up` to the first packet
in ESP, the same by swanctl, and what swanctl takes to start."""

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time

from bench import run  # noqa: F401, and the integration tests' folder
from ike import NETWORKS, Charon, Pki
from test_ike import CABLE, ESP, InGuest, keyed
from xfrm_hosts import family, on

ROUNDS = int(sys.argv[1])
V4, V6 = ("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")


class World(InGuest):
    """One charon at the left: a tunnel of pkifs for IPv4, a connection of swanctl's for IPv6."""

    def runTest(self):
        pki = Pki(self.folder / "pki")
        m, left = self.site("left", pki)
        right = Charon(self, "right")
        right.load(pki, "192.0.2.2", "%any", networks={
            host: f"{net},fd00:{i}::/64" for i, (host, net) in enumerate(NETWORKS.items(), 1)})
        pki.issue("left")  # another key: pkifs takes its own away when the tunnel is down
        left.load(pki, "192.0.2.1", "192.0.2.2",
                  networks={"left": "fd00:1::/64", "right": "fd00:2::/64"})
        tunnel = self.tunnel(m, "right", **keyed(CABLE, esp_proposal="aes256gcm16-ecp384",
                                                 ike_proposal="aes256gcm16-prfsha384-ecp384"))
        swanctl = ["env", f"STRONGSWAN_CONF={left.conf}", "swanctl"]
        ours, theirs, starts = [], [], []
        for _ in range(ROUNDS):
            ours.append(self.until_esp(V4, "sh", "-c", f"echo up >{m.point / tunnel}/request"))
            self.assertEqual(m.wait(tunnel), "ok")
            self.assertEqual(m.request(tunnel, "down"), "ok")
            theirs.append(self.until_esp(V6, *swanctl, "--initiate", "--child", "net"))
            left.swanctl("--terminate", "--ike", "t")
            begin = time.monotonic()
            subprocess.run([*swanctl, "--version"], stdout=subprocess.DEVNULL, check=True)
            starts.append((time.monotonic() - begin) * 1e3)
        print(json.dumps([statistics.median(times) for times in (ours, theirs, starts)]))

    def until_esp(self, addresses, *command):
        """Milliseconds from the start of COMMAND to the first packet in ESP."""
        source, target = addresses
        with on("left"):
            sender = socket.socket(family(source), socket.SOCK_DGRAM)
        with sender:
            sender.bind((source, 0))
            self.wire.packets()
            begin = time.monotonic()
            running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while ESP not in [packet[0] for packet in self.wire.packets()]:
                with contextlib.suppress(OSError):  # blocked
                    sender.sendto(b"x", (target, 7777))
                self.assertLess(time.monotonic(), begin + 20)
                time.sleep(0.001)
            took = time.monotonic() - begin
            self.assertEqual(running.wait(), 0)
        return took * 1e3


World.setUpClass()
result = World().run()
for _, why in result.errors + result.failures:
    sys.exit(why)
