"""Programs that reach for files outside of their sandbox, fill its folder, or have something else read back."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from sandbox_programs import CONFINED, assert_nothing_is_left, idle_servers, needs_bubblewrap, png_head, run

from visenv.experts.sandbox import Sandbox

pytestmark = needs_bubblewrap


@pytest.fixture(scope="module")
def sandbox():
    made = Sandbox("bubblewrap", CONFINED, workers=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def servers(sandbox):
    return idle_servers()


@pytest.fixture(autouse=True)
def _nothing_is_left(servers):
    yield
    assert_nothing_is_left(servers)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/etc/shadow", "/root", "/home", "/sys", "/dev/shm", "/dev/mem", "/bin/sh"]
)
def test_files_of_the_machine_are_not_there(sandbox, path):
    assert "FileNotFoundError" in run(sandbox, f"import os; os.stat({path!r})").error


def test_a_secret_cannot_be_read_by_any_path(sandbox, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    for path in (secret, f"../../../../../../..{secret}", f"/proc/1/root{secret}", f"/proc/self/cwd/..{secret}"):
        assert "FileNotFoundError" in run(sandbox, f"open({str(path)!r}).read()").error


@pytest.mark.parametrize(
    "path", ["/escaped", "/tmp/escaped", "/usr/lib/escaped", "/python/lib/escaped", "/etc/escaped"]
)
def test_nothing_can_be_written_outside(sandbox, path):
    assert "Error" in run(sandbox, f"open({path!r}, 'w')").error
    assert not Path(path).exists()


def test_the_folder_holds_the_image_alone(sandbox):
    assert run(sandbox, "import os; print(os.getcwd(), os.listdir('.'))").text == "/folder ['input.png']"


def test_the_interpreter_and_its_libraries_cannot_be_deleted(sandbox):
    code = """
import os, shutil, sys, numpy
for path in (sys.executable, os.__file__, numpy.__file__, "/usr/lib"):
    try:
        os.remove(path) if os.path.isfile(path) else shutil.rmtree(path)
        print("deleted", path)
    except OSError as error:
        print(type(error).__name__)
"""
    assert "deleted" not in run(sandbox, code).text
    assert run(sandbox, "import numpy, json, subprocess; print('whole')").text == "whole"


def test_the_disk_cannot_be_filled(sandbox):
    code = "for name in range(40):\n open(f'{name}', 'wb').write(bytes(2**20))"
    assert "No space left" in run(sandbox, code).error
    assert "OSError" in run(sandbox, "open('hole', 'wb').truncate(2**40)").error


def test_files_without_number_are_refused(sandbox):
    assert "No space left" in run(sandbox, "for name in range(10**6):\n open(str(name), 'w')").error


def test_folders_without_end_are_refused(sandbox):
    assert "No space left" in run(sandbox, "import os\nwhile True:\n os.mkdir('d'); os.chdir('d')").error


def test_a_folder_without_permissions_is_read_all_the_same(sandbox):
    code = "import os; os.rename('input.png', 'output.png'); os.chmod('output.png', 0); os.chmod('.', 0)"
    assert run(sandbox, code).pixels is not None


# --- what is read back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "/proc/self/environ", "/python", "input.png", "/dev/zero", "nowhere"]
)
def test_a_link_is_not_followed(sandbox, target):
    ran = run(sandbox, f"import os; os.symlink({target!r}, 'output.png')")
    assert ran.pixels is None
    assert "no plain file" in ran.error


@pytest.mark.parametrize("make", ["os.mkfifo('output.png')", "os.mkdir('output.png')"])
def test_what_is_no_file_is_not_read(sandbox, make):
    assert "no plain file" in run(sandbox, f"import os; {make}").error


def test_devices_cannot_be_made(sandbox):
    code = "import os, stat; os.mknod('output.png', stat.S_IFCHR | 0o666, os.makedev(1, 5))"
    assert "PermissionError" in run(sandbox, code).error


@pytest.mark.parametrize("target", ["/python/bin/python3", "/runner/inside/server.py", "/proc/1/environ"])
def test_hard_links_to_the_outside_cannot_be_made(sandbox, target):
    assert "Error" in run(sandbox, f"import os; os.link({target!r}, 'output.png')").error


def test_a_hard_link_inside_is_a_file_like_any_other(sandbox):
    ran = run(sandbox, "import os; os.link('input.png', 'output.png')", np.full((3, 5, 3), 9, np.uint8))
    assert ran.pixels.shape == (3, 5, 3)
    assert (ran.pixels == 9).all()


def test_an_image_of_ten_thousand_megapixels_is_not_decoded(sandbox):
    ran = run(sandbox, f"open('output.png', 'wb').write({png_head(100_000, 100_000)!r})")
    assert ran.pixels is None
    assert "Too large to decode" in ran.error


def test_an_image_that_is_small_as_a_file_and_huge_as_pixels_is_not_decoded(sandbox):
    code = "from PIL import Image; Image.new('1', (9000, 9000)).save('output.png')"
    assert "at most 16000000 pixels" in run(sandbox, code).error


def test_a_file_that_is_too_long_is_not_read(sandbox):
    assert "more than 4 MiB" in run(sandbox, "open('output.png', 'wb').write(bytes(5 * 2**20))").error


def test_pickles_are_not_read(sandbox, tmp_path):
    trap = tmp_path / "sprung"
    code = f"""
import pickle, os, numpy
class Trap:
    def __reduce__(self):
        return os.system, ("touch {trap}",)
open("output.png", "wb").write(pickle.dumps(Trap()))
"""
    assert "cannot be read" in run(sandbox, code).error
    assert (
        "cannot be read"
        in run(sandbox, code + "numpy.save('a.npy', numpy.array([Trap()])); os.rename('a.npy', 'output.png')").error
    )
    assert not trap.exists()


@pytest.mark.parametrize("data", [b"", b"<svg onload='x'/>", b"%!PS", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture_is_an_error(sandbox, data):
    ran = run(sandbox, f"open('output.png', 'wb').write({data!r})")
    assert ran.pixels is None
    assert "output.png" in ran.error


def test_an_image_bomb_in_a_chunk_is_an_error(sandbox):
    bomb = zlib.compress(bytes(100 * 2**20), 9)
    chunk = struct.pack(">I", len(b"a\0\0" + bomb)) + b"zTXta\0\0" + bomb + bytes(4)
    data = png_head(4, 4)[:33] + chunk
    code = f"import zlib; open('output.png', 'wb').write({data!r})"
    assert run(sandbox, code).pixels is None
