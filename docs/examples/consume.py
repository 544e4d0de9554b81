#!/usr/bin/env python3
"""Reads a namespace's topic with an ordinary Kafka client, and prints each
change once, with what became of it.

    pip install confluent-kafka protobuf grpcio-tools
    python docs/examples/consume.py --brokers localhost:9092 \
        --topic wal-sidecar.us-east-1.sessions

Three things every consumer of the journal does:

1. Drop copies: a record that was sent twice has the same (writer, sequence).
   In a partition they ascend for each writer, so the last one seen is enough.
2. Wait for the outcome of a mutation that is not `final`, and for the rejection
   of one that is: they come later in the same partition, with the same key.
3. Know that a record without a key (FLUSHALL, a heartbeat) is in every
   partition, once each.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile

from confluent_kafka import Consumer, KafkaError, TopicPartition
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def load_records():
    """The classes of the published .proto."""
    out = tempfile.mkdtemp()
    file = "wal_sidecar/v1/record.proto"
    if protoc.main(["protoc", f"-I{PROTO}", f"--python_out={out}", file]) != 0:
        sys.exit(f"{PROTO / file} could not be compiled")
    sys.path.insert(0, out)
    return importlib.import_module("wal_sidecar.v1.record_pb2")


def words(command):
    return " ".join(argument.decode("utf-8", "backslashreplace") for argument in command.arguments)


def commands(commands):
    return "; ".join(words(command) for command in commands)


class Partition:
    """What a consumer keeps of one partition."""

    def __init__(self):
        # The last sequence of each writer.
        self.seen = {}
        # Mutations that wait for their outcome, or for being settled.
        self.open = {}
        self.copies = 0

    def take(self, record):
        """The lines to print for a record."""
        if record.sequence <= self.seen.get(record.writer, 0):
            self.copies += 1
            return
        self.seen[record.writer] = record.sequence
        kind = record.WhichOneof("body")
        if kind == "mutation":
            self.open[record.writer, record.sequence] = record.mutation
        elif kind == "outcome":
            mutation = self.open.pop((record.writer, record.outcome.of_sequence), None)
            yield from outcome(mutation, record.outcome)
        elif kind == "snapshot":
            yield f"snapshot of {record.snapshot.key!r}"
        # A final mutation that is settled and was not rejected took place.
        for writer, sequence in list(self.open):
            settled = writer == record.writer and sequence <= record.settled_through
            if settled and self.open[writer, sequence].final:
                yield commands(self.open.pop((writer, sequence)).commands)


def outcome(mutation, outcome):
    what = commands(mutation.commands) if mutation else f"sequence {outcome.of_sequence}"
    result = outcome.WhichOneof("result")
    if result == "effects":
        yield f"{what} -> {commands(outcome.effects.commands)}"
    elif result == "rejected":
        yield f"{what} -> nothing ({outcome.rejected.reason or 'no effect'})"
    else:
        yield f"{what} -> ask the datastore ({outcome.unknown.reason})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--once", action="store_true", help="end at the end of the topic")
    options = parser.parse_args()
    records = load_records()
    consumer = Consumer({
        "bootstrap.servers": options.brokers,
        "group.id": "example",
        "enable.auto.commit": False,
        "enable.partition.eof": options.once,
        "auto.offset.reset": "earliest",
    })
    found = consumer.list_topics(options.topic, timeout=10).topics[options.topic].partitions
    consumer.assign([TopicPartition(options.topic, number, 0) for number in found])
    partitions = {number: Partition() for number in found}
    ended = set()
    try:
        while len(ended) < len(partitions):
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                    continue
                sys.exit(str(message.error()))
            record = records.Record.FromString(message.value())
            for line in partitions[message.partition()].take(record):
                print(f"{message.partition()}:{message.offset()} {line}", flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


main()
