"""Programs that try to get out of their sandbox, to take it over, to take too much, or to leave something behind."""

import os
import socket
from dataclasses import replace

import pytest
from sandbox_programs import CONFINED, ask, assert_nothing_is_left, idle_servers, needs_bubblewrap, run

from visenv.experts.sandbox import Sandbox

pytestmark = needs_bubblewrap
SYSCALLS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    return result if result >= 0 else -ctypes.get_errno()
"""


@pytest.fixture(scope="module")
def sandbox():
    made = Sandbox("bubblewrap", CONFINED, workers=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hasty():
    """With little patience, for what ends by the clock."""
    made = Sandbox("bubblewrap", replace(CONFINED, seconds=0.3), workers=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def servers(sandbox, hasty):
    return idle_servers()


@pytest.fixture(autouse=True)
def _nothing_is_left(servers):
    yield
    assert_nothing_is_left(servers)


# --- processes and signals --------------------------------------------------------------------------------------------


def test_other_processes_cannot_be_seen(sandbox):
    code = "import os; print(os.listdir('/proc'), os.getpid(), os.getppid(), os.getuid())"
    assert run(sandbox, code).text == "[] 1 0 1000"


def test_a_fork_bomb_goes_off_inside(hasty):
    code = "import os\nwhile True:\n try: os.fork()\n except OSError: pass"
    assert "was stopped" in run(hasty, code).error


def test_processes_are_counted(sandbox):
    code = """
import os, time
made = 0
try:
    while True:
        if not os.fork():
            time.sleep(9); os._exit(0)
        made += 1
except BlockingIOError:
    print(made)
"""
    assert run(sandbox, code).text == "8"


def test_threads_are_counted(sandbox):
    code = """
import threading, time
made = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
        made += 1
except RuntimeError:
    print(made)
"""
    assert run(sandbox, code).text == "8"


@pytest.mark.parametrize(
    "leave",
    [
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        "import os, time\nif not os.fork(): os.setsid(); os.fork(); time.sleep(600)",
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'while 1: pass'], start_new_session=True)",
        "import os, time\nif not os.fork():\n os.closerange(0, 99)\n while True: time.sleep(1)",
    ],
)
def test_what_is_left_running_ends_with_the_program(sandbox, leave):
    assert run(sandbox, leave).error == ""


def test_a_thread_that_somebody_waits_for_is_waited_for(sandbox):
    code = "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('done'))).start()"
    assert run(sandbox, code).text == "done"


@pytest.mark.parametrize("status", [0, 7])
def test_leaving_at_once_is_an_end_like_any_other(sandbox, status):
    ran = run(sandbox, f"import os; print('before', flush=True); os._exit({status})")
    assert ran.text == "before"
    assert ran.error == ("The program was stopped: it ended with the status 7." if status else "")


@pytest.mark.parametrize(
    "target",
    [
        "os.kill(-1, 9)",
        "os.kill(1, 9)",
        "os.kill(0, 9)",
        "os.killpg(0, 9)",
        "os.kill(os.getppid(), 9)",
        "os.kill(2, 9)",
    ],
)
def test_signals_reach_nobody_outside(sandbox, target):
    ran = run(sandbox, f"import os\ntry: {target}\nexcept OSError: pass\nprint('still here')")
    assert ran.text == "still here" or "SIGKILL" in ran.error


def test_ignored_signals_save_nobody(sandbox):
    code = """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
"""
    assert "processor time" in run(sandbox, code).error


def test_an_endless_loop_is_ended(sandbox):
    assert run(sandbox, "while True: pass").error == "The program was stopped: it used more than 1 s of processor time."


@pytest.mark.parametrize(
    "wait",
    [
        "import time; time.sleep(600)",
        "import os; os.read(os.pipe()[0], 1)",
        "import os, signal\nif not (child := os.fork()): os.kill(os.getpid(), signal.SIGSTOP)\nos.waitpid(child, 0)",
    ],
)
def test_waiting_for_ever_is_ended(hasty, wait):
    assert run(hasty, wait).error == "The program was stopped: it ran for more than 0.3 s."


def test_processor_time_of_many_is_bounded_by_the_clock(hasty):
    code = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    assert "was stopped" in run(hasty, code).error


def test_a_crash_is_an_error(sandbox):
    assert "SIGSEGV" in run(sandbox, "import ctypes; ctypes.string_at(0)").error


def test_another_program_in_its_place_is_as_confined(sandbox):
    inner = "import os; print(os.listdir('/'), os.getuid()); print(os.path.exists('/etc/passwd'), os.listdir('/proc'))"
    ran = run(sandbox, f"import os, sys; os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', {inner!r}])")
    assert ran.text.endswith("1000\nFalse []")
    code = "import socket; socket.socket()"
    ran = run(sandbox, f"import os, sys; os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', {code!r}])")
    assert "PermissionError" in ran.text


def test_there_is_no_shell(sandbox):
    assert run(sandbox, "import os; print(os.system('id'))").text not in ("0", "")
    assert "FileNotFoundError" in run(sandbox, "import subprocess; subprocess.run(['ls', '/'])").error


# --- memory and output ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "grow",
    ["bytearray(2**30)", "[bytearray(2**20) for _ in range(10**4)]", "'x' * 2**40", "__import__('numpy').ones(2**28)"],
)
def test_a_memory_bomb_is_a_memory_error(sandbox, grow):
    assert "MemoryError" in run(sandbox, grow).error


def test_memory_of_several_processes_counts_together(sandbox):
    code = "import os, time\nos.fork(), os.fork()\nkept = bytearray(60 * 2**20)\ntime.sleep(9)"
    assert "used more than 128 MiB of memory" in run(sandbox, code).error


def test_memory_that_several_have_is_counted_once(sandbox):
    code = """
