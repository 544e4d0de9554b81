"""A link between two ports of this machine, which is cut by ending it.

usage: relay.py LISTEN_PORT TARGET_PORT
"""

import socket
import sys
import threading


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def main():
    listen_port, target_port = map(int, sys.argv[1:])
    server = socket.create_server(("127.0.0.1", listen_port))
    while True:
        client, _ = server.accept()
        try:
            target = socket.create_connection(("127.0.0.1", target_port))
        except OSError:
            client.close()
            continue
        for pair in ((client, target), (target, client)):
            threading.Thread(target=copy, args=pair, daemon=True).start()


main()
