"""Policies of one's own: found by name, hashed, held to the laws, guarded."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from custom_policies import BROKEN, HEAD, MEANS, write, write_changed

from env.interface import page_pmfs, redraw
from env.vocabulary import SlotRule
from policies.bandit.policy import HybridBandit
from policies.baselines import UniformPolicy
from policies.custom.contract import (
    LAWS,
    Law,
    broken_laws,
    check_named,
    sample_context,
    sample_interactions,
)
from policies.custom.guarded import WORDS, Guard, GuardArgs
from policies.custom.learning import CustomLearning, decode_state
from policies.custom.load import CustomCode, CustomPolicyError, load
from policies.custom.policy import CustomPolicy, custom_args, custom_version
from policies.explorers import Softmax, Uniform

GOOD = f"{HEAD}\n\ndef make():\n    return Mine()\n"


def served(code: CustomCode) -> CustomPolicy:
    return CustomPolicy(code.make(Softmax(0.2)), code.name, code.code)


def slots(n: int) -> list[SlotRule]:
    every = np.ones(n, dtype=np.bool_)
    return [SlotRule(every, every)] * 4


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_policy_can_be_held_to_the_laws_from_pytest(law: Law) -> None:
    assert law.reason(UniformPolicy) == ""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_policy_is_found_out_with_its_reason(name: str, tmp_path: Path) -> None:
    change, reason, _ = BROKEN[name]
    write_changed(tmp_path, change)
    told = [f"{v.law}: {v.reason}" for v in check_named("mine:make", tmp_path) if v.reason]
    assert any(reason in line for line in told), told


def test_what_cannot_be_imported_is_found_out_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, "import no_such_library\n")
    (verdict,) = check_named("mine:make", tmp_path)
    expected = (
        "mine:make: importing it raised ModuleNotFoundError: No module named 'no_such_library'"
    )
    assert verdict.reason == expected


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        (GOOD, "mine", "expected a name like module:function, got 'mine'"),
        (GOOD, "mine:no", "mine.py has no no"),
        (GOOD, "nowhere:make", "found no module nowhere, neither in "),
        (GOOD, "mine.deep:make", "found no module mine.deep, neither in "),
        ("make = 3", "mine:make", "expected a function, got int"),
        ("def make(:", "mine:make", "importing it raised SyntaxError"),
        ("raise SystemExit(3)", "mine:make", "importing it raised SystemExit: 3"),
        (
            "def make():\n    return 3",
            "mine:make",
            "got int without name, explorer, score, explore",
        ),
        ("def make():\n    return 1 / 0", "mine:make", "the factory raised ZeroDivisionError"),
        (
            "def make(features):\n    return 3",
            "mine:make",
            "mark a function from features to scores",
        ),
        (
            f"{HEAD}\n@scores_features\ndef make():\n    return 3",
            "mine:make",
            "expected a function of one argument, the features; it takes ()",
        ),
        (
            f"{HEAD}\nclass make(Mine):\n    def explore(self, scores):\n        return scores",
            "mine:make",
            "expected make.explore to take 2 arguments, it takes (scores)",
        ),
        (
            f"{HEAD}\nclass make(Mine):\n    def learn(self, interactions):\n        pass",
            "mine:make",
            "expected dumps() and loads(state) of a policy that learns, got make without",
        ),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_in_one_line(
    text: str, name: str, reason: str, tmp_path: Path
) -> None:
    write(tmp_path, text)
    with pytest.raises(CustomPolicyError) as refused:
        load(name, tmp_path).make(Uniform())
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_module_with_the_name_of_another_one_in_use_is_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "colorsys")
    import colorsys  # noqa: F401

    with pytest.raises(CustomPolicyError, match="that is in use: rename it"):
        load("colorsys:make", tmp_path)


def test_a_marked_function_has_the_explorer_that_it_is_given(tmp_path: Path) -> None:
    write(
        tmp_path, f"{HEAD}\n@scores_features\ndef f(features):\n    return column(features, 'age')"
    )
    code = load("mine:f", tmp_path)
    assert code.takes_explorer
    assert broken_laws(lambda: code.make(Softmax(0.5))) == []
    assert code.make(Softmax(0.5)).explorer == {"kind": "softmax", "temperature": 0.5}


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        f"{HEAD}\n@scores_features\ndef f(features):\n    return column(features, 'likes')",
    )
    code = load("mine:f", tmp_path)
    (line, *_) = [line for line in broken_laws(lambda: code.make(Uniform())) if "scores" in line]
    assert "got 'likes'" in line or "expected one of v0" in line


def test_a_policy_of_ours_can_be_served_by_name() -> None:
    code = load("policies.baselines:PopularityPolicy", Path("/"))
    assert broken_laws(lambda: code.make(Uniform())) == []


# --- the hash ---


def _change_own(folder: Path) -> None:
    write(folder, f"{GOOD}# changed\n")


def _change_imported(folder: Path) -> None:
    write(folder, "WEIGHT = 2\n", "mine_weights")


def _change_imported_when_called(folder: Path) -> None:
    write(folder, "BIAS = 2\n", "mine_bias")


def _change_other(folder: Path) -> None:
    write(folder, "WEIGHT = 3\n", "mine_other")


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        (_change_own, True),
        (_change_imported, True),
        (_change_imported_when_called, True),
        (_change_other, False),
    ],
)
def test_the_hash_is_of_the_module_and_of_what_it_imports_beside_it(
    change: Callable[[Path], None], is_other: bool, tmp_path: Path
) -> None:
    write(tmp_path, "WEIGHT = 1\n", "mine_weights")
    write(tmp_path, "BIAS = 1\n", "mine_bias")
    write(tmp_path, "WEIGHT = 1\n", "mine_other")
    text = f"import mine_weights\nimport json\n{GOOD}\n\ndef late():\n    import mine_bias\n"
    write(tmp_path, text)
    before = load("mine:make", tmp_path)
    if change is _change_own:
        write(tmp_path, f"{text}# changed\n")
    else:
        change(tmp_path)
    after = load("mine:make", tmp_path)
    assert (after.code != before.code) is is_other
    assert len(after.code) == 32


def test_the_hash_is_the_same_wherever_the_code_lies(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        write(tmp_path / folder, GOOD)
    assert load("mine:make", tmp_path / "here").code == load("mine:make", tmp_path / "there").code


def test_a_packages_modules_belong_to_its_code(tmp_path: Path) -> None:
    write(tmp_path / "shop", "", "__init__")
    write(
        tmp_path / "shop",
        "from .parts import w\nfrom policies.baselines import UniformPolicy as P",
        "a",
    )
    write(tmp_path / "shop" / "parts", "w = 1", "__init__")
    before = load("shop.a:P", tmp_path)
    write(tmp_path / "shop" / "parts", "w = 2", "__init__")
    after = load("shop.a:P", tmp_path)
    assert after.code != before.code
    assert vars(sys.modules["shop.a"])["w"] == 2, "what was loaded is what was hashed"


# --- serving ---


def test_a_page_names_the_policy_and_its_code(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    code = load("mine:make", tmp_path)
    policy = served(code)
    page, why = _guard([], _Steady()).fill(sample_context(1, 30), policy, slots(30), 0.1, 7)
    assert why == ""
    assert {d.policy for d in page.decisions} == {"mine:make@0"}
    args = custom_args(page.explorer)
    assert args is not None
    assert (args.policy, args.code) == ("mine:make", code.code)
    assert args.explorer == {"kind": "softmax", "temperature": 0.2}
    assert redraw(page, served(code), 7) == page.decisions
    assert custom_args(UniformPolicy().explorer) is None
    assert custom_version("blend@7") == 0


class _Steady:
    """A clock that a test moves."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def _guard(told: list[tuple[str, str]], clock: Callable[[], float]) -> Guard:
    args = GuardArgs(limit_s=0.05, slow_pages=3, pause_s=10.0)
    return Guard("mine:make", args, clock, lambda name, why: told.append((name, why)))


