"""The expert that runs programs: what it answers, how fast, and what is left of it."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_programs import ENDLESS, ask, descendants, needs_bubblewrap, run, sandboxed

from visenv.capabilities import GroundPhrase, Ran, View
from visenv.errors import InvalidData, MissingDependency
from visenv.experts.sandbox import DOCKERFILE, Bubblewrap, Docker, Limits, Sandbox, Subprocess, make
from visenv.experts.sandbox.inside import frames
from visenv.experts.sandbox.worker import SandboxLost, Worker
from visenv.experts_making import make_experts
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels

INVERT = "import cv2\ncv2.imwrite('output.png', 255 - cv2.imread('input.png'))\nprint('done')"


@pytest.fixture(scope="module")
def sandbox():
    made = Sandbox("bubblewrap", workers=2)
    yield made
    made.close()


def picture(seed=0, height=20, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- what it answers --------------------------------------------------------------------------------------------------


@needs_bubblewrap
def test_a_program_reads_and_writes_pixels_as_they_are(sandbox):
    ran = run(sandbox, INVERT, picture())
    assert (ran.text, ran.error) == ("done", "")
    assert np.array_equal(ran.pixels, 255 - picture())


@needs_bubblewrap
@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "PNG"])
def test_files_are_what_their_names_say(sandbox, suffix):
    code = f"""
from PIL import Image
image = Image.open('in.{suffix}')
print(image.format)
image.save('out.{suffix}', lossless=True)
"""
    ran = run(sandbox, code, picture(), source=f"in.{suffix}", target=f"out.{suffix}")
    assert ran.text == suffix.upper()
    assert np.array_equal(ran.pixels, picture())


@needs_bubblewrap
def test_a_program_that_writes_no_image_is_no_error(sandbox):
    assert run(sandbox, "print(1)") == Ran(None, "1", "")


@needs_bubblewrap
def test_an_exception_is_told_with_the_lines_of_the_program(sandbox):
    code = "import json\n\ndef read(text):\n    return json.loads(text)\n\nread('{')\n"
    error = run(sandbox, code).error
    assert error.splitlines()[:2] == ["line 6: read('{')", "line 4: return json.loads(text)"]
    assert error.splitlines()[2].startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert run(sandbox, "x = 1\nif x\n").error.splitlines() == ["line 2: if x", "SyntaxError: expected ':'"]


@needs_bubblewrap
def test_an_image_is_kept_when_the_program_fails_after_it(sandbox):
    ran = run(sandbox, INVERT + "\n1 / 0", picture())
    assert "ZeroDivisionError" in ran.error
    assert np.array_equal(ran.pixels, 255 - picture())


@needs_bubblewrap
def test_leaving_with_words_is_an_error_and_without_is_none(sandbox):
    assert run(sandbox, "import sys; sys.exit('no image')").error == "no image"
    assert run(sandbox, "import sys; sys.exit(0)").error == ""
    assert "status 3" in run(sandbox, "import sys; sys.exit(3)").error


@needs_bubblewrap
def test_results_name_no_place_of_this_machine_and_are_the_same_each_time(sandbox):
    code = """
import cv2, numpy, os, random, sys, traceback
print(object(), hash("a word"), random.random(), numpy.random.random(), numpy.random.default_rng(0).random())
print(sys.executable, os.__file__, numpy.__file__, sys.path, os.getcwd(), os.uname().nodename, __file__, __name__)
try:
    cv2.imread(5)
except Exception:
    traceback.print_exc()
