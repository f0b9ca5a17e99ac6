"""The page of a run: whole, self-contained, and deaf to what it shows."""

import json
import re
from html.parser import HTMLParser

import pytest

from tests.test_wrappers import ANSWER, FIND, MERGE, make, play
from visenv.errors import InvalidData
from visenv.report import write_page
from visenv.report.markup import tag, text
from visenv.wrappers import RecordTrajectories

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e</pre>\x00'


class Reader(HTMLParser):
    """Collects the elements and the text of a page, and checks that they nest."""

    void = {"meta", "img", "input", "br"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.open = [], "", []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


@pytest.fixture
def run(tmp_path):
    env = RecordTrajectories(make(), tmp_path, {"policy": "by hand"})
    play(env, 0)
    split = {"name": "SplitImageIntoPatches", "arguments": {"patch_configs": {"img_0": 40}}}
    play(env, 1, (split, {"name": "NoSuchTool"}, FIND, MERGE, ANSWER))
    env.close()
    return tmp_path


def test_the_page_needs_nothing_else(run):
    page = read(run / "index.html")
    for name, attributes in page.elements:
        for key in ("src", "href"):
            if key in attributes:
                assert attributes[key].startswith(("data:", "#")), (name, attributes[key][:80])
    assert not [name for name, _ in page.elements if name in ("link", "iframe", "object", "base")]
    source = (run / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", source)


def test_the_page_shows_every_turn(run):
    page = read(run / "index.html")
    episodes = [attributes for name, attributes in page.elements if attributes.get("class") == "episode"]
    assert [episode["id"] for episode in episodes] == ["e0", "e1"]
    assert [episode["data-turns"] for episode in episodes] == ["3", "5"]
    assert [episode["data-faults"] for episode in episodes] == ["0", "1"]
    for shown in (
        "unknown_tool",
        "NoSuchTool",
        "SplitImageIntoPatches",
        "img_0_r1_c1",
        "Archived",
        "squares/1",
        "gIoU",
    ):
        assert shown in page.text, shown
    pictures = [attributes for name, attributes in page.elements if name == "img"]
    records = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    recorded = sum(
        len(record["pictures"])
        + len(record["result_pictures"])
        + sum(len(turn["pictures"]) for turn in record["turns"])
        for record in records
    )
    assert len(pictures) == recorded + len(records)


def test_hostile_text_stays_text(run):
    lines = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    record = lines[0]
    record["query"] = record["sample_id"] = record["termination"] = HOSTILE
    record["outcome"]["answer"] = HOSTILE
    record["turns"][0] |= {
        "reply": HOSTILE,
        "text": HOSTILE * 100,
        "thought": HOSTILE,
        "name": HOSTILE,
        "shown": [HOSTILE],
    }
    record["turns"][0]["arguments"] = {HOSTILE: [HOSTILE] * 9}
    record["turns"][1]["error"] = {"code": HOSTILE, "message": HOSTILE}
    record["turns"][2]["reward_terms"] = {HOSTILE: 1.0}
    record["metrics"][HOSTILE] = 0.5
    (run / "trajectories.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "summary.json").write_text(json.dumps({"settings": {"env_id": HOSTILE, HOSTILE: HOSTILE}}))
    page = read(write_page(run))
    assert [name for name, _ in page.elements].count("script") == 1
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    assert "alert(1)" in page.text
    source = (run / "index.html").read_text(encoding="utf-8")
    assert "\u202e" not in source
    assert "\x00" not in source


def test_only_the_pages_own_script_may_run(run):
    page = read(run / "index.html")
    policies = [a["content"] for name, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "script-src 'sha256-" in policies[0]


def test_broken_runs_are_shown_as_far_as_they_go(run):
    with (run / "trajectories.jsonl").open("a") as file:
        file.write('{"episode": 2, "turns"')
    (run / "summary.json").unlink()
    for picture in (run / "pictures" / "00000").glob("final*"):
        picture.write_bytes(b"")
    next((run / "pictures" / "00001").glob("00_*")).unlink()
    page = read(write_page(run))
    assert "1 lines of trajectories.jsonl could not be read" in page.text
    assert "missing" in page.text
    assert len([a for _, a in page.elements if a.get("class") == "episode"]) == 2


def test_pictures_outside_of_the_run_are_not_shown(run, tmp_path_factory):
    secret = tmp_path_factory.mktemp("other") / "secret.jpg"
    secret.write_bytes(b"\xff\xd8secret")
    lines = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    lines[0]["pictures"] = [str(secret)]
    lines[1]["pictures"] = [f"../../{secret.parent.name}/secret.jpg"]
    (run / "trajectories.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "/9hzZWNyZXQ" not in write_page(run).read_text(encoding="utf-8")


def test_a_folder_without_a_run_is_a_clear_error(tmp_path):
    with pytest.raises(InvalidData, match=r"trajectories\.jsonl"):
        write_page(tmp_path)


def test_a_run_without_episodes_has_a_page(tmp_path):
    RecordTrajectories(make(), tmp_path).close()
    assert "No episode has ended" in read(tmp_path / "index.html").text


def test_markup_escapes_by_default():
    assert text('<&">') == "&lt;&amp;&quot;&gt;"
    assert tag("a", tag("b", "<"), title='"') == '<a title="&quot;"><b>&lt;</b></a>'
