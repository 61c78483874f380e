"""Everything here settles jobs for real, which needs committed rows."""

import pytest


@pytest.fixture(autouse=True)
def _committed_rows(at_work: None) -> None:
    pass