@pytest.mark.parametrize("name", [name for name, (_, _, why) in BROKEN.items() if why])
def test_a_page_of_a_broken_policy_is_drawn_uniformly_with_true_propensities(
    name: str, tmp_path: Path
) -> None:
    change, _, why = BROKEN[name]
    write_changed(tmp_path, change)
    told: list[tuple[str, str]] = []
    clock = _Steady(0.06 if why == "slow" else 0.0)
    context, before = sample_context(1, 30), sample_context(1, 30)

    policy = served(load("mine:make", tmp_path))
    page, words = _guard(told, clock).fill(context, policy, slots(30), 0.1, 7)

    assert told == [("mine:make", why)]
    assert words in WORDS.values()
    assert {d.policy for d in page.decisions} == {"uniform@0"}
    assert redraw(page, UniformPolicy(), 7) == page.decisions
    for decision, pmf in page_pmfs(page, UniformPolicy()):
        assert decision.propensity == pmf[decision.action]
    assert np.array_equal(context.features.actions, before.features.actions)


def test_a_policy_cannot_show_what_a_slots_mask_forbids(tmp_path: Path) -> None:
    change = """
    def explore(self, scores, mask):
        mask[:] = True
        return Softmax().pmf(scores, mask)
"""
    write_changed(tmp_path, change)
    only = np.arange(30) == 3
    policy = served(load("mine:make", tmp_path))
    told: list[tuple[str, str]] = []
    rules = [SlotRule(only, only)]
    page, _ = _guard(told, _Steady()).fill(sample_context(1, 30), policy, rules, 0.0, 7)
    assert [d.action for d in page.decisions] == [3]
    assert told == [("mine:make", "raised")]