"""
    texts = {run(sandbox, code).text for _ in range(4)}
    assert len(texts) == 1
    text = texts.pop()
    for place in (str(Path.home()), os.uname().nodename, sys.prefix, str(Path(__file__).parent.parent)):
        assert place not in text
    assert "object at 0x...>" in text


@needs_bubblewrap
@given(st.text(max_size=60))
@settings(max_examples=20, deadline=None)
def test_any_text_that_is_printed_comes_back(sandbox, text):
    kept = "".join(
        letter if letter == "\n" or letter == "\t" or letter.isprintable() else "" for letter in text
    ).strip()
    printed = run(sandbox, f"print({kept!r})").text
    assert printed == kept


@needs_bubblewrap
def test_a_program_that_is_no_program_is_an_error(sandbox):
    assert "longer than 1024 KiB" in run(sandbox, "#" * (2**20 + 1)).error
    assert run(sandbox, "").error == ""
    assert "null bytes" in run(sandbox, "x = 1\0").error
    assert run(sandbox, "print('\ud800')").text


@needs_bubblewrap
def test_an_image_that_its_format_cannot_hold_is_an_error(sandbox):
    wide = np.zeros((1, 20_000, 3), np.uint8)
    assert "cannot be written as in.webp" in run(sandbox, INVERT, wide, source="in.webp").error


@needs_bubblewrap
def test_what_it_does_not_answer_is_refused(sandbox):
    pixels = picture()
    with pytest.raises(InvalidData, match="sandbox does not answer GroundPhrase"):
        sandbox.run([GroundPhrase(View(pixels, Provenance(RootPixels(pixels))), "cat")])


# --- many, and fast ---------------------------------------------------------------------------------------------------


@needs_bubblewrap
def test_a_batch_is_answered_in_order(sandbox):
    asked = [ask(f"import time\ntime.sleep({0.03 * (n % 3)})\nprint({n})") for n in range(8)]
    assert [ran.text for ran in sandbox.run(asked)] == [str(n) for n in range(8)]


@needs_bubblewrap
def test_programs_of_a_batch_run_side_by_side(sandbox):
    sandbox.run([ask("pass")] * 2)
    started = time.monotonic()
    sandbox.run([ask("import time\ntime.sleep(1)")] * 2)
    assert time.monotonic() - started < 1.9


@needs_bubblewrap
def test_a_call_takes_less_than_a_tenth_of_a_second_after_the_first(sandbox):
    run(sandbox, INVERT, picture(0, 256, 256))
    times = []
    for seed in range(1, 21):
        started = time.monotonic()
        run(sandbox, INVERT, picture(seed, 256, 256))
        times.append(time.monotonic() - started)
    # The least of them: this machine may have others to serve.
    assert min(times) < 0.1


@needs_bubblewrap
def test_several_threads_may_ask(sandbox):
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: run(sandbox, f"print({n})").text})) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: str(n) for n in range(6)}


@needs_bubblewrap
def test_it_lives_in_a_pool_and_behind_its_name():
    experts = make_experts({"RunCode": "sandbox"}, lambda _: None)
    pool = ExpertPool(experts)
    first, again, other = pool.answer([ask(INVERT, picture()), ask(INVERT, picture()), ask("1 / 0")])
    assert first is again
    assert not first.pixels.flags.writeable
    assert other.error.endswith("ZeroDivisionError: division by zero")
    assert make()[0] is experts["RunCode"]


# --- what is left -----------------------------------------------------------------------------------------------------


@needs_bubblewrap
def test_close_leaves_no_process_and_a_later_request_starts_anew():
    before = sandboxed()
    made = Sandbox("bubblewrap", workers=2)
    made.run([ask("pass")] * 2)
    assert len(sandboxed()) > len(before)
    made.close()
    made.close()
    assert sandboxed() == before
    assert run(made, "print(1)").text == "1"
    del made
    assert _settles(lambda: sandboxed() == before)


@needs_bubblewrap
def test_closing_ends_a_program_that_runs():
    before = sandboxed()
    made = Sandbox("bubblewrap", workers=1)
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(made.run([ask(ENDLESS)])))
    thread.start()
    time.sleep(0.3)
    made.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert not isinstance(answers[0], Ran)
    assert sandboxed() == before


@needs_bubblewrap
def test_nothing_outlives_a_process_that_is_killed():
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from sandbox_programs import ask, descendants, run, ENDLESS
import os, threading
from visenv.experts.sandbox import Sandbox
made = Sandbox("bubblewrap", workers=2)
made.run([ask("pass")] * 2)
threading.Thread(target=made.run, args=([ask(ENDLESS)],)).start()
import time
time.sleep(0.3)
print(*descendants(os.getpid()), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        processes = [int(word) for word in parent.stdout.readline().split()]
        assert len(processes) > 4
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert _settles(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))


@needs_bubblewrap
def test_a_sandbox_that_is_lost_is_an_error_of_its_own_and_the_next_call_starts_another():
    before = set(sandboxed())
    made = Sandbox("bubblewrap", Limits(seconds=5), workers=1)
    first = min(set(sandboxed()) - before)
    thread = threading.Timer(0.4, os.kill, (first, signal.SIGKILL))
    thread.start()
    (answer,) = made.run([ask("import time; time.sleep(3)")])
    thread.join()
    assert "sandbox" in str(answer)
    assert not isinstance(answer, Ran)
    assert run(made, "print(2)").text == "2"
    made.close()


@needs_bubblewrap
def test_copies_start_sandboxes_of_their_own(sandbox):
    for other in (pickle.loads(pickle.dumps(sandbox)), copy.deepcopy(sandbox)):
        assert other.fingerprint == sandbox.fingerprint
        assert run(other, "print(3)").text == "3"
        other.close()
    assert run(sandbox, "print(4)").text == "4"


@needs_bubblewrap
def test_a_forked_process_starts_sandboxes_of_its_own(sandbox):
    run(sandbox, "pass")
    code = "import os; print(os.getpid())"
    end, start = os.pipe()
    child = os.fork()
    if not child:
        os.write(start, run(sandbox, code).text.encode())
        sandbox.close()
        os._exit(0)
    os.close(start)
    assert os.read(end, 100) == b"1"
    os.close(end)
    assert os.waitpid(child, 0)[1] == 0
    assert run(sandbox, code).text == "1"


# --- where it runs ----------------------------------------------------------------------------------------------------


@needs_bubblewrap
def test_limits_and_libraries_are_in_the_fingerprint(sandbox):
    less = Sandbox("bubblewrap", {"seconds": 3, "memory_mb": 300}, workers=2)
    fewer = Sandbox("bubblewrap", workers=1, modules=("numpy",))
    assert len({sandbox.fingerprint, less.fingerprint, fewer.fingerprint}) == 3
    assert less.limits == Limits(seconds=3, memory_mb=300)
    assert sandbox.versions["numpy"] == np.__version__
    assert "ModuleNotFoundError" in run(fewer, "import cv2").error
    less.close(), fewer.close()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"backend": "chroot"}, "Expected backend to be one of auto, bubblewrap, docker, subprocess, but got 'chroot'"),
        ({"backend": "subprocess"}, "unsafe=True"),
        ({"limits": {"second": 3}}, "Expected limits by name .*but got second"),
        ({"limits": {"seconds": 0}}, "Expected seconds to be a number above 0 and at most 600, but got 0"),
        ({"limits": {"files": 1.5}}, "Expected files to be a whole number"),
        ({"workers": 0}, "Expected workers to be a whole number of at least 1, but got 0"),
        ({"modules": ("no_such_module",), "backend": "bubblewrap"}, "Expected modules that are installed here"),
    ],
)
def test_a_users_mistake_is_said(keywords, message):
    if keywords.get("backend") == "bubblewrap" and Bubblewrap().problem():
        keywords = {**keywords, "backend": Bubblewrap(keywords["modules"])}
    with pytest.raises((InvalidData, MissingDependency), match=message):
        Sandbox(**keywords)


def test_without_any_sandbox_nothing_runs_and_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match=r"needs a sandbox.*bubblewrap.*[Dd]ocker.*unsafe=True"):
        Sandbox()


@needs_bubblewrap
def test_a_bubblewrap_that_does_not_work_is_found_out_by_running_it(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: Creating new namespace failed: Operation not permitted' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    with pytest.raises(MissingDependency, match="bubblewrap does not work here: bwrap: Creating new namespace failed"):
        Sandbox("bubblewrap")


@needs_bubblewrap
def test_those_who_insist_run_programs_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    before = descendants(os.getpid())
    unsafe = Sandbox(unsafe=True, workers=1, limits={"seconds": 5, "cpu_seconds": 1})
    assert unsafe.backend == Subprocess()
    assert np.array_equal(run(unsafe, INVERT, picture()).pixels, 255 - picture())
    assert "processor time" in run(unsafe, "while True: pass").error
    assert run(unsafe, "import os, time\nif not os.fork(): os.setsid(); time.sleep(60)").error == ""
    folder = Path(run(unsafe, "import os; print(os.getcwd())").text)
    assert not folder.exists()
    assert "ended the sandbox" in run(unsafe, "import os; os.kill(os.getppid(), 9)").error
    assert run(unsafe, "print(1)").text == "1"
    unsafe.close()
    assert _settles(lambda: set(descendants(os.getpid())) <= set(before))


def test_a_container_is_told_to_allow_nothing():
    command = Docker("my-image").command(Limits(memory_mb=100, folder_mb=20, files=9, processes=5), 17)
    assert command[:2] == ["docker", "run"]
    for option in (
        "--rm",
        "--read-only",
        "--network=none",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--user=65534:65534",
        "--pids-limit=9",
        "--memory=376m",
        "--memory-swap=376m",
        "--name=visenv-sandbox-17",
        "--tmpfs=/folder:rw,noexec,nosuid,nodev,mode=1777,size=20m,nr_inodes=10",
    ):
        assert option in command
    assert command[command.index("my-image") - 1] == "--entrypoint=python"
    assert not any(word.startswith(("--privileged", "--volume=/:", "-v")) for word in command)
    assert "opencv-python-headless" in DOCKERFILE


def test_docker_says_what_it_lacks(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "docker is not installed" in Docker().problem()
    if os.name == "posix":
        fake = tmp_path / "docker"
        fake.write_text('#!/bin/sh\n[ "$1" = version ] && exit 0\necho "No such image" >&2\nexit 1\n')
        fake.chmod(0o755)
        assert "docker has no image 'visenv-sandbox'" in Docker().problem()
        fake.write_text('#!/bin/sh\necho "Cannot connect to the Docker daemon" >&2\nexit 1\n')
        assert "docker does not answer: Cannot connect" in Docker().problem()
        fake.write_text("#!/bin/sh\nexit 0\n")
        assert Docker().problem() == ""


# --- frames, which come from where programs are -----------------------------------------------------------------------


def reader(data):
    def read(size):
        nonlocal data
        if len(data) < size:
            raise EOFError
        part, data = data[:size], data[size:]
        return part

    return read


HEADS = st.dictionaries(st.text(max_size=5).filter(lambda name: name != "sizes"), st.integers(), max_size=3)


@given(HEADS, st.lists(st.binary(max_size=20), max_size=3))
def test_frames_come_back(head, parts):
    assert frames.unpack(reader(frames.pack(head, parts)), [20] * len(parts)) == (head, parts)


@given(st.binary(max_size=200))
def test_what_is_no_frame_is_refused(data):
    with pytest.raises((ValueError, EOFError)):
        frames.unpack(reader(data), (10, 10, 10))


def test_a_part_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="part"):
        frames.unpack(reader(frames.pack({}, (b"12345",))), (4,))


class Babbling(Subprocess):
    """A server that says nonsense."""

    def command(self, limits, token):
        return [sys.executable, "-c", "import sys; sys.stdout.write('nonsense' * 99)"]


@pytest.mark.skipif(os.name != "posix", reason="pipes that do not block")
def test_a_server_that_talks_nonsense_is_lost():
    worker = Worker(Babbling(), Limits(), 1)
    with pytest.raises(SandboxLost):
        worker.wait()
    worker.close()


def _settles(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
