"""The study of two servers on one folder, in short: without Ray, and three orders of ten."""

import pytest

from tests.studies.serving.two_servers import CASES, run_two_servers

SHORT = ("both at once", "learner killed", "met, newer killed")


@pytest.mark.parametrize("name", SHORT)
def test_learning_goes_on_in_the_server_that_lives(name: str) -> None:
    result = run_two_servers({name: CASES[name]}, (False,), lambda n: None)
    assert (result.learns, result.of, result.lies) == (1, 1, 0), result
