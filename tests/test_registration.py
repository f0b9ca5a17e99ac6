import pytest

import visenv  # noqa: F401 - registers what there is
from visenv import registration
from visenv.errors import DuplicateName, InvalidData, UnknownName
from visenv.registration import Registry


def test_a_name_is_registered_once():
    registry = Registry("toy")
    registry.register("ball", "collections:OrderedDict")
    with pytest.raises(DuplicateName, match="'ball' is registered already"):
        registry.register("ball", "collections:Counter")
    assert registry.entry("ball").entry_point == "collections:OrderedDict"


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'scenes'"):
        registration.datasets.load("scene")


@pytest.mark.parametrize("name", [None, 5, ["scenes"]])
def test_what_is_no_name_is_unknown(name):
    with pytest.raises(UnknownName, match="Expected the name of a data set"):
        registration.datasets.entry(name)


def test_loading_imports_only_what_is_asked_for():
    registry = Registry("toy")
    registry.register("gone", "no.such.module:Thing")
    registry.register("there", "collections:Counter")
    assert registry.load("there").__name__ == "Counter"
    with pytest.raises(ModuleNotFoundError):
        registry.load("gone")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        *(("", "a:b"), ("a:b", "c:d"), (" a", "a:b"), (5, "a:b"), (None, "a:b")),
        *(("a", "no-colon"), ("a", "a:b:c"), ("a", ":"), ("a", "a:"), ("a", None)),
    ],
)
def test_names_and_entry_points_have_a_form(name, entry):
    with pytest.raises(InvalidData, match="Expected"):
        Registry("toy").register(name, entry)


@pytest.mark.parametrize("kind", ["datasets", "experts", "rewards", "toolsets", "policies"])
def test_everything_registered_can_be_loaded(kind):
    for entry in getattr(registration, kind):
        assert entry.load() is not None
        assert entry.summary
