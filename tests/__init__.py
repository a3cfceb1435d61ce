"""The tests: a folder for each package of the service, and what they share in ``support``."""

import pytest

pytest.register_assert_rewrite("tests.support")  # a comparison that fails shows both sides
