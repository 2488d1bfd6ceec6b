"""ACME servers that do what RFC 8555 lets them do, each in a way of its own."""

import email.utils
import time

from acme import AcmeTest
from acme_fake import FakeAcme, once, problem
from harness import free_port, main

CAS = {}  # name: (what FakeAcme is given, the certificate id's config)


def ca(more="", **given):
    """A CA whose one peculiarity is the function that this decorates: it changes the answers at
    the place that is its first argument's name. Or only what is GIVEN, which names others."""
    def note(function):
        CAS[function.__name__] = ({**given, **function()}, more)
        return function
    return note


def times(number, change):
    """CHANGE so often, then the truth."""
    left = [change] * number
    return lambda server, answer: left.pop()(server, answer) if left else answer


def with_json(**more):
    """The honest answer with MORE in its JSON; what is None is left out."""
    def change(_server, answer):
        said = {key: value for key, value in {**answer[2], **more}.items() if value is not None}
        return answer[0], answer[1], said
    return change


def with_body(edit):
    return lambda _server, answer: (answer[0], answer[1], edit(answer[2]))


def no_nonce(_server, answer):
    """Nonces are had from newNonce alone."""
    return answer[0], {**answer[1], "Replay-Nonce": ""}, answer[2]


@ca(host="localhost")
def all_but_its_directory_is_on_another_host():
    return {}


@ca()
def an_order_that_is_ready_at_once():
    def reused(server, answer):
        server.orders["1"]["status"] = "ready"
        return answer[0], answer[1], server.order("1")
    return {"order": reused}


@ca()
def authorizations_that_are_valid_in_an_order_that_is_pending():
    def reused(server, answer):
        server.orders["1"]["status"] = "ready"  # as it is told from now on
        return answer
    return {"order": reused}


@ca()
def it_thinks_about_what_it_found():
    def thinks(_server, answer):
        said = {**answer[2], "status": "pending"}
        said["challenges"] = [{**said["challenges"][0], "status": "processing"}]
        return answer[0], {**answer[1], "Retry-After": "1"}, said

    seen = []

    def authz(server, answer):
        seen.append(None)
        return thinks(server, answer) if len(seen) in (2, 3) else answer
    return {"authz": authz}


def finds_nothing(looks):
    """It does not find the answer so many times, and says so in a challenge that is pending."""
    def challenge(server, answer):
        if server.asked.count("challenge") <= looks:
            server.orders["1"]["status"] = "pending"
        return answer

    def authz(server, answer):
        said = dict(answer[2]["challenges"][0])
        if said["status"] == "pending" and "challenge" in server.asked:
            said["error"] = {"type": "urn:ietf:params:acme:error:connection", "detail": "refused"}
        return answer[0], answer[1], {**answer[2], "challenges": [said]}
    return {"challenge": challenge, "authz": authz}


@ca()
def it_looks_again_when_it_is_told_to():
    return finds_nothing(looks=2)


@ca()
def its_order_is_ready_a_moment_after_its_authorizations():
    return {"orders": once(with_json(status="pending")),
            "finalize": once(problem("orderNotReady"))}


@ca()
def authorizations_in_a_state_of_their_own():
    seen = []

    def authz(_server, answer):
        seen.append(None)
        processing = with_json(status="processing")
        return processing(_server, answer) if len(seen) in (1, 3) else answer
    return {"authz": authz}


@ca()
def its_order_is_valid_before_the_certificate_is_there():
    return {"finalize": with_json(certificate=None), "orders": once(with_json(certificate=None))}


@ca()
def it_issues_later_and_says_where():
    def processing(server, answer):
        return (answer[0], {**answer[1], "Location": server.base + "/orders/1",
                            "Retry-After": "1"},
                {**answer[2], "status": "processing", "certificate": None})

    def order(server, answer):
        issued = answer[2]["status"] == "valid" and not seen
        seen.extend([None] * issued)
        return processing(server, answer) if issued else answer

    seen = []
    return {"finalize": processing, "orders": order}


@ca()
def nonces_are_given_by_new_nonce_alone():
    def nonce(server, answer):
        return 204 if not server.head else 200, answer[1], ""
    return {**{place: no_nonce for place in ("dir", "account", "order", "orders", "authz",
                                             "challenge", "finalize", "certificate")},
            "nonce": nonce}


@ca()
def it_knows_no_head():
    def nonce(server, answer):
        return no_nonce(server, (405, answer[1], "")) if server.head else (204, answer[1], "")
    return {"nonce": nonce}


@ca()
def it_rejects_nonces_and_gives_no_new_ones_with_that():
    return {"order": times(4, problem("badNonce", status=400, headers={"Replay-Nonce": ""}))}


@ca()
def the_account_was_there_before():
    return {"account": lambda _server, answer: (200, *answer[1:])}


@ca()
def its_locations_are_relative():
    def relative(server, answer):
        return answer[0], {**answer[1], "Location": answer[1]["Location"].removeprefix(
            server.base)}, answer[2]
    return {"account": relative, "order": relative}


@ca()
def its_certificate_has_words_around_it():
    return {"certificate": with_body(lambda pem: "Subject: CN = x\r\n" + pem.replace(
        "\n", "\r\n") + "\r\nissued by the fake")}


@ca()
def its_certificate_ends_without_a_newline():
    return {"certificate": with_body(str.strip)}


