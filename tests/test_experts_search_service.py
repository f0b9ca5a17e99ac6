"""Search services over HTTP, asked for real on this machine: keys, limits, retries, and what is recorded."""

import gzip
import json
import pickle
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from chat_server import answering

from visenv.capabilities import NOWHERE, EstimateDepth, ExpertFailure, Passages, Search
from visenv.errors import InvalidData, UnknownName
from visenv.experts.search import SERVICES, Service, ServiceSearch, remote
from visenv.experts.search.services import passages_of
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool

KEY = "s3cret-key"
SERPER = {"organic": [{"title": "Velmora", "snippet": "A <b>town</b> &amp; port.", "link": "x"}, {"title": "Oskel"}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        server = self.server
        length = int(self.headers.get("Content-Length", 0))
        asked = {"time": time.monotonic(), "path": urlsplit(self.path).path, "headers": dict(self.headers)}
        asked["params"] = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        asked["json"] = json.loads(self.rfile.read(length)) if length else None
        with server.lock:
            act = server.script.pop(0) if server.script else server.otherwise
            server.asked.append(asked)
            server.active += 1
            server.most = max(server.most, server.active)
        try:
            act(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.active -= 1

    do_GET = do_POST = answer

    def log_message(self, *words):
        pass

    def reply(self, status, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


def giving(body, status=200, **headers):
    return lambda handler: handler.reply(status, body, **headers)


def slowly(handler):
    time.sleep(0.1)
    handler.reply(200, SERPER)


def dripping(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(40):
        handler.wfile.write(b"a")
        time.sleep(0.05)


def cut(handler):
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"organic"')
    handler.close_connection = True


def endless(handler):
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while True:
        handler.wfile.write(b" " * 2**16)


@contextmanager
def serving(*script, otherwise=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.script, server.otherwise, server.asked = list(script), otherwise or giving(SERPER), []
    server.lock, server.active, server.most = threading.Lock(), 0, 0
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    with answering(server):
        yield server


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("SERPER_API_KEY", KEY)
    monkeypatch.setenv("BRAVE_SEARCH_API_KEY", KEY)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)


def serper(server, **keywords):
    return ServiceSearch("serper", address=server.url, **{"per_second": 1000, **keywords})


def ask(search, *queries, limit=3):
    requests = [Search(query, limit) for query in queries]
    results = search.run(requests)
    for request, result in zip(requests, results, strict=True):
        if not isinstance(result, ExpertFailure):
            check_result(request, result)
    return results


@pytest.mark.parametrize(
    ("service", "answer", "path", "header", "asked"),
    [
        ("serper", SERPER, "/search", "X-API-KEY", {"json": {"q": "où est?", "num": 2}}),
        (
            "brave",
            {"web": {"results": [{"title": "Velmora", "description": "A <strong>town</strong> &amp; port."}, {}]}},
            "/res/v1/web/search",
            "X-Subscription-Token",
            {"params": {"q": "où est?", "count": "2"}},
        ),
        (
            "searxng",
            {"results": [{"title": "Velmora", "content": "A town\n& port."}, {"title": "Oskel", "content": None}]},
            "/search",
            None,
            {"params": {"q": "où est?", "format": "json"}},
        ),
        (
            "retriever",
            {"result": [[{"document": {"id": "1", "contents": '"Velmora"\nA town & port.'}, "score": 0.3}]]},
            "/retrieve",
            None,
            {"json": {"queries": ["où est?"], "topk": 2, "return_scores": True}},
        ),
    ],
)
def test_each_service_is_asked_and_read_in_its_own_way(service, answer, path, header, asked):
    with serving(otherwise=giving(answer)) as server:
        (found,) = ask(ServiceSearch(service, address=server.url + "/"), "où est?", limit=2)
        (request,) = server.asked
    assert (found.titles[0], found.texts[0]) == ("Velmora", "A town & port.")
    assert found.scores.tolist() == [1.0, 0.5][: len(found.scores)]
    assert request["path"] == path
    assert {name: request[name] for name in asked} == asked
    assert [value for value in request["headers"].values() if value == KEY] == ([KEY] if header else [])
    assert header is None or request["headers"][header] == KEY


def test_a_service_of_ones_own_can_be_asked():
    mine = Service("mine", lambda query, limit: {"params": {"ask": query}}, lambda answer: answer, path="/find")
    with serving(otherwise=giving([["Title", "Text"]])) as server:
        (found,) = ask(ServiceSearch(mine, address=server.url), "kite")
    assert found.titles == ("Title",)


def test_no_more_than_asked_for_and_nothing_empty():
    rows = [{"title": "", "snippet": " <i></i> "}] + [{"title": f"t{i}", "snippet": "x" * 9000} for i in range(5)]
    found = passages_of(SERVICES["serper"], {"organic": rows}, 2)
    assert [title for title, _ in found] == ["t0", "t1"]
    assert {len(text) for _, text in found} == {2000}


def test_an_answer_without_results_is_none():
    with serving(otherwise=giving({"organic": []})) as server:
        (found,) = ask(serper(server), "kite")
    assert isinstance(found, Passages)
    assert found.titles == ()


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        giving({"error": "busy"}, 503),
        giving({}, 429),
        giving({}, 429, Retry_After="0.02"),
        giving({}, 500, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        giving(b"<html>"),
        giving(b"[" * 100_000),
        giving([1]),
        giving({"organic": [{"title": 3}]}),
        giving({"organic": "none"}),
        cut,
    ],
)
def test_what_may_succeed_later_is_asked_again(fault):
    with serving(fault, fault) as server:
        (found,) = ask(serper(server, retries=2), "kite")
        assert len(server.asked) == 3
    assert found.titles == ("Velmora", "Oskel")


@pytest.mark.parametrize(
    ("fault", "asked", "said"),
    [
        (giving({"message": f"the key {KEY} is wrong"}, 401), 1, "Is the key in SERPER_API_KEY right"),
        (giving({}, 400), 1, "HTTP 400"),
        (giving(b"", 302, Location="http://127.0.0.1:1/"), 1, "HTTP 302"),
        (endless, 1, "over"),
        (giving(gzip.compress(bytes(5 * 2**20)), Content_Encoding="gzip"), 1, "over"),
        (giving(b"[]", Content_Encoding="br"), 3, "packed as 'br'"),
        (giving(b"no gzip", Content_Encoding="gzip"), 3, "cannot be unpacked"),
        (giving(gzip.compress(b"[1, 2]")[:-9], Content_Encoding="gzip"), 3, "cut off"),
        (giving({"organic": [{KEY: 1}, KEY]}), 3, "failed 3 times"),
        (giving({"m": KEY}, 503), 3, "failed 3 times"),
        (cut, 3, "failed 3 times"),
        (dripping, 3, "no whole answer within"),
    ],
)
def test_what_fails_for_good_fails_alone_and_keeps_the_key(fault, asked, said, tmp_path):
    with serving(otherwise=giving(SERPER)) as server:
        search = serper(server, retries=2, timeout=0.5, parallel=1, cache=tmp_path)
        assert isinstance(ask(search, "oskel")[0], Passages)
        server.script[:] = [fault] * asked
        failed, good = ask(search, "kite", "velmora")
        assert len(server.asked) == 1 + asked + 1
    assert isinstance(failed, ExpertFailure)
    assert said in failed.message
    assert KEY not in failed.message
    assert good.titles[0] == "Velmora"
    assert len(list(tmp_path.iterdir())) == 2, "Failures are not kept."


def test_a_service_that_repeats_the_key_does_not_get_it_written_down(tmp_path):
    repeating = giving({"organic": [{"title": f"asked with {KEY}", "snippet": f"X-API-KEY: {KEY}"}]})
    with serving(otherwise=repeating) as server:
        (found,) = ask(serper(server, cache=tmp_path), "kite")
    assert (found.titles, found.texts) == (("asked with ***",), ("X-API-KEY: ***",))
    assert KEY not in next(tmp_path.iterdir()).read_text()


@pytest.mark.parametrize("service", ["serper", "retriever", "searxng"])
def test_any_text_can_be_asked_for(service):
    answers = SERPER | {"results": [], "result": [[]]}
    with serving(otherwise=giving(answers)) as server:
        search = ServiceSearch(service, address=server.url, per_second=1000, retries=0)
        found = ask(search, "a\ud800b", "\0", "a\r\nHost: b", "🦄" * 512)
        assert all(isinstance(each, Passages) for each in found)
        assert "?" in str(server.asked[0]["json"] or server.asked[0]["params"])


def test_what_cannot_be_asked_fails_alone():
    def demanding(query, limit):
        if query == "bad":
            raise ValueError("no such thing")
        return {"params": {"q": "x" * 10**5 if query == "long" else query}}

    service = Service("mine", demanding, SERVICES["serper"].read)
    with serving() as server:
        search = ServiceSearch(service, address=server.url, per_second=1000, retries=0)
        long, good, bad = ask(search, "long", "fine", "bad")
    assert good.titles[0] == "Velmora"
    for failed in (long, bad):
        assert isinstance(failed, ExpertFailure)
        assert "cannot be asked this" in failed.message


def test_a_packed_answer_is_unpacked():
    packed = giving(gzip.compress(json.dumps(SERPER).encode()), Content_Encoding="gzip")
    with serving(otherwise=packed) as server:
        assert ask(serper(server), "kite")[0].titles[0] == "Velmora"
        assert server.asked[0]["headers"]["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(("header", "least"), [("0.2", 0.2), ("{date}", 0.15)])
def test_a_service_names_the_wait(monkeypatch, header, least):
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.2)
    named = header.format(date=format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True))
    with serving(giving({}, 429, Retry_After=named)) as server:
        ask(serper(server), "kite")
        first, second = server.asked
    assert second["time"] - first["time"] >= least


def test_nobody_there_is_a_failure_and_the_pool_counts_it():
    with serving() as server:
        url = server.url
    pool = ExpertPool({"Search": ServiceSearch("searxng", address=url, retries=1)})
    (failed,) = pool.answer([Search("kite")])
    assert "ConnectError" in failed.message
    assert pool.counters.failures == 1


@pytest.mark.parametrize("key", ["", "  ", None])
def test_a_missing_key_is_said_before_anything_is_asked(monkeypatch, key):
    monkeypatch.delenv("SERPER_API_KEY") if key is None else monkeypatch.setenv("SERPER_API_KEY", key)
    with pytest.raises(InvalidData, match=r"environment variable SERPER_API_KEY.*export SERPER_API_KEY="):
        ServiceSearch("serper")
    monkeypatch.setenv("MY_KEY", KEY)
    assert ServiceSearch("serper", key_variable="MY_KEY").key_variable == "MY_KEY"


@pytest.mark.parametrize("key", ["a\nX-Other: b", "clé"])
def test_a_key_that_is_no_header_is_refused(monkeypatch, key):
    monkeypatch.setenv("SERPER_API_KEY", key)
    with pytest.raises(InvalidData, match="printable ASCII"):
        ServiceSearch("serper")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"service": "searxng"}, "Expected the address"),
        ({"address": "ftp://host"}, "Expected an address"),
        ({"address": "http://me:word@host"}, "Expected an address"),
        ({"address": "http://host/?key=1"}, "Expected an address"),
        ({"address": "http://host:99999"}, "Expected an address"),
        ({"address": "host"}, "Expected an address"),
        ({"per_second": 0}, "per_second"),
        ({"timeout": float("inf")}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"parallel": True}, "parallel"),
        ({"offline": True}, "Expected a cache"),
    ],
)
def test_wrong_settings_are_refused(keywords, message):
    with pytest.raises(InvalidData, match=message):
        ServiceSearch(**{"service": "serper", **keywords})


