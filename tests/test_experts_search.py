"""The embedded search: what is read, what is found, and what hostile folders and queries come to."""

import json
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.capabilities import NOWHERE, EstimateDepth, Search
from visenv.errors import InvalidData
from visenv.experts import presets
from visenv.experts.search import Document, LocalSearch, documents, read_folder
from visenv.experts.search.documents import PASSAGE_CHARACTERS, passages
from visenv.experts.search.index import MAX_TERMS, match_expression
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool

TOWNS = [
    ("Velmora", "A town by the sea. Its flag shows a striped red kite."),
    ("Oskel", "A town on a hill. In its market kites of all colours are sold."),
    ("Founding of Velmora", "Velmora was founded by Ansel Brodwick."),
    ("Ansel Brodwick", "A glassblower, born in Tarn Hollow."),
]


def find(search, query, limit=3):
    request = Search(query, limit)
    (found,) = search.run([request])
    check_result(request, found)
    return found


def test_the_best_passage_comes_first():
    search = LocalSearch(TOWNS)
    assert search.size == 4
    assert find(search, "Which town's flag shows a striped red kite?").titles[0] == "Velmora"
    assert find(search, "who founded Velmora").titles[0] == "Founding of Velmora"
    found = find(search, "Ansel Brodwick")
    assert found.titles == ("Ansel Brodwick", "Founding of Velmora")
    assert found.texts[0] == "A glassblower, born in Tarn Hollow."


def test_scores_are_bm25_of_the_weighted_columns():
    """Okapi BM25 by its formula, k1 1.2 and b 0.75, title twice."""
    texts = ["red kite", "red apple and green apple", "a blue boat", "a red boat on blue water"]
    search = LocalSearch([("", text) for text in texts])
    words = [text.split() for text in texts]
    mean = np.mean([len(each) for each in words])

    def score(term, index):
        inside = sum(term in each for each in words)
        idf = max(np.log((len(texts) - inside + 0.5) / (inside + 0.5)), 1e-6)
        count = words[index].count(term)
        return idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(words[index]) / mean))

    found = find(search, "apple water", 4)
    assert found.texts == (texts[1], texts[3])
    assert found.scores == pytest.approx([score("apple", 1), score("water", 3)])


def test_words_match_by_their_stems_and_in_any_case():
    search = LocalSearch(TOWNS)
    assert find(search, "KITE").titles == find(search, "kites").titles == ("Velmora", "Oskel")
    assert find(LocalSearch([("où", "l'été à Liège")]), "ETE liege").titles == ("où",)


def test_alike_passages_come_in_the_order_of_the_documents():
    same = [(f"{i}", "a red kite") for i in (3, 1, 2, 0)]
    assert find(LocalSearch(same), "kite").titles == ("3", "1", "2")


def test_no_more_than_asked_for_and_nothing_where_nothing_is():
    search = LocalSearch(TOWNS)
    assert len(find(search, "town", 1).titles) == 1
    for query in ("zebra", "", "  ", "?!*", "\0", "😀", "_"):
        assert find(search, query).titles == ()


def test_what_says_nothing_counts_only_alone():
    assert match_expression("What is the kite of the town?") == '"kite" OR "town"'
    assert match_expression("what is it") == '"what" OR "is" OR "it"'
    assert match_expression("a\"b' OR c*") == '"b" OR "c"'
    assert match_expression(" ".join(f"w{i}" for i in range(1000))).count("OR") == MAX_TERMS - 1


INJECTIONS = (
    '"', "'", "a OR", "NOT a", "a AND", "NEAR(a b", "title:kite", "{title body}: a", "kite*", "^kite", "- kite",
    '" OR 1=1 --', "'; DROP TABLE passages; --", "(((((", "a NEAR/3 b", "\\", "kite\0town", "passages", "rank:bm25(1)",
)  # fmt: skip


@pytest.mark.parametrize("query", INJECTIONS)
def test_nothing_in_a_query_is_an_operator(query):
    search = LocalSearch(TOWNS)
    find(search, query)
    assert find(search, "kite").titles == ("Velmora", "Oskel")


SHARED = LocalSearch(TOWNS)


@given(st.text(max_size=200) | st.text("\"'()*:^-+{}[] abORNEAR\0\ud800", max_size=60), st.integers(1, 5))
def test_any_text_is_a_query(query, limit):
    find(SHARED, query, limit)


def test_it_is_an_expert_of_a_pool():
    pool = ExpertPool({"Search": LocalSearch(TOWNS)})
    one, two = pool.answer([Search("kite"), Search("Brodwick")])
    assert (one.titles[0], two.titles[0]) == ("Velmora", "Ansel Brodwick")
    again = pool.answer([Search("kite")])
    assert again[0] is one
    assert pool.counters.cache_hits == 1
    with pytest.raises(InvalidData, match="does not answer"):
        LocalSearch(TOWNS).run([EstimateDepth(NOWHERE)])


