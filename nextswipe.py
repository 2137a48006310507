"""The door of the distribution: it checks that its packages are the ones that Python would import.

The packages are called `env`, `policies`, `replay` and `serve`. A folder of one of these names that
stands earlier on Python's path, such as one beside a script, would be imported in their place. This
module has a name that collides with nothing, imports nothing of them before it has looked, and runs
the command line: `python -m nextswipe`.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

PACKAGES = {"env": "vocabulary", "policies": "explorers", "replay": "source", "serve": "config"}
"""A module of each package that is surely there."""


class NameTaken(ImportError):  # noqa: N818 - it tells what happened
    """A folder of somebody else's is in the way of one of our packages."""


def require_own_packages() -> None:
    """Check that each of our packages is the one that Python would import.

    Raises:
        NameTaken: names the folder that is in the way, and the remedy.
    """
    home = Path(__file__).resolve().parent
    for package, module in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        places = (
            [] if spec is None else list(spec.submodule_search_locations or [spec.origin or ""])
        )
        if not places:
            raise NameTaken(
                f"expected the package {package!r} in {home}, found none: install nextswipe again"
            )
        found = Path(places[0]).resolve()
        if found != home / package or not (found / f"{module}.py").is_file():
            raise NameTaken(
                f"expected the package {package!r} of nextswipe in {home}, got {found}, which is "
                "in the way: rename it, or keep it off Python's path (docs/depend.md)"
            )


def main() -> None:
    """Run the command line."""
    try:
        require_own_packages()
    except NameTaken as error:
        sys.stderr.write(f"nextswipe: {error}\n")
        sys.exit(2)
    # By name, and only now: nothing of it can be imported while another folder is in the way.
    importlib.import_module("serve.commands.main").app(prog_name="nextswipe")


if __name__ == "__main__":
    main()
