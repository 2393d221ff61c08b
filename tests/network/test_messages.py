"""The checked-in descriptors are those of ``proto/knexa.proto``, and make usable messages."""

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from knexa.matchmaking.answers import TopicAnswers
from knexa.network import messages
from knexa.network.reports import StudentReport, read_report, report_message

PROTO = Path(__file__).parents[2] / "proto"


def test_descriptors_are_what_protoc_makes_of_the_proto_file(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    made = tmp_path / "knexa.binpb"
    arguments = ["protoc", f"-I{PROTO}", f"--descriptor_set_out={made}", "knexa.proto"]
    assert protoc.main(arguments) == 0
    read = descriptor_pb2.FileDescriptorSet.FromString
    assert read(messages.DESCRIPTORS.read_bytes()) == read(made.read_bytes())


def test_a_message_survives_the_wire() -> None:
    report = StudentReport(
        outcome="learned",
        reward=-0.5,
        kilobytes=1.25,
        items_sent=3,
        items_kept=2,
        guardrail={"blocked": 2},
        answers=(TopicAnswers(category=11, asked=4, right=2, new=1),),
    )
    feedback = messages.Feedback(incarnation=b"1", reports=[report_message("r1-0", report)])
    (told,) = messages.Feedback.FromString(feedback.SerializeToString()).reports
    assert (told.directive_id, read_report(told)) == ("r1-0", report)


def test_methods_know_their_messages() -> None:
    assert messages.method("Peer", "Deliver") == (messages.Chunk, messages.Receipt)
    assert messages.method("Matchmaker", "Await") == (messages.Status, messages.Order)