def test_a_slow_policy_is_paused_and_tried_again(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    policy, clock = served(load("mine:make", tmp_path)), _Steady(0.06)
    told: list[tuple[str, str]] = []
    guard = _guard(told, clock)

    def draw() -> str:
        return guard.fill(sample_context(1, 30), policy, slots(30), 0.1, 7)[1]

    assert [draw() for _ in range(5)] == [WORDS["slow"]] * 3 + [WORDS["paused"]] * 2
    clock.now_s += 10.0
    assert [draw() for _ in range(2)] == [WORDS["slow"], WORDS["paused"]], "once more is enough"
    clock.now_s, clock.step_s = clock.now_s + 10.0, 0.0
    assert [draw() for _ in range(2)] == ["", ""]
    clock.step_s = 0.06
    assert draw() == WORDS["slow"]
    assert [why for _, why in told].count("paused") == 3


# --- learning ---


def test_a_policy_that_learns_keeps_the_laws_and_is_short(tmp_path: Path) -> None:
    write(tmp_path, MEANS)
    assert [v for v in check_named("mine:Means", tmp_path) if v.reason] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("    def loads(self, state):\n        self.sums |= json.loads(state)\n", "loads() adds"),
        ("    def dumps(self):\n        return '{}'\n", "dumps() gave str, expected bytes"),
        (
            "    def loads(self, state):\n        self.sums = {}\n",
            "saving: it is saved otherwise than it was loaded",
        ),
        (
            "    def learn(self, interactions):\n        self.sums['x'] = (np.random.rand(), 1)\n",
            "saving: equal states give different bytes",
        ),
    ],
)
def test_one_that_learns_wrongly_is_found_out(change: str, reason: str, tmp_path: Path) -> None:
    write(tmp_path, f"{MEANS}\n\nclass Broken(Means):\n{change}")
    told = [f"{v.law}: {v.reason}" for v in check_named("mine:Broken", tmp_path) if v.reason]
    assert any(reason in line for line in told), told


def test_what_is_learned_does_not_depend_on_batches_and_is_kept(tmp_path: Path) -> None:
    write(tmp_path, MEANS)
    code, told = load("mine:Means", tmp_path), sample_interactions(HybridBandit)
    whole, parts = CustomLearning(code), CustomLearning(code)
    whole.learn(told)
    for one in told:
        parts.learn([one])
    assert whole.to_bytes() == parts.to_bytes()
    kept = CustomLearning(code, decode_state(whole.to_bytes()))
    assert (kept.learned, kept.to_bytes()) == (len(told), whole.to_bytes())


def test_an_interaction_that_the_code_raises_on_is_left_out_and_counted(tmp_path: Path) -> None:
    odd = (
        "    def learn(self, interactions):\n"
        "        if interactions[0].slot % 2:\n"
        "            raise ValueError('odd')\n"
        "        super().learn(interactions)\n"
    )
    write(tmp_path, f"{MEANS}\n\nclass Odd(Means):\n{odd}")
    learning = CustomLearning(load("mine:Odd", tmp_path))
    told = sample_interactions(HybridBandit)
    learning.learn(told)
    assert learning.failed == sum(one.slot % 2 for one in told) > 0
    assert learning.learned + learning.failed == len(told)


def test_a_state_of_other_code_is_not_loaded(tmp_path: Path) -> None:
    write(tmp_path, MEANS)
    kept = decode_state(CustomLearning(load("mine:Means", tmp_path)).to_bytes())
    write(tmp_path, f"{MEANS}# changed\n")
    with pytest.raises(ValueError, match="learned by other code"):
        CustomLearning(load("mine:Means", tmp_path), kept)


def test_the_document_tells_the_laws_and_its_policies_keep_them(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
    told = re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE)
    assert told[1:] == [(law.name, law.sentence) for law in LAWS]
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for name, block in zip(("good_match", "ItemMeans"), blocks, strict=False):
        write(tmp_path, block)
        assert [v for v in check_named(f"mine:{name}", tmp_path) if v.reason] == []
        assert sum(bool(line.strip()) for line in block.splitlines()) <= 20
