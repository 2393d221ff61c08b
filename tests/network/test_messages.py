"""The checked-in descriptors are those of ``proto/knexa.proto``, and make usable messages."""

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from knexa.network import messages

PROTO = Path(__file__).parents[2] / "proto"


def test_descriptors_are_what_protoc_makes_of_the_proto_file(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    made = tmp_path / "knexa.binpb"
    arguments = ["protoc", f"-I{PROTO}", f"--descriptor_set_out={made}", "knexa.proto"]
    assert protoc.main(arguments) == 0
    read = descriptor_pb2.FileDescriptorSet.FromString
    assert read(messages.DESCRIPTORS.read_bytes()) == read(made.read_bytes())


def test_a_message_survives_the_wire() -> None:
    feedback = messages.Feedback(
        directive_id="r1-0", outcome=messages.Feedback.LOST, reward=-0.5, guardrail={"blocked": 2}
    )
    assert messages.Feedback.FromString(feedback.SerializeToString()) == feedback


def test_methods_know_their_messages() -> None:
    assert messages.method("Peer", "Deliver") == (messages.Chunk, messages.Receipt)
    assert messages.method("Matchmaker", "Await") == (messages.Status, messages.Order)
