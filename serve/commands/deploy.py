"""The command `nextswipe deploy`, which writes the files that set up a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from serve.commands.settings import ConfigFile, StoreUrl, load_settings

EXAMPLE = "Example: nextswipe deploy deployment --own-redis --image registry.example/nextswipe:1"


def register(app: typer.Typer) -> None:
    """Add the command `deploy`."""
    app.command("deploy", epilog=EXAMPLE)(deploy)


def deploy(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write the files to.")],
    image: Annotated[
        str,
        typer.Option(metavar="NAME", help="Name of the container image; training uses NAME-train."),
    ] = "nextswipe:latest",
    min_replicas: Annotated[int, typer.Option(help="Minimum number of feed replicas.")] = 4,
    max_replicas: Annotated[int, typer.Option(help="Maximum number of feed replicas.")] = 64,
    own_redis: Annotated[
        bool, typer.Option("--own-redis", help="Set up a Redis beside the server.")
    ] = False,
    single_node: Annotated[
        bool,
        typer.Option(
            "--single-node", help="Run one pod with server.replicas; its log may be SQLite."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the files in the folder.")
    ] = False,
    config: ConfigFile = None,
    store: StoreUrl = None,
) -> None:
    """Write the files that set up a cluster: Serve config, KubeRay manifests, Dockerfile.

    The store must be one that all machines share, as a Redis is. Nothing is started. The address of
    the store is in kubernetes/store.yaml alone: keep that file private.
    """
    from serve.deploy.deploy import write_deployment
    from serve.processes.cluster import Cluster
    from serve.store.open import find_kind

    settings = load_settings(config, None, store)
    kind = find_kind(settings.store)
    cluster = Cluster(
        image,
        settings.store.url if kind.is_shared else "",
        kind.keeps_ray_state,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        single_node=single_node,
    )
    for path in write_deployment(folder, settings, cluster, own_redis=own_redis, force=force):
        typer.echo(path)
