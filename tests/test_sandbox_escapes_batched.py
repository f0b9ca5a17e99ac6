"""More programs that try to get out of their sandbox or to take too much: in one batch, each looked at by itself."""

import io
import os
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from sandbox_programs import ask, needs_bubblewrap, png_head

from visenv.errors import InvalidImage
from visenv.experts.sandbox import Limits, Sandbox
from visenv.experts.sandbox.pictures import MAX_PARTS, read_picture
from visenv.images import load_image

LIMITS = Limits(seconds=10, cpu_seconds=2, memory_mb=128, processes=8, folder_mb=8, files=50, text_chars=2000)
C = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    return result if result >= 0 else -ctypes.get_errno()
"""
KEEP_ONE_PAGE = """
size = 2**20
for _ in range(200):
    place = libc.mmap(None, size, 3, SHARED, file, 0)
    if place == ctypes.c_void_p(-1).value:
        print("refused", ctypes.get_errno())
        break
    libc.memset(place, 1, size)
    libc.munmap(place + 4096, size - 4096)
else:
    print("kept")
"""
SIXTY_FOUR = os.uname().machine == "x86_64" if os.name == "posix" else False
PROGRAMS = {
    # One page that stays mapped keeps all of the memory, and shows as one.
    "memory of a name": C + "file = -1" + KEEP_ONE_PAGE.replace("SHARED", "0x21"),
    "memory of a device": C + "file = os.open('/dev/zero', os.O_RDWR)" + KEEP_ONE_PAGE.replace("SHARED", "1"),
    "python's shared memory": "import mmap; mmap.mmap(-1, 4096)",
    "memory of one's own": "import mmap; print(len(mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE)))",
    # A page in a pipe keeps the two MiB that it is a part of.
    "pages in pipes": C + "print(call(278, os.pipe()[1], 0, 0, 0), call(206, 256, 0))",
    "events of the machine": C + "print(call(294, 0), libc.inotify_init1(0))",
    "where mounts come from": C + "print(call(457, 0, 0, 0, 0), call(458, 0, 0, 0, 0))",
    "calls of the future": C + "print(call(470, 0), call(900, 0))",
    "calls of 32 bits": """
import ctypes, mmap
page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE, prot=7)
page.write(bytes.fromhex("b814000000cd80c3"))
print(ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
""",
    # Of what all see, such as the files of libraries, that would be a word to the program beside it.
    "words by locks": """
import fcntl, numpy, os
file = os.open(numpy.__file__, os.O_RDONLY)
for say in (
    lambda: fcntl.flock(file, fcntl.LOCK_EX),
    lambda: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB),
    lambda: fcntl.fcntl(os.open("/libraries", os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_ACCESS),
    lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK),
    lambda: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED),
):
    try: say(); print("said")
    except PermissionError as error: print(error.errno, end=" ")
print(fcntl.fcntl(file, fcntl.F_GETFD))
""",
    "disks of the machine": C + "print(call(162), libc.syncfs(os.open('/usr', 0)), call(451, 0, 0, 0, 0))",
    "its server": """
import sys
frame, found = sys._getframe(), []
while frame := frame.f_back:
    found += [value.get("user") for value in frame.f_locals.values() if type(value) is dict and "seconds" in value]
print(sys.argv, sys.orig_argv, len(found) > 2, set(found))
""",
    "programs of the machine": """
import os
print([name for name in os.listdir("/usr/lib") if not name.endswith("-linux-gnu") and not name.startswith("python")])
""",
    "attributes without number": """
import os
for number in range(10**5): os.setxattr("input.png", f"user.{number}", bytes(1000))
""",
    "a device's name": "import os; os.remove('input.png'); os.symlink('/dev/urandom', 'output.png')",
    "a folder in the way": "import os; os.makedirs('output.png/output.png')",
    "text as a picture": "open('output.png', 'wb').write(b'P2 10 10 255\\n' + b'#\\n' * 10**6)",
    "another picture": "from PIL import Image; Image.new('RGB', (9, 9)).save('output.png', 'GIF')",
    "a jpeg": "from PIL import Image; Image.new('RGB', (9, 5)).save('output.png', 'JPEG')",
    "sixteen bits": """