import os, time
kept = bytearray(b"x") * (60 * 2**20)
for _ in range(3):
    if not os.fork():
        sum(kept[::4096]); time.sleep(0.3); os._exit(0)
for _ in range(3): os.wait()
print("done")
"""
    ran = run(sandbox, code)
    assert (ran.text, ran.error) == ("done", "")


@pytest.mark.parametrize("number", [319, 29, 68, 240])
def test_memory_that_no_limit_counts_cannot_be_had(sandbox, number):
    assert run(sandbox, SYSCALLS + f"print(call({number}, 0, 2**20, 0o1600))").text == "-1"


def test_limits_cannot_be_raised(sandbox):
    code = """
import resource
for name in ("CPU", "AS", "NPROC", "FSIZE", "NOFILE"):
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("raised", name)
    except ValueError:
        pass
"""
    assert run(sandbox, code).text == ""


@pytest.mark.parametrize("target", ["sys.stdout.write", "sys.stderr.write", "lambda text: os.write(1, text.encode())"])
def test_endless_output_is_cut_and_ended(sandbox, target):
    ran = run(sandbox, f"import os, sys\nsay = {target}\nwhile True: say('x' * 10000)")
    assert "was stopped" in ran.error
    assert ran.text == "x" * CONFINED.text_chars + "\n[...]"


def test_output_that_is_no_text_becomes_text(sandbox):
    ran = run(sandbox, r"import os; os.write(1, b'\xff\xfe\x00\x1b[31mred\x07\xc3\xa9 \xed\xa0\x80'); print('\ud800')")
    assert ran.text.encode()
    assert not any(ord(letter) < 32 for letter in ran.text)
    assert "é" in ran.text


@pytest.mark.parametrize(
    "error",
    [
        "ValueError('x' * 10**7)",
        "type('E' * 10**6, (Exception,), {})()",
        "type('E', (Exception,), {'__str__': lambda self: 1 / 0})()",
        "type('E', (BaseException,), {'__str__': lambda self: __import__('os')._exit(0)})()",
        "SystemExit('y' * 10**6)",
        "KeyboardInterrupt()",
        "SyntaxError('z' * 10**6, ('program.py', 10**9, 1, ''))",
    ],
)
def test_an_exception_of_any_kind_is_cut_and_harms_nobody(sandbox, error):
    assert len(run(sandbox, f"raise {error}").error) < 2300


def test_recursion_without_end_is_an_error(sandbox):
    assert "RecursionError" in run(sandbox, "def f(): f()\nf()").error
    assert run(sandbox, "(" * 100_000).error
    assert run(sandbox, "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()").error


def test_what_is_written_to_open_files_forges_nothing(sandbox):
    code = """
import os
for number in range(3, 300):
    try: os.write(number, b"\\x10\\x00\\x00\\x00{\\"end\\": \\"\\"}" * 99)
    except OSError: pass
