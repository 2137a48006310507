"""The readout of README's split, held against the expected rewards that the world knows."""

import re
from pathlib import Path

from serve.config import Config, parse
from tests.studies.experiment.arms import ArmsSize, run_arms

README = Path(__file__).parents[3] / "README.md"


def split_of_the_readme() -> Config:
    """The settings of the first experiment that README shows."""
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return parse(next(block for block in blocks if "[experiment]" in block))


def test_readmes_split_is_too_early_at_500_cards_and_never_names_the_worse_arm() -> None:
    config = split_of_the_readme()
    assert config.experiment.control == "control"
    result = run_arms(config, ArmsSize(warm=0), seeds=range(1, 2), advance=lambda *_: None)
    early, late = result.worlds[0].looks
    assert (result.held, result.wrong, result.early) == (1.0, 0, 1.0)
    assert early.says.startswith("too early to say: ")
    assert "more cards" in early.says
    assert late.truth > 0.0
    assert (late.winner == "learned") == (late.low > 0.0) == late.says.startswith("learned wins: +")
    assert late.early == (late.winner == "")
    assert late.high - late.low < 0.5 * (early.high - early.low)
