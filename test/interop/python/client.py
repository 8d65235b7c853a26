"""Publishes and fetches with stock grpcio stubs, compiled from the shipped .proto files.

usage: client.py ENDPOINT TOPIC COUNT
Prints one line per record that it read back: partition, offset, body.
"""

import sys

import grpc
from flotilla.v1 import admin_pb2, admin_pb2_grpc, messaging_pb2, messaging_pb2_grpc, types_pb2


def records(first, count):
    return types_pb2.RecordBatch(
        records=[types_pb2.Record(key=b"k", body=f"python {first + i}".encode()) for i in range(count)]
    )


def stream_requests(topic, partition, count):
    opening = messaging_pb2.PublishOpen(topic=topic, producer_id=4711)
    for i in range(count):
        batch = messaging_pb2.PublishBatch(id=i + 1, partition=partition, sequence=i, count=1, records=records(count + i, 1))
        yield messaging_pb2.PublishStreamRequest(open=opening if i == 0 else None, batches=[batch])


def main(endpoint, topic, count):
    with grpc.insecure_channel(endpoint) as channel:
        messaging = messaging_pb2_grpc.MessagingStub(channel)
        admin = admin_pb2_grpc.AdminStub(channel)
        admin.CreateTopic(admin_pb2.CreateTopicRequest(name=topic, partitions=1, replicas=3), timeout=20)
        for i in range(count):
            answer = messaging.Publish(
                messaging_pb2.PublishRequest(topic=topic, partition=0, records=records(i, 1), count=1), timeout=20
            )
            assert answer.base_offset == i, answer
        acked = 0
        for response in messaging.PublishStream(stream_requests(topic, 0, count), timeout=20):
            for ack in response.acks:
                assert not ack.HasField("error"), ack
                acked += ack.batches
        assert acked == count, acked
        offset = 0
        while offset < 2 * count:
            position = messaging_pb2.FetchPosition(partition=0, offset=offset)
            answer = messaging.Fetch(
                messaging_pb2.FetchRequest(topic=topic, positions=[position], max_wait_ms=1000), timeout=20
            )
            part = answer.partitions[0]
            assert not part.HasField("error"), part
            for batch in part.batches:
                for i, record in enumerate(batch.records.records):
                    print(part.partition, batch.base_offset + i, record.body.decode())
            offset = part.next_offset
        try:
            messaging.Publish(messaging_pb2.PublishRequest(topic="missing", records=records(0, 1)), timeout=20)
        except grpc.RpcError as error:
            print("error", error.code().name)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
