"""A client that knows an address and gRPC's own protocols, and learns the rest from the server by reflection.

usage: reflection_client.py HOST:PORT
"""
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2

COMMIT, BEFORE = "1f2e3d4c5b6a79880716253443526170899aabbc", "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"
REVISION = {"repository": "github.com/acme/shop", "revision": COMMIT}
EVENTS = [
    {"source": "//reflection", "id": "commit", "occurTime": "2026-11-03T08:10:00Z",
     "commit": {"recorded": {**REVISION, "parents": [BEFORE], "subjectLine": "sum in cents",
                             "commitTime": "2026-11-03T08:10:00Z"}}},
    {"source": "//reflection", "id": "deployment", "occurTime": "2026-11-03T09:00:00Z",
     "deployment": {"finished": {"outcome": "OUTCOME_SUCCESS", "deployment": {
         "deploymentId": "d-881", "service": "checkout", "environment": "production", "revisions": [REVISION],
         "previousRevisions": [{**REVISION, "revision": BEFORE}]}}}},
]


class Server:
    """What one version of reflection tells of a server. The two versions have the same messages."""

    def __init__(self, channel, version):
        self.channel, self.pool, self.known = channel, descriptor_pool.DescriptorPool(), set()
        self.ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
        listed = self.told(list_services="").list_services_response.service
        self.services = sorted(service.name for service in listed)
        for name in self.services:
            self.learn(file_containing_symbol=name)

    def told(self, **question):
        return next(self.ask(iter([reflection_pb2.ServerReflectionRequest(**question)])))

    def learn(self, **question):
        files = [descriptor_pb2.FileDescriptorProto.FromString(file)
                 for file in self.told(**question).file_descriptor_response.file_descriptor_proto]
        for file in files:
            if file.name not in self.known:
                self.known.add(file.name)
                for needed in file.dependency:
                    self.learn(file_by_filename=needed)
                self.pool.AddSerializedFile(file.SerializeToString())

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def method(self, name):
        """The path and messages of the only method of that name."""
        found = [method for service in self.services
                 for method in self.pool.FindServiceByName(service).methods if method.name == name]
        assert len(found) == 1, f"{name}: {[method.full_name for method in found]}"
        path = f"/{found[0].containing_service.full_name}/{name}"
        return path, *(message_factory.GetMessageClass(kind) for kind in (found[0].input_type, found[0].output_type))

    def call(self, name, request, timeout=20):
        path, asked, answered = self.method(name)
        call = self.channel.unary_unary(path, asked.SerializeToString, answered.FromString)
        answer = call(json_format.ParseDict(request, asked(), descriptor_pool=self.pool), timeout=timeout)
        return json_format.MessageToDict(answer, descriptor_pool=self.pool)


def emits(server, duplicate):
    results = server.call("Emit", {"events": EVENTS + [{"source": "//reflection"}]})["results"]
    receipts = [result["receipt"] for result in results[:2]]
    assert [receipt.get("duplicate", False) for receipt in receipts] == [duplicate] * 2, results
    assert all(len(receipt["leafHash"]) == 44 and receipt["ledgerId"] for receipt in receipts), receipts
    refusal = results[2]["refusal"]
    assert (refusal["code"], refusal["field"]) == ("MISSING", "id"), refusal
    return receipts[1]["position"]


def asks(server, position):
    read = {"atLeast": {"position": position}}
    trace = server.call("Trace", {"read": read, "ref": COMMIT})
    entities = {node["entity"] for node in trace["nodes"]}
    assert {f"commit:github.com/acme/shop/{COMMIT}", "deployment:checkout/d-881"} <= entities, trace
    delivery = server.call("Delivery", {
        "read": read, "service": "checkout", "startTime": "2026-11-01T00:00:00Z", "endTime": "2026-11-08T00:00:00Z"})
    assert delivery["definition"]["id"] == "dora/2025" and int(delivery["basis"]["position"]) >= int(position), delivery
    assert delivery["services"][0]["service"] == "checkout", delivery
    proven = server.call("GetReceipt", {"event": {"source": "//reflection", "id": "deployment"}, "prove": True})
    assert proven["proven"]["checkpoint"].startswith(proven["receipt"]["ledgerId"]), proven


def streams(server):
    """One stream out and back, and a tail that says when it has caught up."""
    path, asked, answered = server.method("EmitStream")
    stream = server.channel.stream_stream(path, asked.SerializeToString, answered.FromString)
    requests = [json_format.ParseDict({"events": [event]}, asked(), descriptor_pool=server.pool) for event in EVENTS]
    ids = [answer.results[0].receipt.event.id for answer in stream(iter(requests), timeout=20)]
    assert ids == ["commit", "deployment"], ids
    path, asked, answered = server.method("TailEvents")
    tail = server.channel.unary_stream(path, asked.SerializeToString, answered.FromString)(asked(), timeout=20)
    said = []
    for message in tail:
        said.append(message.WhichOneof("message"))
        if said[-1] == "caught_up":
            tail.cancel()
            break
    assert said.count("event") >= 3, said


def keeps_what_is_unknown(server, version):
    """An enum number, a field and a family that no contract knows yet: back byte for byte."""
    known = server.message("waybill.v1.Event")
    event = json_format.ParseDict({**EVENTS[1], "id": f"newer {version}"}, known(), descriptor_pool=server.pool)
    event.deployment.finished.deployment.deployment_id = "d-882"
    event.deployment.finished.outcome = 77
    newer = event.SerializeToString() + bytes.fromhex("ba3e03616263") + bytes.fromhex("ba0c020a00")
    answer = server.channel.unary_unary(server.method("Emit")[0])(field(1, newer), timeout=20)
    receipt = server.method("Emit")[2].FromString(answer).results[0].receipt
    assert receipt.position, answer
    path, asked, _ = server.method("GetEvent")
    answer = server.channel.unary_unary(path)(asked(position=receipt.position).SerializeToString(), timeout=20)
    assert field(15, newer) in answer, answer


def field(number, data):
    """A field of bytes: its key, its size in two digits of base 128, its content."""
    assert 0x80 <= len(data) < 0x4000, len(data)
    return bytes([number << 3 | 2, len(data) & 0x7F | 0x80, len(data) >> 7]) + data


def is_healthy(server):
    ours = [service for service in server.services if service.startswith("waybill.")]
    assert len(ours) == 5, server.services
    for service in ["", *ours]:
        status = server.call("Check", {"service": service})
        assert status == {"status": "SERVING"}, (service, status)


def says_why_not(server):
    """A failure has its code, and its details in the trailer that clients of google.rpc read."""
    try:
        server.call("GetEvent", {"position": "99999"})
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
        assert error.code() == grpc.StatusCode.NOT_FOUND and b"google.rpc.ErrorInfo" in details, (error, details)
    else:
        raise AssertionError("position 99999 is found")


def main():
    with grpc.insecure_channel(sys.argv[1]) as channel:
        for duplicate, version in enumerate(("v1", "v1alpha")):
            server = Server(channel, version)
            is_healthy(server)
            asks(server, emits(server, bool(duplicate)))
            streams(server)
            keeps_what_is_unknown(server, version)
            says_why_not(server)
            print(f"{version}: emitted and asked, of {len(server.services)} services")


main()
