"""A small chat server that does what a test tells it, mistakes included."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CALLS = ("PhraseToBoxMask", "MergeBoxMask")


def solving(body):
    """The message that the simplest strategy gives next, whichever way tools are called."""
    said = sum(message["role"] == "assistant" for message in body["messages"])
    native = "tools" in body
    if said >= len(CALLS):
        return {"content": "done" if native else "<think>All is found.</think><answer>done</answer>"}
    arguments = {"images": ["img_0"]} | ({"phrase": query(body)} if said == 0 else {})
    call = {"name": CALLS[said], "arguments": json.dumps(arguments)}
    if native:
        return {"content": None, "tool_calls": [{"id": "x", "type": "function", "function": call}]}
    written = json.dumps({"name": CALLS[said], "arguments": arguments})
    return {"content": f"<think>Look.</think><tool_call>{written}</tool_call>"}


def query(body):
    """What is asked, from the first message of the user."""
    text = "".join(part["text"] for part in body["messages"][1]["content"] if part["type"] == "text")
    return text.partition("Task: ")[2].partition("\n")[0]


class Handler(BaseHTTPRequestHandler):
    """Answers by the server's script."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.requests)
            server.requests.append((self.path, dict(self.headers), body))
            server.active += 1
            server.most_active = max(server.most_active, server.active)
        try:
            act = server.script[number] if number < len(server.script) else server.otherwise
            act(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.active -= 1

    def log_message(self, *args):
        pass

    def send(self, status, data, kind="application/json", **headers):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self, kind="text/event-stream"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.wfile.flush()


def good(handler, body, message=None, reason="stop"):
    """A whole answer, in one piece or in several, as is asked for."""
    message = solving(body) if message is None else message
    usage = {"prompt_tokens": 100, "completion_tokens": 7}
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
        handler.send(200, {"choices": [choice], "usage": usage})
        return
    handler.begin_stream()
    for delta in pieces(message):
        handler.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    handler.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    handler.event({"choices": [], "usage": usage})
    handler.wfile.write(b"data: [DONE]\n\n")


def pieces(message):
    """A message as a stream cuts it up."""
    yield {"role": "assistant"}
    for name in ("reasoning_content", "content"):
        text = message.get(name) or ""
        yield from ({name: text[start : start + 5]} for start in range(0, len(text), 5))
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        yield {"tool_calls": [{"index": index, "id": "x", "function": {"name": function["name"], "arguments": ""}}]}
        for start in range(0, len(function["arguments"]), 7):
            part = function["arguments"][start : start + 7]
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def saying(reason="stop", **message):
    """An answer of one's own."""
    return lambda handler, body: good(handler, body, message, reason)


def failing(status, said="no", **headers):
    """A refusal."""
    return lambda handler, body: handler.send(status, {"error": {"message": said}}, **headers)


def cut(handler, body):
    """A stream, or a body, that ends before its end."""
    if body.get("stream"):
        handler.begin_stream()
        handler.event({"choices": [{"index": 0, "delta": {"content": "<think>I see"}}]})
        return
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def endless(handler, body):
    """An answer without an end."""
    stream = body.get("stream")
    handler.begin_stream("text/event-stream" if stream else "application/json")
    while True:
        if stream:
            handler.event({"choices": [{"index": 0, "delta": {"content": "and " * 200}}]})
        else:
            handler.wfile.write(b'{"choices": "' + b"and " * 200)


def silent(handler, body):
    """Nothing, for a while."""
    time.sleep(1.0)


def sending(data, kind="application/json"):
    """Any bytes."""
    return lambda handler, body: handler.send(200, data, kind)


def slow(handler, body):
    """A good answer that takes its time."""
    time.sleep(0.05)
    good(handler, body)


@contextmanager
def answering(server):
    """Lets a server answer on a thread of its own, and closes it."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(*script, otherwise=good):
    """A server on a free port; ``script`` says what it does first, then it does something else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.script, server.otherwise, server.requests = script, otherwise, []
    server.active = server.most_active = 0
    server.lock = threading.Lock()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    with answering(server):
        yield server
