"""The laws that every policy is held to, as data: for the command line, for pytest, at the start.

From pytest, for a policy of one's own:

    from policies.custom.contract import LAWS, Law, broken_laws

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
    def test_my_policy_keeps(law: Law) -> None:
        assert law.reason(MyPolicy) == ""

The checks make up pages with the feed's columns in their usual ranges. They ask the policy many
times and change nothing outside it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from env.columns.schema import (
    HOUR_COS,
    HOUR_SIN,
    LONG_MATCH,
    N_ACTION,
    N_SHARED,
    SCENE_MATCH,
    SESSION_MATCH,
    VECTOR,
    action_index,
    index_of,
    quantise,
)
from env.interface import PMF_TOLERANCE, Policy, fill_page, page_pmfs, redraw
from env.records import item_key, pack_halves
from env.vocabulary import (
    Bools,
    Context,
    Features,
    Feedback,
    Floats,
    Interaction,
    ItemId,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.custom.load import CustomPolicyError, load, say
from policies.explorers import SHIPPED, AnyExplorer

Make = Callable[[], Policy]
"""Makes a fresh policy that has learned nothing."""

SIZES = (1, 2, 100, 200)
"""Numbers of candidates that pages are tried with."""

N_SLOTS = 10
LIMIT_S = 0.05
EXPLORER = SHIPPED
"""What a function from features to scores is tried with if nothing else is said."""

_SIGNED_SHARED = [index_of(column) for column in (HOUR_SIN, HOUR_COS)]

_SIGNED_ACTION = [
    action_index(column) for column in (*VECTOR, LONG_MATCH, SESSION_MATCH, SCENE_MATCH)
]


class BrokenLawError(AssertionError):
    """A policy breaks a law; the message says how."""


@dataclass(frozen=True, slots=True)
class Law:
    """Something that every policy does, or never does.

    Attributes:
        name: a word.
        sentence: the law.
        check: raises BrokenLawError with the reason where it is broken.
    """

    name: str
    sentence: str
    check: Callable[[Make], None]

    def reason(self, make: Make) -> str:
        """Return how a policy breaks this law; empty: it keeps it."""
        try:
            self.check(make)
        except BrokenLawError as error:
            return str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is a stranger's code
            return f"it raised {say(error)}"
        return ""


class LawResult(msgspec.Struct, frozen=True):
    """How a policy stands to a law.

    Attributes:
        law: its name.
        sentence: the law.
        reason: how it is broken; empty: it is kept.
    """

    law: str
    sentence: str
    reason: str = ""


def check_policy(make: Make, laws: Sequence[Law] | None = None) -> tuple[LawResult, ...]:
    """Return how a policy stands to each law.

    Args:
        make: makes it, fresh each time.
        laws: to hold it to; None: all.
    """
    held = LAWS if laws is None else laws
    return tuple(LawResult(law.name, law.sentence, law.reason(make)) for law in held)


def broken_laws(make: Make, laws: Sequence[Law] | None = None) -> list[str]:
    """Return a line for each law that a policy breaks; empty: it keeps them all."""
    return [f"{v.law}: {v.reason}" for v in check_policy(make, laws) if v.reason]


def check_named(
    name: str, folder: Path, explorer: AnyExplorer = EXPLORER, limit_s: float = LIMIT_S
) -> tuple[LawResult, ...]:
    """Return how the policy of a name stands to each law, that it can be loaded among them.

    Args:
        name: MODULE:FUNCTION.
        folder: where its module is looked for first.
        explorer: for a function from features to scores.
        limit_s: seconds that a page may take.
    """
    sentence = "It can be loaded: a factory of policies, or a marked function of the features."
    try:
        code = load(name, folder)
        code.make(explorer)
    except CustomPolicyError as error:
        return (LawResult("loads", sentence, str(error)),)
    laws = (*(law for law in LAWS if law.name != "speed"), speed_law(limit_s))
    return (LawResult("loads", sentence), *check_policy(lambda: code.make(explorer), laws))


def sample_context(seed: int, n: int, *, is_empty: bool = False) -> Context:
    """Return a page's context with columns like those of the feed.

    Args:
        seed: of the values.
        n: candidates.
        is_empty: every column is 0, as where nothing is known yet.
    """
    rng = np.random.default_rng(seed)
    shared, actions = rng.random(N_SHARED), rng.random((n, N_ACTION))
    shared[_SIGNED_SHARED] = 2.0 * shared[_SIGNED_SHARED] - 1.0
    actions[:, _SIGNED_ACTION] = 2.0 * actions[:, _SIGNED_ACTION] - 1.0
    scale = 0.0 if is_empty else 1.0
    items = tuple(ItemId(f"i{seed}-{k}") for k in range(n))
    return Context(
        page_id=PageId(f"p{seed}"),
        user=UserKey(f"u{seed % 7}"),
        session=SessionId(f"s{seed}"),
        scene=Scene(1_800_000_000_000 + seed * 60_000, "GB", "en", "phone", "wifi", hour=20),
        candidates=items,
        features=Features(
            quantise(scale * shared),
            quantise(scale * actions),
            np.array([item_key(item) for item in items], dtype=np.uint64),
        ),
    )


def sample_masks(seed: int, n: int) -> list[Bools]:
    """Return masks of n candidates: all of them, one of them, and some."""
    one = np.arange(n) == n // 2
    some = np.random.default_rng(seed).random(n) < 0.5
    return [np.ones(n, dtype=np.bool_), one, some | one]


def sample_interactions(make: Make, n_pages: int = 3) -> list[Interaction]:
    """Return what users did about pages that a policy has drawn."""
    return [i for seed in range(n_pages) for i in _answered(make(), seed)]


def _answered(policy: Policy, seed: int) -> Iterator[Interaction]:
    context = sample_context(100 + seed, 30)
    every = np.ones(30, dtype=np.bool_)
    page = fill_page(context, policy, [SlotRule(every, every)] * 4, 0.1, seed)
    for d in page.decisions:
        is_liked = (seed + d.slot) % 2 == 0
        yield Interaction(
            decision_id=d.decision_id,
            page_id=context.page_id,
            user=context.user,
            session=context.session,
            item_id=d.item_id,
            slot=d.slot,
            policy=d.policy,
            propensity=d.propensity,
            n_actions=30 - d.slot,
            shared=pack_halves(context.features.shared),
            action=pack_halves(context.features.actions[d.action]),
            item_key=int(context.features.keys[d.action]),
            duration_s=30.0,
            feedback=Feedback(seen=True, left=True, dwell_s=5.0 + d.slot, like=is_liked),
            reward=0.2 + 0.5 * is_liked,
            scene=context.scene,
            closed_ms=context.scene.at_ms + 60_000,
        )


# --- the laws ---


def _check_name(make: Make) -> None:
    name: object = make().name
    kind, _, version = name.partition("@") if isinstance(name, str) else ("", "", "")
    _require(bool(kind) and version.isdecimal(), f"expected a name like mine@0, got {name!r}")


def _check_arguments(make: Make) -> None:
    explorer: object = make().explorer
    _require(isinstance(explorer, dict), f"expected a dict, got {type(explorer).__name__}")
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(explorer))
    _require(back == explorer, f"the log gives {explorer} back as {back}")


def _check_scores(make: Make) -> None:
    policy = make()
    for context in _contexts():
        _require_floats("scores", policy.score(context), len(context))


def _check_pmf(make: Make) -> None:
    policy = make()
    for context in _contexts():
        scores = policy.score(context)
        for mask in sample_masks(len(context), len(context)):
            pmf = policy.explore(scores, mask.copy())
            _require_floats("probabilities", pmf, len(context))
            least, total = float(pmf.min()), float(pmf.sum())
            _require(least >= 0.0, f"expected no negative probability, got {least:g}")
            _require(abs(total - 1.0) <= PMF_TOLERANCE, f"expected a sum of 1, got {total:.12g}")
            _require(
                not pmf[~mask].any(), "expected probability 0 of candidates that are off the mask"
            )


def _check_support(make: Make) -> None:
    policy = make()
    for context in _contexts():
        scores = policy.score(context)
        for mask in sample_masks(len(context), len(context)):
            n_zero = int(np.count_nonzero(~(policy.explore(scores, mask)[mask] > 0.0)))
            _require(
                not n_zero, f"{n_zero} of {np.count_nonzero(mask)} candidates can never be drawn"
            )


def _check_repeats(make: Make) -> None:
    policy, again = make(), make()
    context, mask = sample_context(1, 50), sample_masks(1, 50)[2]
    scores = policy.score(context).copy()
    pmf = policy.explore(scores, mask).copy()
    _require_same("asked twice", policy, context, mask, scores, pmf)
    for seed in range(2, 12):
        other = sample_context(seed, 30)
        policy.explore(policy.score(other), np.ones(30, dtype=np.bool_))
    _require_same("asked again after other pages", policy, context, mask, scores, pmf)
    _require_same("made anew", again, context, mask, scores, pmf)


def _check_context(make: Make) -> None:
    policy = make()
    context, mask = sample_context(1, 50), sample_masks(1, 50)[2]
    features = context.features
    names = ("features.shared", "features.actions", "features.keys", "scores", "mask")
    scores = policy.score(context)
    given: list[Any] = [features.shared, features.actions, features.keys, scores, mask]
    fresh = sample_context(1, 50).features
    before: list[Any] = [fresh.shared, fresh.actions, fresh.keys, scores.copy(), mask.copy()]
    policy.explore(scores, mask)
    for name, now, then in zip(names, given, before, strict=True):
        _require(np.array_equal(now, then), f"it has changed the {name} that it was given")


def _check_order(make: Make) -> None:
    policy, context = make(), sample_context(6, 40)
    order = np.random.default_rng(6).permutation(40)
    features = context.features
    turned = replace(
        context,
        candidates=tuple(context.candidates[i] for i in order),
        features=Features(features.shared, features.actions[order], features.keys[order]),
    )
    scores, other = policy.score(context)[order], policy.score(turned)
    rounding = 1e-5 * max(float(np.ptp(scores)), 1e-9)  # a product of matrices in float32 may round
    _require(
        np.allclose(scores, other, rtol=1e-5, atol=rounding),
        "a candidate's score depends on its place among the candidates",
    )


def _check_redraw(make: Make) -> None:
    policy, n = make(), 60
    rule = SlotRule(sample_masks(3, n)[2], sample_masks(4, n)[2])
    for seed in range(10):
        page = fill_page(sample_context(seed, n), policy, [rule] * 6, 0.1, seed)
        _require(redraw(page, make(), seed) == page.decisions, "it draws another page")
        for decision, pmf in page_pmfs(page, make()):
            _require(
                decision.propensity == pmf[decision.action],
                f"expected the propensity {decision.propensity!r}, got {pmf[decision.action]!r}",
            )


def _check_learning(make: Make) -> None:
    told = sample_interactions(make)
    first, second = _taught(make, told), _taught(make, told)
    if first is None or second is None:
        return
    context = sample_context(100, 30)  # of which it has learned
    _require(
        np.array_equal(first.score(context), second.score(context)),
        "two that have learned the same score differently",
    )


def _check_saving(make: Make) -> None:
    told = sample_interactions(make)
    learner = _taught(make, told)
    if learner is None:
        return
    for method in ("dumps", "loads"):
        _require(hasattr(learner, method), f"it learns, and has no {method}()")
    state = learner.dumps()
    _require(isinstance(state, bytes), f"dumps() gave {type(state).__name__}, expected bytes")
    _require(learner.dumps() == state, "dumps() gives other bytes each time")
    _require(_taught(make, told).dumps() == state, "equal states give different bytes")
    context = sample_context(100, 30)  # of which it has learned
    make_any: Callable[[], Any] = make
    loaded, replaced, fresh = make_any(), _taught(make, told), make_any()
    loaded.loads(state)
    replaced.loads(fresh.dumps())
    _require(loaded.dumps() == state, "it is saved otherwise than it was loaded")
    for one, other, words in (
        (loaded, learner, "one that is loaded scores differently"),
        (replaced, fresh, "loads() adds to what it knows: it must replace it"),
    ):
        _require(np.array_equal(one.score(context), other.score(context)), words)
    for one in (loaded, learner):
        one.learn(told[:1])
    _require(loaded.dumps() == learner.dumps(), "one that is loaded learns differently")


def speed_law(limit_s: float = LIMIT_S) -> Law:
    """Return the law that a page is drawn within a time."""

    def check(make: Make) -> None:
        policy, context = make(), sample_context(1, 200)
        every = np.ones(200, dtype=np.bool_)
        took_s = []
        for seed in range(5):  # the machine may have been busy with something else
            began_s = perf_counter()
            fill_page(context, policy, [SlotRule(every, every)] * N_SLOTS, 0.1, seed)
            took_s.append(perf_counter() - began_s)
            if took_s[-1] <= limit_s:
                return
        _require(False, f"the fastest of {len(took_s)} pages took {min(took_s) * 1000:.0f} ms")

    sentence = f"A page of {N_SLOTS} of 200 candidates takes at most {limit_s * 1000:g} ms."
    return Law("speed", sentence, check)


LAWS: tuple[Law, ...] = (
    Law("name", "Its name says which version it is: NAME@NUMBER.", _check_name),
    Law("arguments", "The log gives its explorer arguments back as they are.", _check_arguments),
    Law("scores", "It scores each candidate with one finite float64.", _check_scores),
    Law(
        "pmf",
        "Its probabilities are float64, not negative, 0 off the mask, and sum to 1.",
        _check_pmf,
    ),
    Law("support", "Every candidate of the mask can be drawn.", _check_support),
    Law("repeats", "The same page has the same scores and probabilities.", _check_repeats),
    Law("context", "It leaves alone what it is given.", _check_context),
    Law("order", "A score does not depend on the order of the candidates.", _check_order),
    Law("redraw", "A page is drawn again to the last bit.", _check_redraw),
    speed_law(),
    Law("learning", "Those that learn the same know the same.", _check_learning),
    Law("saving", "What it has learned is saved and loaded as it is.", _check_saving),
)
"""All laws, in the order in which they are told."""


def _contexts() -> Iterator[Context]:
    for n in SIZES:
        yield sample_context(n, n)
        yield sample_context(n, n, is_empty=True)


def _taught(make: Make, told: Sequence[Interaction]) -> Any:
    """Return a fresh policy after it has learned, one by one; None: it does not learn."""
    policy = make()
    learn = getattr(policy, "learn", None)
    if learn is None:
        return None
    for interaction in told:
        learn((interaction,))
    return policy


def _require_floats(words: str, got: object, n: int) -> None:
    if not isinstance(got, np.ndarray) or got.dtype != np.float64 or got.shape != (n,):
        found = f"{got.dtype} of {got.shape}" if isinstance(got, np.ndarray) else type(got).__name__
        raise BrokenLawError(f"expected {n} {words} as float64 of shape ({n},), got {found}")
    n_bad = int(np.count_nonzero(~np.isfinite(got)))
    _require(not n_bad, f"expected finite {words}, got {n_bad} that are NaN or infinite of {n}")


def _require_same(
    when: str, policy: Policy, context: Context, mask: Bools, scores: Floats, pmf: Floats
) -> None:
    now = policy.score(context)
    _require(np.array_equal(now, scores), f"{when}, it scores the same page differently")
    probabilities = policy.explore(now, mask)
    _require(np.array_equal(probabilities, pmf), f"{when}, it gives other probabilities")


def _require(holds: object, reason: str) -> None:
    if not holds:
        raise BrokenLawError(reason)
