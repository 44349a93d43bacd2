import gc

import pytest

from cwsam_geo.cli.importing import large_modules


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()
    gc.enable()


def test_what_is_made_during_the_imports_is_never_searched_for_cycles():
    with large_modules():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(made)
    tracked = {id(thing) for thing in gc.get_objects()}
    assert not any(id(thing) in tracked for thing in made)


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    with large_modules():
        pass
    assert not gc.isenabled()


def test_a_module_that_cannot_be_imported_leaves_the_collector_on():
    with pytest.raises(ModuleNotFoundError), large_modules():
        import no_such_module  # noqa: F401
    assert gc.isenabled()