def test_copies_find_the_same_and_fingerprints_tell_documents_apart():
    search = LocalSearch(TOWNS)
    twin = pickle.loads(pickle.dumps(search))
    assert find(twin, "red kite").titles == find(search, "red kite").titles
    assert twin.fingerprint == search.fingerprint == LocalSearch(iter(TOWNS)).fingerprint
    assert search.fingerprint != LocalSearch(TOWNS[::-1]).fingerprint
    search.close()
    assert find(search, "red kite").titles == find(twin, "red kite").titles


def test_threads_ask_at_the_same_time():
    search = LocalSearch(TOWNS)
    expected = find(search, "red kite").titles
    found = []

    def ask():
        found.extend(find(search, "red kite").titles == expected for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 400


# --- on the disk ------------------------------------------------------------------------------------------------------


def test_an_index_is_kept_in_one_file_and_shared(tmp_path):
    search = LocalSearch(TOWNS, cache=tmp_path / "index")
    (file,) = (tmp_path / "index").iterdir()
    assert file.name == f"{search.fingerprint}.sqlite"
    written = file.stat().st_mtime_ns, file.read_bytes()
    assert find(LocalSearch(TOWNS, cache=tmp_path / "index"), "kite").titles == ("Velmora", "Oskel")
    assert (file.stat().st_mtime_ns, file.read_bytes()) == written
    code = "import pickle, sys; from visenv.capabilities import Search; s = pickle.loads(sys.stdin.buffer.read())\n"
    code += "print(*s.run([Search('kite')])[0].titles)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(search), capture_output=True, check=True)
    assert done.stdout.split() == [b"Velmora", b"Oskel"]
    assert b"founded" not in pickle.dumps(search), "The file is shared; what is in it is not copied."
    assert len(list((tmp_path / "index").iterdir())) == 1


@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "other rows", "numbers", "a view"])
def test_a_broken_index_is_made_anew(tmp_path, damage):
    search = LocalSearch(TOWNS, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    search.close()
    data = file.read_bytes()
    if damage in ("other rows", "numbers", "a view"):
        connection = sqlite3.connect(file)
        if damage == "other rows":
            connection.execute("UPDATE passages SET body = 'A kite of lies.' WHERE title = 'Velmora'")
        elif damage == "numbers":
            connection.execute("UPDATE passages_content SET c0 = 7")
        else:
            connection.executescript("DROP TABLE passages; CREATE VIEW passages AS SELECT 'a' AS title, 'b' AS body")
        connection.commit()
        connection.close()
    else:
        file.write_bytes({"empty": b"", "noise": os.urandom(5000), "cut": data[: len(data) // 2]}[damage])
    twin = pickle.loads(pickle.dumps(search))
    with pytest.raises(InvalidData, match="gone or broken"):
        find(twin, "kite")
    again = LocalSearch(TOWNS, cache=tmp_path)
    assert find(again, "striped kite").texts[0] == TOWNS[0][1]
    assert find(twin, "striped kite").texts[0] == TOWNS[0][1]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidData, match="Cannot write an index"):
        LocalSearch(TOWNS, cache=tmp_path / "file" / "inner")
    LocalSearch(TOWNS, cache=tmp_path / "index").close()
    (index,) = (tmp_path / "index").iterdir()
    index.unlink()
    index.mkdir()
    with pytest.raises(InvalidData, match="Cannot write an index to .*directory"):
        LocalSearch(TOWNS, cache=tmp_path / "index")
    assert list((tmp_path / "index").iterdir()) == [index]


@pytest.mark.parametrize("name", ["Zürich", "İstanbul", "Straße", "Ångström", "Σίσυφος", "Đà", "naïve"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_letters_with_accents_are_found_however_they_are_written(name, form):
    library = LocalSearch([("one", f"Here is {name}."), ("two", unicodedata.normalize("NFD", f"There is {name}."))])
    assert find(library, unicodedata.normalize(form, name)).titles == ("one", "two")


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    (tmp_path / "b.md").write_text("\n# The Kite #\n\nIt flies.\n")
    (tmp_path / "a.txt").write_bytes("\ufeffAn été.".encode())
    rows = [{"title": "Row", "text": "one", "id": 3}, {"contents": '"Aaron"\nA name.\nSo.'}, {"text": "untitled"}]
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "c.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    for ignored in (".hidden.txt", "picture.png", "empty.txt", ".git/d.txt"):
        (tmp_path / ignored).parent.mkdir(exist_ok=True)
        (tmp_path / ignored).write_bytes(b" " if ignored == "empty.txt" else b"ignored")
    assert list(read_folder(tmp_path)) == [
        Document("a", "An été."),
        Document("The Kite", "\n# The Kite #\n\nIt flies.\n"),
        Document("Row", "one"),
        Document("Aaron", "A name.\nSo."),
        Document("", "untitled"),
    ]
    assert find(LocalSearch(tmp_path), "fly").titles == ()
    assert find(LocalSearch(str(tmp_path)), "flies").titles == ("The Kite",)


def test_a_preset_names_a_folder_and_a_cache(tmp_path):
    (tmp_path / "a.txt").write_text("A red kite.")
    preset = {"experts": [{"expert": "search", "documents": str(tmp_path), "cache": str(tmp_path / "index")}]}
    search, *rest = presets.make({**preset, "rest": "classical"})
    assert find(search, "kite").titles == ("a",)
    assert [expert.name for expert in rest] == ["classical"]
    assert len(list((tmp_path / "index").iterdir())) == 1


def broken_folders(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("secret")
    for name in (
        "none",
        "link",
        "folder",
        "dangling",
        "pipe",
        "latin",
        "binary",
        "json",
        "deep",
        "list",
        "untyped",
        "surrogate",
    ):
        (tmp_path / name).mkdir()
    yield tmp_path / "missing", "there is no"
    yield outside, "there is no"
    yield tmp_path / "none", "there are none"
    (tmp_path / "link" / "a.txt").symlink_to(outside)
    yield tmp_path / "link", "leads out"
    (tmp_path / "folder" / "a.txt").write_text("fine")
    (tmp_path / "folder" / "linked").symlink_to(tmp_path / "link")
    yield tmp_path / "folder", "leads out.*copy the folder"
    (tmp_path / "dangling" / "a.txt").symlink_to(tmp_path / "dangling" / "b")
    yield tmp_path / "dangling", "Cannot read"
    os.mkfifo(tmp_path / "pipe" / "a.txt")
    yield tmp_path / "pipe", "a pipe or a device"
    (tmp_path / "latin" / "a.txt").write_bytes(b"\xe9t\xe9")
    yield tmp_path / "latin", "byte 0 is none"
    (tmp_path / "binary" / "a.md").write_bytes(b"a\0b")
    yield tmp_path / "binary", "to be a text"
    for name, line in {
        "json": "{'a': 1}",
        "deep": "[" * 100_000,
        "list": "[1]",
        "untyped": '{"title": 3, "text": "a"}',
        "surrogate": '{"text": "\\ud800"}',
    }.items():
        (tmp_path / name / "a.jsonl").write_text(f'{{"text": "fine"}}\n{line}\n')
        yield tmp_path / name, "line 2"


def test_a_hostile_folder_is_refused_with_what_is_wrong(tmp_path):
    for folder, message in broken_folders(tmp_path):
        with pytest.raises(InvalidData, match=message):
            LocalSearch(folder)


def test_a_link_to_another_place_inside_is_left_alone(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.txt").write_text("A red kite.")
    (tmp_path / "again").symlink_to(tmp_path / "inner")
    (tmp_path / "inner" / "up").symlink_to(tmp_path)
    assert LocalSearch(tmp_path).size == 1


def test_a_folder_that_cannot_be_listed_is_said(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    # Root may list everything.
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InvalidData, match="Cannot list .*closed.*Permission denied"):
        LocalSearch(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names that are no text are POSIX's")
def test_a_name_that_is_no_text_is_said_as_text(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.txt"), "w") as file:
        file.write("fine")
    with pytest.raises(InvalidData, match="title to be a text") as caught:
        LocalSearch(tmp_path)
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_FILES", 2), ("MAX_BYTES", 20), ("MAX_TEXT_BYTES", 5), ("MAX_LINE_BYTES", 12)]
)
def test_what_is_read_is_bounded(tmp_path, monkeypatch, limit, value):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("red kite")
    (tmp_path / "d.jsonl").write_text('{"text": "fine"}\n')
    assert LocalSearch(tmp_path).size == 4
    monkeypatch.setattr(documents, limit, value)
    with pytest.raises(InvalidData, match=f"at most {value}"):
        LocalSearch(tmp_path)


def test_the_number_of_passages_is_bounded(monkeypatch):
    monkeypatch.setattr(documents, "MAX_PASSAGES", 3)
    with pytest.raises(InvalidData, match="at most 3 passages"):
        LocalSearch(TOWNS)


@pytest.mark.parametrize("value", [[], [("a", "  ")], [("a", "b", "c")], ["text"], [("a", 3)], [{"body": "x"}], [None]])
def test_what_are_no_documents_is_refused(value):
    with pytest.raises(InvalidData, match="Expected"):
        LocalSearch(value)


def test_a_long_document_becomes_passages_of_whole_paragraphs():
    paragraphs = ["first " * 100, "second " * 100, "third " * 20, "x" * 2500]
    parts = [text for title, text in passages([("Long", "\n\n".join(paragraphs))])]
    assert max(map(len, parts)) <= PASSAGE_CHARACTERS
    assert [part.split()[0][:6] for part in parts] == ["first", "second", "xxxxxx", "xxxxxx", "xxxxxx"]
    assert "third" in parts[1]
    assert sum(part.count("x") for part in parts) == 2500


@given(st.lists(st.text("ab \n\t\r", max_size=40).map(lambda text: text * 30), max_size=4))
def test_no_word_is_lost_between_passages(texts):
    parts = [text for _, text in passages([("t", "\n\n".join(texts))])]
    assert all(0 < len(part) <= PASSAGE_CHARACTERS for part in parts)
    assert "".join("".join(parts).split()) == "".join("".join(texts).split())
