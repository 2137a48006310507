"""The job of `nextswipe deploy`: writes the folder that sets up a cluster.

    DIR/serve.yaml               Serve config for an existing Ray cluster: `serve deploy`
    DIR/kubernetes/*.yaml        KubeRay resources, applied together; they include the Serve config
    DIR/train-retention.yaml     a training job, applied on demand
    DIR/Dockerfile               the container images

Equal inputs give equal files. The operator may edit them; they are overwritten on demand only.
"""

from pathlib import Path
from typing import Any

import msgspec
import yaml

from serve.config import Config
from serve.deploy import manifests
from serve.errors import JobError
from serve.processes.cluster import Cluster, require_shared, serve_config

DOCKERFILE = Path(__file__).with_name("Dockerfile")
SECRET = "kubernetes/store.yaml"  # noqa: S105 - the name of a file


def write_deployment(
    folder: Path, config: Config, cluster: Cluster, *, own_redis: bool, force: bool = False
) -> list[Path]:
    """Write the folder; return its files.

    Args:
        folder: must be missing or empty, without `force`.
        cluster: size, and the address of an existing store, if any.
        own_redis: set up a Redis beside the server.
        force: overwrite the files in the folder.

    Raises:
        JobError: the store is a file that machines cannot share, or the folder is not empty.
    """
    require_shared(config, cluster, own_redis=own_redis)
    if folder.exists() and any(folder.iterdir()) and not force:
        raise JobError(f"{folder} holds something: expected an empty folder, or --force")
    if own_redis:
        cluster = msgspec.structs.replace(cluster, store=manifests.OWN_REDIS, keeps_ray_state=True)
    return [
        _write(folder / name, text, is_private=name == SECRET)
        for name, text in files(config, cluster, own_redis=own_redis).items()
    ]


def files(config: Config, cluster: Cluster, *, own_redis: bool) -> dict[str, str]:
    """Return the text of each file, by its path in the folder."""
    served = to_yaml(serve_config(config, cluster))
    found = {
        "serve.yaml": served,
        "kubernetes/volume.yaml": to_yaml(manifests.volume(cluster)),
        "kubernetes/service.yaml": to_yaml(*manifests.service(config, cluster, served)),
        "train-retention.yaml": to_yaml(*manifests.training(cluster)),
        "Dockerfile": DOCKERFILE.read_text(),
    }
    if cluster.store:
        found[SECRET] = to_yaml(manifests.store_secret(cluster.store))
    if own_redis:
        found["kubernetes/redis.yaml"] = to_yaml(*manifests.redis())
    return found


def to_yaml(*documents: dict[str, Any]) -> str:
    """Return the documents as YAML, with keys in order and multi-line texts as blocks."""
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=100)


class _Plain(yaml.SafeDumper):
    """Writes repeated values in full, because some of KubeRay's readers fail on references."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _represent_text)


def _write(path: Path, text: str, *, is_private: bool) -> Path:
    """Write a file; a private one is readable by its owner only, from its first byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600 if is_private else 0o644)
    path.write_text(text)
    return path