os.closerange(0, 300)
"""
    assert run(sandbox, code).pixels is None


# --- the system -------------------------------------------------------------------------------------------------------


def test_nothing_listens_and_nothing_can_be_reached(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (
            "PermissionError"
            in run(sandbox, f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)").error
        )
    for kind in (
        "AF_INET, socket.SOCK_STREAM",
        "AF_INET, socket.SOCK_DGRAM",
        "AF_INET6",
        "AF_UNIX",
        "AF_NETLINK, socket.SOCK_RAW",
        "AF_PACKET, socket.SOCK_RAW",
    ):
        assert "PermissionError" in run(sandbox, f"import socket; socket.socket(socket.{kind})").error
    # The kernel's buffers of these would be memory that no limit counts.
    assert "PermissionError" in run(sandbox, "import socket; socket.socketpair()").error
    assert "Error" in run(sandbox, "import urllib.request; urllib.request.urlopen('http://127.0.0.1')").error
    assert "gaierror" in run(sandbox, "import socket; socket.getaddrinfo('localhost', 80)").error


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mount", "b'none', b'/folder', b'tmpfs', 0, 0"),
        ("umount2", "b'/proc', 2"),
        ("unshare", "0x10000000"),
        ("setns", "0, 0"),
        ("chroot", "b'/folder'"),
        ("pivot_root", "b'.', b'.'"),
        ("ptrace", "16, 1, 0, 0"),
        ("process_vm_readv", "1, 0, 0, 0, 0, 0"),
        ("keyctl", "0, -3, 0"),
        ("bpf", "0, 0, 0"),
        ("io_uring_setup", "1, 0"),
        ("userfaultfd", "0"),
        ("perf_event_open", "0, 0, 0, 0, 0"),
        ("open_by_handle_at", "0, 0, 0"),
        ("init_module", "0, 0, 0"),
        ("reboot", "0, 0, 0"),
        ("personality", "0x40000"),
        ("fsopen", "b'tmpfs', 0"),
    ],
)
def test_system_calls_that_lead_outside_are_refused(sandbox, name, arguments):
    from visenv.experts.sandbox.inside.seccomp import DENIED

    number = DENIED[name][os.uname().machine == "aarch64"]
    assert run(sandbox, SYSCALLS + f"print(call({number}, {arguments}))").text == "-1"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls of x86_64")
def test_system_calls_by_other_ways_are_refused(sandbox):
    code = SYSCALLS + "print(call(56, 0x10000011, 0, 0, 0, 0), call(435, 0, 0), call(0x40000000 + 39))"
    assert run(sandbox, code).text == "-1 -38 -38"


@pytest.mark.parametrize(
    "call", ["setuid(0)", "setgid(0)", "setgroups([0])", "setresuid(0, 0, 0)", "chown('input.png', 0, 0)"]
)
def test_nobody_becomes_somebody_else(sandbox, call):
    assert "Error" in run(sandbox, f"import os; os.{call}").error


def test_there_are_no_capabilities_to_use(sandbox):
    code = """
head, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc.capget(head, data)
print(list(data))
"""
    assert run(sandbox, SYSCALLS + code).text == "[0, 0, 0, 0, 0, 0]"
    assert run(sandbox, SYSCALLS + "print(libc.prctl(39, 0, 0, 0, 0), libc.prctl(23, 21, 0, 0, 0))").text == "1 0"


def test_the_environment_is_empty_of_ours(sandbox, monkeypatch):
    monkeypatch.setenv("VISENV_SECRET", "do not tell")
    started_later = Sandbox("bubblewrap", CONFINED, workers=1)
    ran = run(started_later, "import os; print(sorted(os.environ), os.path.exists('/proc/1/environ'))")
    started_later.close()
    assert "VISENV_SECRET" not in ran.text
    assert ran.text.startswith("['HOME', 'LANG'")
    assert ran.text.endswith("False")


def test_terminals_and_disks_are_not_there(sandbox):
    assert run(sandbox, "import os; print(sorted(os.listdir('/dev')))").text == "['null', 'urandom']"


# --- other programs ---------------------------------------------------------------------------------------------------


def test_the_next_program_finds_nothing_of_this_one(sandbox):
    spoil = """
import builtins, cv2, json, numpy, os, sys, random
open("note.txt", "w").write("for the next one")
numpy.mean = lambda *_: "spoiled"
builtins.len = lambda _: 42
sys.modules["cv2"] = None
sys.path.insert(0, "/folder")
os.environ["LEFT"] = "behind"
json.secret = ["left" + "behind"] * 1000
random.seed(5)
numpy.random.seed(5)
"""
    look = """
import gc, os, sys, random, numpy, json
print(os.listdir("."), numpy.mean([1, 3]), len([1]))
print("LEFT" in os.environ, hasattr(json, "secret"), sys.path[0] == "/folder")
import cv2
word = "left" + "behind"
own = [word] * 999
lists = [each for each in gc.get_objects() if type(each) in (list, tuple) and len(each) > 99]
print(sum(type(each[0]) is str and word in each for each in lists))
print(random.random(), numpy.random.random())
"""
    before = run(sandbox, look)
    assert run(sandbox, spoil).error == ""
    after = run(sandbox, look)
    assert after.error == ""
    assert after.text == before.text
    assert after.text.startswith("['input.png'] 2.0 1\nFalse False False\n1\n")


def test_programs_at_the_same_time_do_not_meet():
    both = Sandbox("bubblewrap", CONFINED, workers=2)
    write = "import time\nopen('mine.txt', 'w').write('x')\ntime.sleep(0.6)\nimport os; print(os.listdir('.'))"
    look = """
import os, time
time.sleep(0.3)
print(os.listdir('.'), os.listdir('/'), os.listdir('/proc'))
try: os.kill(-1, 9)
except OSError: pass
"""
    first, second = both.run([ask(write), ask(look)])
    both.close()
    assert sorted(eval(first.text)) == ["input.png", "mine.txt"]
    assert "mine.txt" not in second.text
