"""Finds a policy of one's own by its name MODULE:FUNCTION, and hashes its code.

The function is either marked as one from features to scores (`policies.custom.scores`), or a
factory that takes nothing and returns a fresh `Policy`. Its module is looked for in a given folder
first, then among the installed ones. The code is the operator's own and runs inside the server;
nothing here confines it. Coverage of the hash: `find_sources`.
"""

import ast
import hashlib
import importlib
import importlib.machinery
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from env.interface import KeptLearner, Policy
from policies.custom.scores import ScoredPolicy, ScoreFunction
from policies.explorers import AnyExplorer

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""What a name looks like."""

_OURS = frozenset({"env", "policies", "replay", "serve"})
_HOME = Path(__file__).parents[2]
_STAMPS = "__nextswipe_sources__"
"""Under this name a policy's module keeps the hashes of the sources that it was loaded from."""


class CustomPolicyError(ValueError):
    """A policy of one's own cannot be used; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class CustomCode:
    """A policy of one's own as its module gives it.

    Attributes:
        name: MODULE:FUNCTION.
        code: hash of its code, 32 hex digits.
        entry: the function.
    """

    name: str
    code: str
    entry: Callable[..., object]

    @property
    def takes_explorer(self) -> bool:
        """Whether it is a function from features to scores, which an explorer is added to."""
        return isinstance(self.entry, ScoreFunction)

    def make(self, explorer: AnyExplorer) -> Policy:
        """Return a fresh policy that has learned nothing.

        Args:
            explorer: of the arm; a factory's policy has its own.

        Raises:
            CustomPolicyError: the factory fails, or returns something else.
        """
        if isinstance(self.entry, ScoreFunction):
            return ScoredPolicy(self.name, self.entry, explorer)
        try:
            made = self.entry()
        except (Exception, SystemExit) as error:
            raise CustomPolicyError(f"{self.name}: the factory raised {say(error)}") from error
        _require_policy(self.name, made)
        return cast("Policy", made)

    def learner(self, explorer: AnyExplorer) -> KeptLearner | None:
        """Return a fresh policy if it is one that learns.

        Raises:
            CustomPolicyError: see `make`.
        """
        made = self.make(explorer)
        return cast("KeptLearner", made) if hasattr(made, "learn") else None


def load(name: str, folder: Path) -> CustomCode:
    """Return the policy of a name.

    Args:
        name: MODULE:FUNCTION.
        folder: where its module is looked for first.

    Raises:
        CustomPolicyError: no such module or function, or one of a wrong signature.
    """
    found = load_function(name, folder)
    _require_entry(name, found.entry)
    return found


def load_function(name: str, folder: Path) -> CustomCode:
    """Return what a name stands for, whatever it is; see `load`.

    Raises:
        CustomPolicyError: no such module or function.
    """
    if not NAME.fullmatch(name):
        raise CustomPolicyError(f"expected a name like module:function, got {name!r}")
    module_name, _, function_name = name.partition(":")
    folder = folder.resolve()
    with _found_first(folder), _no_bytecode():
        sources = find_sources(module_name, folder)
        if not sources:
            raise CustomPolicyError(
                f"{name}: found no module {module_name}, neither in {folder} nor installed"
            )
        texts = {dotted: path.read_bytes() for dotted, path in sources.items()}
        digests = {dotted: _digest(text) for dotted, text in texts.items()}
        _forget_stale(name, sources, digests)
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            raise CustomPolicyError(f"{name}: importing it raised {say(error)}") from error
    vars(module)[_STAMPS] = digests
    entry = getattr(module, function_name, None)
    if entry is None:
        raise CustomPolicyError(f"{name}: {sources[module_name]} has no {function_name}")
    if not callable(entry):
        raise CustomPolicyError(f"{name}: expected a function, got {type(entry).__name__}")
    return CustomCode(name, hash_sources(texts), entry)


def hash_sources(texts: Mapping[str, bytes]) -> str:
    """Return the hash of modules' sources by dotted name, 32 hex digits."""
    total = hashlib.sha256()
    for dotted in sorted(texts):
        total.update(f"{dotted} {len(texts[dotted])}\n".encode())
        total.update(texts[dotted])
    return total.hexdigest()[:32]