def test_unknown_services_and_requests_are_refused():
    with pytest.raises(UnknownName, match="serper, brave, searxng, retriever"):
        ServiceSearch("gogle")
    with pytest.raises(InvalidData, match="does not answer"):
        ServiceSearch("serper").run([EstimateDepth(NOWHERE)])


# --- limits and records -----------------------------------------------------------------------------------------------


def test_requests_begin_no_faster_than_allowed():
    with serving() as server:
        search = serper(server, per_second=20, parallel=8)
        ask(search, *"abcd")
        ask(search, "e")
        times = sorted(asked["time"] for asked in server.asked)
    assert times[-1] - times[0] >= 4 / 20 - 0.03


def test_no_more_requests_are_under_way_than_allowed():
    with serving(otherwise=slowly) as server:
        ask(serper(server, parallel=2), *"abcdef")
        assert server.most == 2


def test_threads_share_what_may_be_under_way():
    with serving(otherwise=slowly) as server:
        search = serper(server, parallel=1)
        for shared in (search, pickle.loads(pickle.dumps(search))):
            threads = [threading.Thread(target=ask, args=(shared, query)) for query in "abc"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert server.most == 1
    assert len(server.asked) == 6


def test_an_answer_is_recorded_and_never_asked_for_again(tmp_path):
    with serving() as server:
        first = ask(serper(server, cache=tmp_path), "kite", "kite", "où")
        assert len(server.asked) == 3, "Duplicates are the pool's to find."
        again = ask(serper(server, cache=tmp_path), "kite", "où")
        assert len(server.asked) == 3
        ask(serper(server, cache=tmp_path), "kite", limit=1)
        assert len(server.asked) == 4
        url = server.url
    files = sorted(tmp_path.iterdir())
    assert [file.suffix for file in files] == [".json"] * 3
    assert not any(KEY in file.read_text() for file in files)
    assert [each.titles for each in again] == [first[0].titles, first[2].titles]
    offline = ServiceSearch("serper", address=url, cache=tmp_path, offline=True)
    known, unknown = ask(offline, "kite", "zebra")
    assert known.texts == first[0].texts
    assert isinstance(unknown, ExpertFailure)
    assert "no recorded answer to 'zebra'" in unknown.message


def test_offline_needs_no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("SERPER_API_KEY")
    assert isinstance(ask(ServiceSearch("serper", cache=tmp_path, offline=True), "kite")[0], ExpertFailure)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"asked": {}}', b"\xff", b"[" * 100_000, None, "other", "rows", "large"]
)
def test_a_broken_record_is_asked_for_anew(tmp_path, damage):
    with serving() as server:
        ask(serper(server, cache=tmp_path), "kite")
        (file,) = tmp_path.iterdir()
        good = json.loads(file.read_bytes())
        if damage == "other":
            damage = json.dumps(good | {"asked": good["asked"] | {"query": "zebra"}}).encode()
        elif damage == "rows":
            damage = json.dumps(good | {"passages": [["title", 3]]}).encode()
        elif damage == "large":
            damage = file.read_bytes() + b" " * 2**23
        file.unlink()
        if damage is None:
            file.mkdir()
            with pytest.raises(InvalidData, match="Cannot keep an answer"):
                ask(serper(server, cache=tmp_path), "kite")
            return
        file.write_bytes(damage)
        (found,) = ask(serper(server, cache=tmp_path), "kite")
        assert len(server.asked) == 2
    assert found.titles[0] == "Velmora"
    assert json.loads(file.read_bytes()) == good


def test_copies_take_no_key_with_them(monkeypatch):
    with serving() as server:
        data = pickle.dumps(serper(server))
        assert KEY.encode() not in data
        twin = pickle.loads(data)
        assert ask(twin, "kite")[0].titles[0] == "Velmora"
        monkeypatch.delenv("SERPER_API_KEY")
        with pytest.raises(InvalidData, match="environment variable"):
            twin.run([Search("kite")])
