"""Requests and answers as they stand on the wire, for the `scripted` server."""

from __future__ import annotations

import re
import socket


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def request(connection: socket.socket) -> bytes:
    """Return a request, head and body, which may come in pieces."""
    received = b""
    while (piece := connection.recv(65536)) != b"":
        received += piece
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if end and len(body) >= int(length[1] if length else 0):
            break
    return received
