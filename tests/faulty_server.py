"""A small real server that answers as visenv's does, or goes wrong in a way that it is told."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from stubs import BrightExpert

import visenv
from visenv.capabilities import Points
from visenv.serve.codec import images_named, pack_results, unpack_requests
from visenv.serve.wire import PROTOCOL, pack, unpack


class FaultyServer:
    """Goes wrong in ways named by ``faults``, one a request, and answers rightly after the last.

    Args:
        faults: names of ``Handler`` methods; the last stays if it ends with an asterisk.
        described: what its description says otherwise than it should.
    """

    def __init__(self, *faults, described=None):
        self.faults, self.asked, self.expert = list(faults), [], BrightExpert()
        self.described, self.held, self.connections = described or {}, {}, []
        self.lock = threading.Lock()
        self.port = None

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, *error):
        self.end()

    def begin(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port or 0), Handler)
        self.server.daemon_threads = True
        self.server.owner, self.port = self, self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def end(self):
        self.held.clear()
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def next_fault(self):
        with self.lock:
            if self.faults and self.faults[0].endswith("*"):
                return self.faults[0][:-1]
            return self.faults.pop(0) if self.faults else "right"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.owner.connections.append(self.connection)

    def log_message(self, *words):
        pass

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        owner, expert = self.server.owner, self.server.owner.expert
        described = {
            "key": "bright",
            "name": expert.name,
            "fingerprint": expert.fingerprint,
            "capabilities": list(expert.capabilities),
            "max_batch": 8,
            "replicas": 1,
        }
        document = {"protocol": PROTOCOL, "visenv": visenv.__version__, "body_bytes": 2**24, "requests": 64}
        document = {**document, "experts": [described], **owner.described}
        self.reply(200, json.dumps(document).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        reader = unpack(body)
        named, held = images_named(reader), self.server.owner.held
        held.update({digest: pixels for digest, pixels in named.items() if pixels is not None})
        if missing := [digest for digest in named if digest not in held]:
            self.reply(200, pack({"need": missing}))
            return
        requests = unpack_requests(reader, held)
        self.server.owner.asked.append([getattr(request, "phrase", request.capability) for request in requests])
        with contextlib.suppress(OSError):
            getattr(self, self.server.owner.next_fault())(requests)

    def results(self, requests):
        return [self.server.owner.expert.answer(request) for request in requests]

    # --- what may come of a request ---------------------------------------------------------------------------------

    def right(self, requests):
        if any(getattr(request, "phrase", "") == "poison" for request in requests):
            self.reply(500, b"poisoned")
        else:
            self.reply(200, pack_results(self.results(requests)))

    def broken(self, requests):
        self.reply(500, b"Internal Server Error")

    def crashed(self, requests):
        self.reply(502, b"The process of the expert died.")

    def busy(self, requests):
        self.reply(503, b"")

    def late(self, requests):
        self.reply(504, b"The expert took too long.")

    def other_weights(self, requests):
        self.reply(409, b"Expected the expert 'bright-1', but 'bright-2' is served now.")

    def noise(self, requests):
        self.reply(200, np.random.default_rng(0).bytes(5000))

    def empty(self, requests):
        self.reply(200, b"")

    def page(self, requests):
        self.reply(200, b"<html><body>Welcome to nginx!</body></html>")

    def bits(self, requests):
        data = bytearray(pack_results(self.results(requests)))
        data[40] ^= 0xFF
        self.reply(200, bytes(data))

    def too_few(self, requests):
        self.reply(200, pack_results(self.results(requests)[:-1]))

    def another_kind(self, requests):
        self.reply(200, pack_results([Points(np.zeros((1, 2)), np.ones(1))] * len(requests)))

    def impossible(self, requests):
        self.reply(200, pack_results([Points(np.full((1, 2), np.nan), np.full(1, 7.0))] * len(requests)))

    def always_needs(self, requests):
        self.reply(200, pack({"need": ["0" * 32]}))

    def no_http(self, requests):
        self.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        self.close_connection = True

    def cut(self, requests):
        data = pack_results(self.results(requests))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    def hung_up(self, requests):
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def silent(self, requests):
        time.sleep(60)

    def endless(self, requests):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(10_000):
            self.wfile.write(b"100000\r\n" + bytes(2**20) + b"\r\n")

    def huge(self, requests):
        self.send_response(200)
        self.send_header("Content-Length", str(2**40))
        self.end_headers()

    def dripping(self, requests):
        """A byte now and then: every single one comes in time."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1000):
            self.wfile.write(b"V")
            time.sleep(0.05)

    def slow(self, requests):
        """All of it, in small parts, within a second."""
        data = pack_results(self.results(requests))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for start in range(0, len(data), max(1, len(data) // 10)):
            self.wfile.write(data[start : start + max(1, len(data) // 10)])
            time.sleep(0.05)