@ca("domain-name = mail.Example.net\n")
def names_in_other_letters_and_another_order():
    def shouts(_server, answer):
        names = [{**name, "value": name["value"].upper()} for name in answer[2]["identifiers"]]
        return answer[0], answer[1], {**answer[2], "identifiers": names[::-1]}
    return {"order": shouts, "orders": shouts,
            "authz": with_json(identifier={"type": "dns", "value": "MAIL.EXAMPLE.NET"})}


@ca("ip-address = 2001:DB8:0::1\n")
def an_address_in_another_form():
    return {"authz": with_json(identifier={"type": "ip", "value": "2001:db8:0:0:0:0:0:1"})}


@ca()
def an_order_that_says_little_and_challenges_of_other_kinds():
    def authz(_server, answer):
        strange = [{"type": "device-attest-01"}, {"type": 7}, "x", None]
        return answer[0], answer[1], {**answer[2], "challenges": strange + answer[2]["challenges"],
                                      "expires": 7, "wildcard": None}
    return {"order": with_json(identifiers=None), "authz": authz,
            "dir": with_json(meta=None, keyChange=7, unknown=[])}


@ca()
def too_many_requests_until_a_date():
    def limited(server, answer):
        when = email.utils.formatdate(time.time() + 2, usegmt=True)
        return problem("rateLimited", status=429, headers={"Retry-After": when})(server, answer)
    return {"order": once(limited)}


@ca()
def it_is_closed_for_a_moment():
    return {"order": once(lambda _server, _answer: (503, {"Retry-After": "1"}, "<html>"))}


@ca()
def problems_are_json_without_a_type():
    return {"order": once(lambda _server, _answer: (500, {}, {"detail": "a"}))}


class Peers(AcmeTest):
    def test_each_issues(self):
        port = free_port()
        mount = self.mount(f"http-01-listen=127.0.0.1:{port}")
        for i, (name, (given, more)) in enumerate(CAS.items()):
            peer = FakeAcme(self, port=port, **given)
            peer.token = f"token-{i}"
            self.profile(mount, peer, f"ca{i}")
            self.certificate_id(mount, f"www{i}", f"ca{i}", more)
            mount.write(f"local/www{i}/request", "enroll\n")
        for i, name in enumerate(CAS):
            with self.subTest(name):
                self.assertEqual(mount.wait(f"local/www{i}"), "ok")
                self.assert_issued(mount, f"www{i}", f"ca{i}")


class Profiles(AcmeTest):
    """Certificate profiles: of an order, not of our tree."""

    def test_one_that_is_offered(self):
        peer = FakeAcme(self, dir=with_json(meta={"profiles": {"short": "a week", "long": ""}}))
        mount = self.acme_mount(peer)
        self.profile(mount, peer)
        self.certificate_id(mount, more="acme-profile = short\n")
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assertEqual([said["profile"] for place, said in peer.payloads if place == "order"],
                         ["short"])

        mount.write("local/www/config", mount.read("local/www/config").replace("short", "longer"))
        self.assertEqual(mount.request("local/www", "re-enroll"),
                         "failed: the CA does not offer acme-profile longer, but short, long")
        self.assertEqual(peer.asked.count("order"), 1)


class Words(AcmeTest):
    """What only the operator can do something about."""

    def test_an_external_account_is_wanted(self):
        peer = FakeAcme(self, dir=with_json(meta={"externalAccountRequired": True}))
        mount = self.acme_mount(peer)
        self.assertIn("set acme-eab-kid and acme-eab-key", self.fails(mount, peer))
        self.assertNotIn("account", peer.asked)

    def test_an_external_account_serves_once(self):
        def only_once(_server, answer):
            if peer.payloads[-1][1].get("externalAccountBinding"):
                return problem("unauthorized", "used")(_server, answer)
            return (200, *answer[1:])

        peer = FakeAcme(self, account=only_once)
        mount = self.acme_mount(peer)
        self.profile(mount, peer, more="acme-eab-kid = one\nacme-eab-key = c2VjcmV0\n")
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assertIn(("account", {"onlyReturnExisting": True}), peer.payloads)

    def test_an_account_that_the_ca_ended_is_deleted(self):
        peer = FakeAcme(self)
        mount = self.acme_mount(peer)
        self.profile(mount, peer)
        self.assertEqual(mount.request("ca/corp", "account-register"), "ok")
        peer.changes["/account"] = problem("unauthorized", "deactivated", status=401)
        self.assertEqual(mount.request("ca/corp", "account-delete"), "ok")
        self.assertNotIn("acme-key-id", mount.status("ca/corp"))

    def test_a_ca_that_looks_again_in_vain(self):
        peer = FakeAcme(self, **finds_nothing(looks=99))
        mount = self.acme_mount(peer)
        self.assertIn("port 80 of www.example.net was not reached; it could not connect: refused",
                      self.waits(mount, peer))
        self.assertEqual(peer.asked.count("challenge"), 3)

    def test_a_certificate_request_that_is_not_taken(self):
        peer = FakeAcme(self, finalize=problem("badCSR", "weak key", status=400))
        mount = self.acme_mount(peer)
        self.assertIn("it does not take the certificate request: weak key",
                      self.fails(mount, peer))


if __name__ == "__main__":
    main()
