"""The messages of ``proto/knexa.proto`` as classes.

They are built at import from the descriptors that protoc wrote (``knexa.binpb``). Generated Python
code would reject every protobuf runtime older than its compiler; descriptors load in all of them.
"""

from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOCOL_VERSION: Final = 4
PACKAGE: Final = "knexa.v1"
DESCRIPTORS: Final = Path(__file__).with_name("knexa.binpb")

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
    _pool.Add(_file)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


Receipt = _message("Receipt")
Registration = _message("Registration")
Welcome = _message("Welcome")
Heartbeat = _message("Heartbeat")
Status = _message("Status")
Order = _message("Order")
Directive = _message("Directive")
Result = _message("Result")
Profile = _message("Profile")
Feedback = _message("Feedback")
Report = _message("Report")
TopicAnswers = _message("TopicAnswers")
Verdict = _message("Verdict")
Hello = _message("Hello")
Introduction = _message("Introduction")
Chunk = _message("Chunk")
Envelope = _message("Envelope")
Package = _message("Package")


def method(service: str, name: str) -> tuple[Any, Any]:
    """Return the message classes of a method's request and response."""
    described = _pool.FindServiceByName(f"{PACKAGE}.{service}").methods_by_name[name]
    classes = (described.input_type, described.output_type)
    request, response = (message_factory.GetMessageClass(found) for found in classes)
    return request, response
