"""Unknown callers and manipulated packages are refused and counted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from knexa.network import authority, messages
from knexa.network.authority import MATCHMAKER
from knexa.network.matchmaker import check_welcome
from knexa.network.packages import (
    MAX_PACKAGE_BYTES,
    NamedDirective,
    PackageInbox,
    PackageSender,
    PackageServer,
    introduction,
)
from knexa.network.refusals import Refusals, RefusedError
from knexa.network.sealing import CHUNK_BYTES, SealingContext, SealingKey
from knexa.network.timing import MonotonicClock
from knexa.network.transport import (
    NotYetError,
    RemoteRefusalError,
    RpcClient,
    RpcServer,
    is_transient,
)
from tests.network.rounds import profile
from tests.network.servers import (
    CALL_S,
    DATA,
    INCARNATION,
    Receiving,
    Served,
    credentials_of,
    open_channel,
    registration,
)
from tests.network.small_network import QUICK
from tests.network.trial import copy_of_certificates, days_ago, identity


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    here = Served(copy_of_certificates(tmp_path))
    yield here
    here.server.stop()


def test_a_member_is_let_in_and_knows_the_matchmaker(served: Served) -> None:
    a0 = identity("a0")
    welcome = served.call(a0, "Register", registration("a0"))
    check_welcome(a0, welcome, b"nonce")
    with pytest.raises(RefusedError, match="identity"):
        check_welcome(a0, welcome, b"another nonce")
    assert served.server.counts() == {}


def plain(served: Served, tmp_path: Path) -> Any:
    return grpc.insecure_channel(f"127.0.0.1:{served.port}")


def without_certificate(served: Served, tmp_path: Path) -> Any:
    return open_channel(served.port, grpc.ssl_channel_credentials(identity("a0").ca_pem))


def of_another_authority(served: Served, tmp_path: Path) -> Any:
    authority.create(tmp_path / "other")
    authority.issue(tmp_path / "other", "a0")
    return open_channel(served.port, credentials_of(identity("a0", tmp_path / "other")))


def expired(served: Served, tmp_path: Path) -> Any:
    folder = served.me.folder
    authority.issue(folder, "old", days=1, now=lambda: days_ago(2))
    old = identity("a0")
    ca = (folder / "ca.pem").read_bytes()
    key, pem = ((folder / f"old.{kind}").read_bytes() for kind in ("key", "pem"))
    assert old.ca_pem == ca
    return open_channel(served.port, grpc.ssl_channel_credentials(ca, key, pem))


@pytest.mark.parametrize("stranger", [plain, without_certificate, of_another_authority, expired])
def test_strangers_do_not_get_past_the_handshake(
    served: Served, tmp_path: Path, stranger: Callable[[Served, Path], Any]
) -> None:
    with stranger(served, tmp_path) as channel:
        call = channel.unary_unary(
            "/knexa.v1.Matchmaker/Register",
            request_serializer=messages.Registration.SerializeToString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(registration("a0"), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert served.harness.coordinator.members == {}
    assert set(served.server.counts()) == {"handshake"}


def test_a_revoked_member_is_refused_from_its_next_call_on(served: Served) -> None:
    a1 = identity("a1")
    served.call(a1, "Register", registration("a1"))
    authority.revoke(served.me.folder, ["a1"])
    with pytest.raises(RemoteRefusalError, match="revoked"):
        served.call(a1, "Beat", messages.Heartbeat(incarnation=INCARNATION))
    assert served.server.counts() == {"revoked": 1}


@pytest.mark.parametrize("harm", ["cut", "missing", "old"])
def test_who_calls_while_the_list_is_being_copied_is_asked_to_come_again(
    served: Served, harm: str
) -> None:
    file = served.me.folder / authority.LIST
    good = file.read_bytes()
    if harm == "missing":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(good[:-20])
    else:
        authority.revoke(served.me.folder, [], now=lambda: days_ago(authority.LIST_DAYS + 1))
    with pytest.raises(grpc.RpcError, match="no list") as caught:
        served.call(identity("a0"), "Register", registration("a0"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert is_transient(caught.value)
    assert served.harness.coordinator.members == {}
    file.write_bytes(good)
    served.call(identity("a0"), "Register", registration("a0"))
    assert served.server.counts() == {"no list": 1}


def test_nobody_registers_or_answers_as_another(served: Served) -> None:
    with pytest.raises(RemoteRefusalError, match="registers as"):
        served.call(identity("a1"), "Register", registration("a0"))
    with pytest.raises(RemoteRefusalError, match="roster"):
        served.call(identity(MATCHMAKER), "Register", registration(MATCHMAKER))
    assert served.server.counts() == {"identity": 2}
    assert served.harness.coordinator.members == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protocol_version": 1}, "disagreement"),
        ({"agreement": "else"}, "disagreement"),
        ({"profile": [1e9] * 4}, "profile"),
        ({"profile": []}, "profile"),
        ({"address": "x" * 300}, "malformed"),
    ],
)
def test_registrations_that_do_not_fit_are_refused(
    served: Served, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RemoteRefusalError, match=reason):
        served.call(identity("a0"), "Register", registration("a0", **change))
    assert served.server.counts() == {reason: 1}


def test_messages_that_are_too_long_are_refused(served: Served) -> None:
    a0 = identity("a0")
    served.call(a0, "Register", registration("a0"))
    status = messages.Status(incarnation=INCARNATION, received=["x" * 1000] * 1000)
    with pytest.raises(grpc.RpcError) as caught:
        served.call(a0, "Await", status)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_call_without_a_deadline_is_refused(served: Served) -> None:
    with open_channel(served.port, credentials_of(identity("a0"))) as channel:
        call = channel.unary_unary(
            "/knexa.v1.Matchmaker/Register",
            request_serializer=messages.Registration.SerializeToString,
        )
        for timeout_s in (None, 1e6):
            with pytest.raises(grpc.RpcError, match="deadline"):
                call(registration("a0"), timeout=timeout_s)
    assert served.server.counts() == {"malformed": 2}


def test_one_member_cannot_keep_everybody_else_waiting(served: Served) -> None:
    for name in ("a0", "a1"):
        served.call(identity(name), "Register", registration(name))
    status = messages.Status(incarnation=INCARNATION, wait_s=20.0, prepared_round=1)
    served.harness.coordinator.members["a0"].prepared_round = 1
    address = f"127.0.0.1:{served.port}"
    with RpcClient(identity("a0"), address, MATCHMAKER, "Matchmaker") as greedy:
        asked = [
            threading.Thread(target=_ask, args=(greedy, status), daemon=True) for _ in range(12)
        ]
        for thread in asked:
            thread.start()
        beat = messages.Heartbeat(incarnation=INCARNATION)
        QUICK.retry(
            lambda: served.call(identity("a1"), "Beat", beat),
            is_transient=is_transient,
            clock=served.clock,
            rng=np.random.default_rng(0),
        )
    for thread in asked:
        thread.join(timeout=CALL_S)
    assert not any(thread.is_alive() for thread in asked)


def _ask(client: RpcClient, status: Any) -> None:
    with suppress(grpc.RpcError, ValueError):
        client.call("Await", status, CALL_S)


def test_calls_that_say_nothing_are_asked_who_they_are(served: Served) -> None:
    a1 = identity("a1", served.me.folder)
    authority.revoke(served.me.folder, ["a1"])
    over = threading.Event()

    def silence() -> Iterator[Any]:
        over.wait()
        yield from ()

    with open_channel(served.port, credentials_of(a1)) as channel:
        call = channel.stream_unary(
            "/knexa.v1.Matchmaker/Beat", request_serializer=messages.Heartbeat.SerializeToString
        )
        calls = [call.future(silence(), timeout=CALL_S) for _ in range(20)]
        codes = {call.code() for call in calls}  # each waits for its end
        over.set()
    assert codes <= {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert served.server.counts()["revoked"] > 0
    served.call(identity("a0"), "Register", registration("a0"))


def test_a_matchmaker_that_stops_decides_nothing_more(served: Served) -> None:
    for name in ("a0", "a1"):
        served.call(identity(name), "Register", registration(name))
    coordinator = served.harness.coordinator
    coordinator.members["a0"].prepared_round = 1
    asked = messages.Status(incarnation=INCARNATION, wait_s=20.0, prepared_round=1)
    told: list[Exception] = []

    def ask() -> None:
        with pytest.raises(NotYetError) as caught:
            served.service.handlers()["Await"]("a0", asked)
        told.append(caught.value)

    waiting = threading.Thread(target=ask)
    waiting.start()
    served.service.stop()
    waiting.join(timeout=CALL_S)
    assert len(told) == 1
    coordinator.submit_profile("a1", INCARNATION.hex(), 1, profile("a1", 1), [])
    with pytest.raises(NotYetError):
        served.service.tick()
    with pytest.raises(grpc.RpcError) as caught:
        served.call(identity("a0"), "Beat", messages.Heartbeat(incarnation=INCARNATION))
    assert is_transient(caught.value)


def test_an_agent_does_not_talk_to_who_is_not_the_matchmaker() -> None:
    impostor = RpcServer(
        identity("a1"), "127.0.0.1:0", "Matchmaker", {}, num_threads=1, refusals=Refusals()
    )
    impostor.start()
    address = f"127.0.0.1:{impostor.port}"
    with (
        RpcClient(identity("a0"), address, MATCHMAKER, "Matchmaker") as client,
        pytest.raises(grpc.RpcError) as caught,
    ):
        client.call("Beat", messages.Heartbeat(), CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    impostor.stop()


def test_a_revoked_matchmaker_is_found_out(served: Served, tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path / "agent")
    authority.revoke(folder, [MATCHMAKER])
    a0 = identity("a0", folder)
    welcome = served.call(a0, "Register", registration("a0"))
    with pytest.raises(RefusedError, match="revoked"):
        check_welcome(a0, welcome, b"nonce")


# Packages


@pytest.fixture
def a1() -> Iterator[Receiving]:
    receiving = Receiving()
    yield receiving
    receiving.server.stop()


def test_a_package_arrives_and_its_replay_does_not(a1: Receiving) -> None:
    chunks = a1.chunks()
    assert b"lesson" not in b"".join(chunk.SerializeToString() for chunk in chunks)
    a1.send(chunks)
    assert a1.inbox.arrived(["r1-0"]) == {"r1-0": DATA}
    assert a1.refusal(chunks) == "replayed"
    again = SealingContext(sender="a0", receiver="a1", round=1, directive="r1-0", counter=1)
    assert a1.refusal(a1.chunks(again)) == "unexpected"  # one package a directive


def test_whatever_happens_to_a_package_on_its_way_is_noticed(a1: Receiving) -> None:
    first, second, third = a1.chunks()
    assert a1.refusal([first, third, second]) == "reordered"
    assert a1.refusal([first, second]) == "truncated"
    assert a1.refusal([]) == "truncated"
    assert a1.refusal([second, third]) == "truncated"
    harmed = messages.Chunk.FromString(third.SerializeToString())
    harmed.sealed = bytes([harmed.sealed[0] ^ 1]) + harmed.sealed[1:]
    assert a1.refusal([first, second, harmed]) == "tampered"
    assert a1.inbox.arrived(["r1-0"]) == {}
    a1.send([first, second, third])  # what was refused has used nothing up
    assert a1.inbox.arrived(["r1-0"]) == {"r1-0": DATA}


def test_a_package_for_somebody_else_is_refused(a1: Receiving) -> None:
    other = SealingContext(sender="a0", receiver="a2", round=1, directive="r1-0", counter=0)
    assert a1.refusal(a1.chunks(other)) == "wrong receiver"
    assert a1.refusal(a1.chunks(other, receiver_name="a1")) == "tampered"


def test_a_package_of_somebody_else_is_refused(a1: Receiving) -> None:
    assert a1.refusal(a1.chunks(), who="a2") == "identity"  # a relay that shows its own certificate
    assert a1.refusal(a1.chunks(sender_name="a2"), who="a2") == "identity"
    assert a1.refusal(a1.chunks(sender_name="a2", vouched_by="a2"), who="a2") == "unexpected"
    assert a1.refusal(a1.chunks(vouched_by="a2")) == "identity"


def test_a_package_of_another_directive_or_round_is_refused(a1: Receiving) -> None:
    assert a1.refusal(a1.chunks(directive_id="r1-1")) == "unexpected"
    assert a1.refusal(a1.chunks(round=2)) == "unexpected"
    assert a1.refusal(a1.chunks(counter=5)) == "tampered"


def test_too_large_a_package_is_refused_before_it_is_read(a1: Receiving) -> None:
    chunks = a1.chunks(data=bytes(MAX_PACKAGE_BYTES + 1))
    assert len(chunks) > MAX_PACKAGE_BYTES // CHUNK_BYTES
    assert a1.refusal(chunks) == "oversized"


def test_keys_that_are_none_are_malformed(a1: Receiving) -> None:
    assert a1.refusal(a1.chunks(ephemeral_key=bytes(32))) == "malformed"
    assert a1.refusal(a1.chunks(sender=messages.Introduction(sealing_key=b"x"))) == "malformed"


def test_a_teacher_does_not_seal_for_who_is_not_its_student() -> None:
    """The host that the directive names shows a key that another member vouches for."""

    class Lying(PackageServer):
        def introduce(self, name: str, hello: Any) -> Any:
            return introduction(identity("a2"), SealingKey())

    handlers = Lying(identity("a1"), SealingKey(), PackageInbox()).handlers()
    server = RpcServer(
        identity("a1"), "127.0.0.1:0", "Peer", handlers, num_threads=2, refusals=Refusals()
    )
    server.start()
    sender = PackageSender(
        identity("a0"),
        SealingKey(),
        backoff=QUICK,
        clock=MonotonicClock(),
        rng=np.random.default_rng(0),
    )
    aim = NamedDirective(
        id="r1-0", teacher="a0", student="a1", address=f"127.0.0.1:{server.port}", round=1
    )
    with pytest.raises(RefusedError, match="a2 speaks for a1"):
        sender.deliver(aim, DATA)
    server.stop()
