"""Writes through a proxy and remembers what was acknowledged; later checks that
all of it is in the journal and in Redis. Standard library only.

    acknowledged.py write --port P --file FILE --clients N --seconds S
    acknowledged.py check --port REDIS_PORT --file FILE -- COMMAND...

`write` goes on when the connection breaks: it connects again until its time
is over. COMMAND prints the journal as one JSON object a line, and may go on
printing for ever.
"""

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time

REPLY_TIMEOUT_SECONDS = 10
# A proxy that is being restarted is asked this often.
RECONNECT_SECONDS = 0.02
# A journal that is silent for this long has printed all it has.
SILENCE_SECONDS = 3
CHECK_SECONDS = 60
PIPELINE = 500


def encode(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


class Writers:
    """A few clients that write one key after the other, each waiting for its reply."""

    def __init__(self, port, path, seconds):
        self.port = port
        self.end = time.monotonic() + seconds
        self.file = open(path, "a", encoding="ascii")
        self.lock = threading.Lock()
        # Tells the keys of one run from another's.
        self.run = os.urandom(4).hex()
        self.acknowledged = 0
        self.refused = 0
        self.unanswered = 0
        self.reconnected = 0

    def connect(self):
        while time.monotonic() < self.end:
            try:
                link = socket.create_connection(("127.0.0.1", self.port), REPLY_TIMEOUT_SECONDS)
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return link
            except OSError:
                time.sleep(RECONNECT_SECONDS)
        return None

    def work(self, client):
        link = self.connect()
        number = 0
        while link and time.monotonic() < self.end:
            number += 1
            key = f"demo:{self.run}:{client}:{number}"
            value = os.urandom(8).hex()
            reply = self.ask(link, encode(b"SET", key.encode(), value.encode()))
            with self.lock:
                if reply == b"+OK\r\n":
                    self.acknowledged += 1
                    self.file.write(f"{key} {value}\n")
                elif reply:
                    self.refused += 1
                else:
                    self.unanswered += 1
                    self.reconnected += 1
            if not reply:
                link.close()
                link = self.connect()

    @staticmethod
    def ask(link, request):
        """One reply line, or nothing where the connection broke."""
        reply = b""
        try:
            link.sendall(request)
            while not reply.endswith(b"\r\n"):
                part = link.recv(4096)
                if not part:
                    return b""
                reply += part
        except OSError:
            return b""
        return reply


def write(options):
    writers = Writers(options.port, options.file, options.seconds)
    threads = [threading.Thread(target=writers.work, args=(i,)) for i in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writers.file.close()
    print(
        f"{writers.acknowledged} writes acknowledged, {writers.refused} refused, "
        f"{writers.unanswered} cut off without an answer"
    )
    # A load that wrote nothing proves nothing.
    return 0 if writers.acknowledged else 1


def read_acknowledged(path):
    with open(path, encoding="ascii") as file:
        return dict(line.split() for line in file)


def texts(value):
    """Every string in a JSON value, whatever the fields are called."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts(one)


def missing_in_journal(acknowledged, command):
    """Those no line of the journal has with key and value, and how many lines
    hold a key of ours that was never acknowledged."""
    missing = dict(acknowledged)
    prefix = next(iter(acknowledged)).rsplit(":", 2)[0] + ":"
    unacknowledged = set()
    journal = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        for line in lines(journal.stdout, time.monotonic() + CHECK_SECONDS):
            found = set(texts(json.loads(line)))
            for text in found:
                if text.startswith(prefix):
                    if text not in acknowledged:
                        unacknowledged.add(text)
                    elif acknowledged[text] in found:
                        missing.pop(text, None)
    finally:
        journal.kill()
        journal.wait()
    return missing, len(unacknowledged)


def lines(stream, deadline):
    """The complete lines of a pipe until it ends or is silent for long."""
    rest = b""
    os.set_blocking(stream.fileno(), False)
    silent_at = time.monotonic() + 2 * SILENCE_SECONDS
    while time.monotonic() < min(deadline, silent_at):
        if not select.select([stream], [], [], 0.2)[0]:
            continue
        part = os.read(stream.fileno(), 1 << 20)
        if not part:
            return
        silent_at = time.monotonic() + SILENCE_SECONDS
        *complete, rest = (rest + part).split(b"\n")
        yield from (line for line in complete if line.strip())


def missing_in_redis(acknowledged, port):
    """Those whose value in Redis is another one or none."""
    missing = {}
    pairs = list(acknowledged.items())
    with socket.create_connection(("127.0.0.1", port), REPLY_TIMEOUT_SECONDS) as link:
        replies = link.makefile("rb")
        for start in range(0, len(pairs), PIPELINE):
            part = pairs[start : start + PIPELINE]
            link.sendall(b"".join(encode(b"GET", key.encode()) for key, _ in part))
            for key, value in part:
                header = replies.readline()
                if header == b"$-1\r\n" or not header.startswith(b"$"):
                    missing[key] = header.decode().strip()
                    continue
                got = replies.read(int(header[1:]) + 2)[:-2].decode()
                if got != value:
                    missing[key] = got
    return missing


def check(options):
    acknowledged = read_acknowledged(options.file)
    if not acknowledged:
        print("nothing was acknowledged: nothing to check")
        return 1
    in_redis = missing_in_redis(acknowledged, options.port)
    in_journal, unacknowledged = missing_in_journal(acknowledged, options.command)
    total = len(acknowledged)
    print(f"{total} acknowledged writes")
    print(f"{total - len(in_journal)} of them in the journal, {len(in_journal)} missing")
    print(f"{total - len(in_redis)} of them in Redis, {len(in_redis)} missing")
    print(f"{unacknowledged} more in the journal: cut off before their answer, so none was promised")
    for name, missing in (("journal", in_journal), ("Redis", in_redis)):
        for key in list(missing)[:10]:
            print(f"missing in {name}: {key} = {acknowledged[key]}")
    return 1 if in_journal or in_redis else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    writer = commands.add_parser("write")
    writer.add_argument("--port", type=int, required=True)
    writer.add_argument("--file", required=True)
    writer.add_argument("--clients", type=int, default=8)
    writer.add_argument("--seconds", type=float, default=5)
    writer.set_defaults(run=write)
    checker = commands.add_parser("check")
    checker.add_argument("--port", type=int, required=True)
    checker.add_argument("--file", required=True)
    checker.add_argument("command", nargs="+")
    checker.set_defaults(run=check)
    options = parser.parse_args()
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
