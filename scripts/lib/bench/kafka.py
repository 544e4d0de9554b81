"""Two ratios: durable writes through a sidecar that journals to Kafka, beside
librdkafka alone producing the same records to the same broker.

Throughput with 800 writes in flight (50 clients, pipeline 16), and what one
write takes more through the journal than without, beside one bare produce.
Rounds are interleaved; shown are medians.
"""

import argparse
import json
import statistics
import subprocess


KEYS = 100000


def producer(arguments, in_flight):
    done = subprocess.run(
        [arguments.producer, "--bootstrap", arguments.bootstrap, "--topic", arguments.topic,
         "--in-flight", str(in_flight), "--seconds", str(arguments.seconds)],
        capture_output=True, text=True, check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failed"] == 0, result
    return result


def redis_benchmark(port, clients, pipeline, operations):
    done = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", "set", "--csv",
         "-c", str(clients), "-P", str(pipeline), "-n", str(operations), "-d", "100",
         "-r", str(KEYS), "--precision", "3"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )
    rows = [line.replace('"', "").split(",") for line in done.stdout.splitlines() if "," in line]
    values = dict(zip(rows[0], rows[1]))
    return {"ops_per_second": float(values["rps"]), "p50_ms": float(values["p50_latency_ms"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", action="store_true", help=argparse.SUPPRESS)
    for name in ["producer", "bootstrap", "topic", "durable-port", "off-port"]:
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()

    # The broker compiles itself while it runs: it is several times slower at first.
    for _ in range(2):
        producer(arguments, 800)
        rate = redis_benchmark(arguments.durable_port, 50, 16, 400000)["ops_per_second"]
    many = max(20000, int(rate * arguments.seconds))
    rate = redis_benchmark(arguments.durable_port, 1, 1, 2000)["ops_per_second"]
    few = max(2000, int(rate * arguments.seconds))
    rounds = []
    for number in range(arguments.rounds):
        one = {
            "alone": producer(arguments, 800)["records_per_second"],
            "sidecar": redis_benchmark(arguments.durable_port, 50, 16, many)["ops_per_second"],
            "alone_p50": producer(arguments, 1)["p50_ms"],
            "sidecar_p50": redis_benchmark(arguments.durable_port, 1, 1, few)["p50_ms"],
            "off_p50": redis_benchmark(arguments.off_port, 1, 1, few)["p50_ms"],
        }
        rounds.append(one)
        print(f"   round {number + 1}: {json.dumps(one)}", flush=True)
    middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    ratio = statistics.median(one["sidecar"] / one["alone"] for one in rounds)
    added = statistics.median(
        (one["sidecar_p50"] - one["off_p50"]) / one["alone_p50"] for one in rounds)
    print(f"""
   800 writes in flight     sidecar {middle['sidecar']:>9.0f}/s   librdkafka alone {middle['alone']:>9.0f}/s   ratio {ratio:.2f} (target >= 0.8)
   1 write in flight, p50   added   {middle['sidecar_p50'] - middle['off_p50']:>9.3f} ms  one bare produce {middle['alone_p50']:>9.3f} ms  ratio {added:.2f} (target <= 1.3)""")


main()
