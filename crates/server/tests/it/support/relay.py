"""Joins each connection to one port with one to another, on which it is answered: a test speaks for the program."""
import socket, sys, threading


def listen(port):
    return socket.create_server(("127.0.0.1", port))


def carry(source, target):
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
    except OSError:
        pass
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


asked, answered = (listen(int(port)) for port in sys.argv[1:3])
while True:
    program, _ = answered.accept()
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += program.recv(1) or sys.exit("no request")
    program.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: relay\r\n\r\n")
    visitor, _ = asked.accept()
    for pair in ((program, visitor), (visitor, program)):
        threading.Thread(target=carry, args=pair, daemon=True).start()