def find_sources(module_name: str, folder: Path) -> dict[str, Path]:
    """Return the files whose sources are hashed, by dotted name; empty: there is no such module.

    They are those of the module and of every module that it imports, directly or through another,
    as far as these belong to the same top-level package or lie in the same folder. So a changed
    comment is changed code, while libraries, files that the code reads, and modules that it imports
    by a computed name are not in the hash.

    Args:
        module_name: of the policy.
        folder: what lies in it belongs to the code; it is the first of `sys.path`.
    """
    top = module_name.partition(".")[0]
    root = _root_of(top)
    if root is None or _file_of(root, module_name) is None:
        return {}
    found: dict[str, Path] = {}
    waiting = [module_name]
    while waiting:
        dotted = waiting.pop()
        first, _, rest = dotted.partition(".")
        home = root if first == top else folder
        path = None if first != top and first in _OURS else _file_of(home, dotted)
        if path is None or dotted in found:
            continue
        found[dotted] = path
        waiting += [dotted.rpartition(".")[0]] if rest else []
        waiting += _imported(dotted, path)
    return found


def say(error: BaseException) -> str:
    """Return an exception in one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _root_of(top: str) -> Path | None:
    """Return the folder in which a top-level module lies."""
    if top in _OURS:
        return _HOME
    spec = importlib.machinery.PathFinder.find_spec(top)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return None if spec.origin is None else Path(spec.origin).parent


def _file_of(root: Path, dotted: str) -> Path | None:
    base = root.joinpath(*dotted.split("."))
    places = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((path for path in places if path.is_file()), None)


def _imported(dotted: str, path: Path) -> Iterator[str]:
    """Yield what a module may import, by dotted name; of what is not there too."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # importing it will say so
    package = dotted if path.name == "__init__.py" else dotted.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                parts = above if node.level else []
                base = ".".join([*filter(None, parts), *filter(None, [node.module])])
                yield from (base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names))
            case _:
                pass


@contextmanager
def _found_first(folder: Path) -> Iterator[None]:
    """Look for modules in a folder first; afterwards last, for what is imported when called."""
    here = str(folder)
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Write no compiled files: Python tells a changed source by seconds and size alone."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _forget_stale(name: str, sources: Mapping[str, Path], digests: Mapping[str, str]) -> None:
    """Have changed modules imported anew that an earlier call in this process has loaded.

    Raises:
        CustomPolicyError: another module of one of these names is in use, which is not ours to end.
    """
    known: dict[str, str] = {}
    for loaded in list(sys.modules.values()):
        known |= getattr(loaded, "__dict__", {}).get(_STAMPS, {})
    is_stale = False
    for dotted, path in sources.items():
        if dotted not in sys.modules:
            continue
        module = sys.modules[dotted]
        is_here = Path(getattr(module, "__file__", None) or "").resolve() == path.resolve()
        if dotted not in known and not is_here:
            raise CustomPolicyError(
                f"{name}: {path} has the name of the module {dotted} that is in use: rename it"
            )
        is_stale |= not is_here or known.get(dotted, digests[dotted]) != digests[dotted]
    if is_stale:
        for dotted in sources:
            module_gone = sys.modules.pop(dotted, None)
            for other in getattr(module_gone, "__dict__", {}).get(_STAMPS, {}):
                sys.modules.pop(other, None)  # what only it had imported


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _require_entry(name: str, entry: Callable[..., object]) -> None:
    is_marked = isinstance(entry, ScoreFunction)
    called = entry.function if isinstance(entry, ScoreFunction) else entry
    if _takes(called, 1 if is_marked else 0):
        return
    if is_marked:
        raise CustomPolicyError(
            f"{name}: expected a function of one argument, the features; it takes {_shown(called)}"
        )
    raise CustomPolicyError(
        f"{name}: expected a factory that takes nothing and returns a policy, it takes "
        f"{_shown(called)}; mark a function from features to scores with "
        "policies.custom.scores.scores_features"
    )


def _require_policy(name: str, made: object) -> None:
    kind = type(made).__name__
    lacking = [part for part in ("name", "explorer", "score", "explore") if not hasattr(made, part)]
    if lacking:
        raise CustomPolicyError(
            f"{name}: expected a policy (env.interface.Policy), got {kind} "
            f"without {', '.join(lacking)}"
        )
    learns = hasattr(made, "learn")
    if learns and not (hasattr(made, "dumps") and hasattr(made, "loads")):
        raise CustomPolicyError(
            f"{name}: expected dumps() and loads(state) of a policy that learns, got {kind} without"
        )
    methods = {"score": 1, "explore": 2, **({"learn": 1, "dumps": 0, "loads": 1} if learns else {})}
    for method, n in methods.items():
        if not _takes(getattr(made, method), n):
            raise CustomPolicyError(
                f"{name}: expected {kind}.{method} to take {n} arguments, "
                f"it takes {_shown(getattr(made, method))}"
            )


def _takes(called: object, n: int) -> bool:
    if not callable(called):
        return False
    try:
        inspect.signature(called).bind(*range(n))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _shown(called: object) -> str:
    try:
        return str(inspect.signature(called)) if callable(called) else "nothing: it is no function"
    except (TypeError, ValueError):
        return "something else"