import cv2, numpy
cv2.imwrite('output.png', numpy.full((5, 9), 257 * 200, numpy.uint16))
""",
    "see-through": "from PIL import Image; Image.new('RGBA', (9, 5), (9, 9, 9, 0)).save('output.png')",
    "a palette": "from PIL import Image; Image.new('RGB', (9, 5), (9, 99, 9)).convert('P').save('output.png')",
    "a pool that nobody ends": """
from concurrent.futures import ThreadPoolExecutor
print(*ThreadPoolExecutor(2).map(abs, [-1, 2]))
""",
    "what comes last": """
import atexit, threading, time
atexit.register(print, "registered")
atexit.register(lambda: 1 / 0)
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
raise SystemExit("gone")
""",
    "a fork at the end": """
import atexit, os
@atexit.register
def fork():
    try:
        while True: os.fork()
    except OSError: pass
""",
    "a picture that is missing": "import cv2, time; time.sleep(0.02); print(cv2.imread('none.png'))",
    "stopped by itself": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP); print('goes on')",
    "a library of one's own": """
import os, subprocess, sys
open("own.so", "wb").write(b"\\x7fELF")
env = {"LD_PRELOAD": "/folder/own.so", "PYTHONPATH": "/folder"}
code = "import os; print(os.listdir('/proc'), os.path.exists('/etc/passwd'))"
print(subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True).stdout)
""",
    "sockets of all kinds": """
import socket
for family in range(46):
    try: socket.socket(family, 1)
    except OSError as error: assert error.errno == 1, (family, error)
    else: print("got", family)
