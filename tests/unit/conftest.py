"""What several files of unit tests share, because it takes seconds to make."""

import pytest


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory):
    """The path of a bundle (`made_bundle`); nothing changes it."""
    from made_bundle import make_small_bundle

    return make_small_bundle(tmp_path_factory.mktemp("small_bundle"))
