"""The readout of README's split: too early at 500 cards; at 20,000 the winner the world knows."""

import re
from pathlib import Path

from serve.config import Config, parse
from tests.studies.experiment.arms import ArmsSize, run_arms

README = Path(__file__).parents[3] / "README.md"


def split_of_the_readme() -> Config:
    """The settings of the first experiment that README shows."""
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return parse(next(block for block in blocks if "[experiment]" in block))


def test_the_winner_is_named_at_20_000_cards_and_not_at_500() -> None:
    config = split_of_the_readme()
    assert config.experiment.shares == {"control": 0.1, "learned": 0.9}
    result = run_arms(config, ArmsSize(), seeds=range(1, 2), advance=lambda *_: None)
    early, late = result.worlds[0].looks
    assert early.early
    assert early.says.startswith("too early to say: control has ")
    assert "more cards" in early.says
    assert not late.early
    assert late.winner == "learned"
    assert late.says.startswith("learned wins: +")
    assert 0.0 < late.low < late.truth < late.high
    assert late.high - late.low < 0.15
    assert (result.held, result.named, result.wrong, result.early) == (1.0, 1.0, 0, 1.0)