""",
    "where it is": "import datetime, time; print(time.tzname, datetime.datetime(2020, 1, 1).astimezone().isoformat())",
}
IMAGES = {
    "a jpeg": ((5, 9, 3), 0),
    "sixteen bits": ((5, 9, 3), 200),
    "see-through": ((5, 9, 3), 255),
}


@pytest.fixture(scope="module")
def ran():
    made = Sandbox("bubblewrap", LIMITS, workers=2)
    results = dict(zip(PROGRAMS, made.run([ask(code) for code in PROGRAMS.values()]), strict=True))
    made.close()
    return results


@needs_bubblewrap
@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("memory of a name", "refused 1", ""),
        ("memory of a device", "", "No such file or directory: '/dev/zero'"),
        ("python's shared memory", "", "PermissionError"),
        ("memory of one's own", "4096", ""),
        ("programs of the machine", "[]", ""),
        ("words by locks", "1 1 1 1 1 1", ""),
        ("attributes without number", "", "Error"),
        ("a device's name", "", "output.png is no plain file."),
        ("a folder in the way", "", "output.png is no plain file."),
        ("text as a picture", "", "output.png cannot be read: Expected PNG, JPEG, WebP or BMP"),
        ("another picture", "", "output.png cannot be read: Expected PNG, JPEG, WebP or BMP"),
        ("a pool that nobody ends", "1 2", ""),
        ("a fork at the end", "", ""),
        ("stopped by itself", "goes on", ""),
        ("a library of one's own", "[] False", ""),
        ("sockets of all kinds", "", ""),
        ("where it is", "('UTC', 'UTC') 2020-01-01T00:00:00+00:00", ""),
    ],
)
def test_what_came_of_a_program(ran, name, text, error):
    assert ran[name].text == text
    assert error in ran[name].error if error else not ran[name].error


@needs_bubblewrap
@pytest.mark.skipif(not SIXTY_FOUR, reason="numbers of system calls of x86_64")
@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("pages in pipes", "-1 -1", ""),
        ("events of the machine", "-1 -1", ""),
        ("where mounts come from", "-1 -1", ""),
        ("disks of the machine", "-1 -1 -1", ""),
        ("calls of the future", "-38 -38", ""),
        ("calls of 32 bits", "", "SIGSYS"),
    ],
)
def test_what_the_kernel_refuses(ran, name, text, error):
    assert ran[name].text == text
    assert error in ran[name].error if error else not ran[name].error


@needs_bubblewrap
@pytest.mark.parametrize(("name", "shape", "value"), [(name, *image) for name, image in IMAGES.items()])
def test_pictures_of_other_kinds_become_eight_bits_of_rgb(ran, name, shape, value):
    assert ran[name].pixels.shape == shape
    assert (ran[name].pixels == value).all()


@needs_bubblewrap
def test_a_palette_becomes_its_colours(ran):
    assert ran["a palette"].pixels.shape == (5, 9, 3)
    assert np.abs(ran["a palette"].pixels[0, 0].astype(int) - (9, 99, 9)).max() < 30


@needs_bubblewrap
def test_the_end_of_a_program_is_that_of_any(ran):
    lines = ran["what comes last"].text.splitlines()
    assert lines[0] == "thread"
    assert lines[-1] == "registered"
    assert ran["what comes last"].error == "gone"


@needs_bubblewrap
def test_a_server_is_the_same_everywhere(ran):
    argv, rest = ran["its server"].text.split(" ", 1)
    assert argv == "['program.py']"
    assert rest.startswith("['/")
    assert rest.endswith("'] True {None}")
    assert "," not in rest


@needs_bubblewrap
def test_warnings_do_not_tell_the_time(ran):
    text = ran["a picture that is missing"].text
    assert text.startswith("[ WARN:0] global")
    assert text.endswith("None")


@needs_bubblewrap
def test_addresses_and_what_hangs_on_them_are_the_same_in_every_sandbox():
    code = "print(id(object()), id([]), {None, print, len, object, hash}, hash(print))"
    texts = set()
    for _ in range(2):
        made = Sandbox("bubblewrap", LIMITS, workers=1)
        texts |= {ran.text for ran in made.run([ask(code), ask(code, np.zeros((9, 9, 3), np.uint8))])}
        made.close()
    assert len(texts) == 1


@needs_bubblewrap
def test_the_loss_of_a_sandbox_in_the_middle_of_a_batch_costs_one_program(monkeypatch):
    from visenv.experts.sandbox import worker

    made = Sandbox("bubblewrap", LIMITS, workers=1)
    ask_one, number = worker.Worker._run, iter(range(99))

    def lose_the_second(self, *arguments):
        if next(number) == 1:
            self._process.kill()
        return ask_one(self, *arguments)

    monkeypatch.setattr(worker.Worker, "_run", lose_the_second)
    answers = made.run([ask(f"print({n})") for n in range(4)])
    made.close()
    assert [getattr(each, "text", None) for each in answers] == ["0", None, "2", "3"]
    assert isinstance(answers[1], Exception)
    assert "bubblewrap" in str(answers[1])


# --- pictures that are slow to read, if they are read -----------------------------------------------------------------


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        png_head(4, 4)[:33] + chunk(b"abCd") * 2_000_000 + png_head(4, 4)[33:],
        png_head(4, 4)[:-12] + chunk(b"abCd") * 2_000_000 + chunk(b"IEND"),
        jpeg()[:2] + b"\xff\xfe\x00\x02" * 4_000_000 + jpeg()[2:],
        jpeg()[:2] + b"\xff" * 8_000_000 + jpeg()[2:],
    ],
    ids=["before pixels", "after pixels", "comments", "padding"],
)
def test_a_picture_of_millions_of_parts_is_refused_at_once(data):
    started = time.monotonic()
    with pytest.raises(InvalidImage, match=f"at most {MAX_PARTS} parts"):
        read_picture(data, 10**6)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_picture_as_large_as_can_be_is_read(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, lossless=True)
    assert read_picture(file.getvalue(), 1500**2).shape == pixels.shape


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF....WEBP", b"BM", jpeg()[:40]])
def test_the_beginning_of_a_picture_is_none(data):
    with pytest.raises(InvalidImage):
        read_picture(data, 10**6)


def test_pictures_that_are_decoded_in_python_are_read_where_they_are_small():
    assert load_image(b"P2 2 1 255\n0 255\n")[0, :, 0].tolist() == [0, 255]
    large = [b"P2 10 10 255\n" + b"#\n" * 200_000, b"P6 1100 1000 254\n" + bytes(3_300_000)]
    for data in large:
        with pytest.raises(InvalidImage, match="slow to decode.*save it as PNG"):
            load_image(data)
    assert load_image(b"P6 1100 1000 255\n" + bytes(3_300_000)).shape == (1000, 1100, 3)
