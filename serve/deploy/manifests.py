"""Kubernetes resources of a cluster, as data: a `RayService`, a training `RayJob`, and their needs.

Their needs are the shared volume, the secret with the store's address, and a Redis if none is
given. Network policies admit only the installation's own pods to Ray's dashboard and to Redis, and
only pods labelled `CLIENT` to the feed. Reasons: `docs/decisions/jobs-kubernetes.md`.
"""

from typing import Any
from urllib.parse import urlsplit

from serve.config import Config
from serve.processes.cluster import (
    CPUS_A_POD,
    DATA,
    PORT,
    REPLICAS_A_POD,
    STORE_FILE,
    Cluster,
    environment,
)

Resource = dict[str, Any]
NAME = "nextswipe"
TRAINING = "nextswipe-training"
REDIS = "nextswipe-redis"
REDIS_IMAGE = "redis:7.2"
REDIS_PORT = 6379
OWN_REDIS = f"redis://{REDIS}:{REDIS_PORT}/0"
CLIENT = "nextswipe-client"
STORE = "nextswipe-store"
VOLUME = "nextswipe-data"
USER = 1000
GRACE_S = 60
TRAINING_CPUS = 8
OBJECT_STORE = 100_000_000
"""Bytes of Ray's object store on each node; the feed puts nothing there."""

REDIS_POD_GIB = 16
REDIS_FULL_GIB = REDIS_POD_GIB * 5 // 8
"""Memory limit; the rest is for pages written while it rewrites its file."""

REDIS_SETTINGS = f"""\
dir /data
save ""
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
maxmemory {REDIS_FULL_GIB}gb
maxmemory-policy noeviction
"""
"""A write is on disk before it is acknowledged, or refused if memory is full: docs/stores.md."""


def volume(cluster: Cluster) -> Resource:
    """Return the claim of the data folder, writable by all pods or by the only one."""
    mode = "ReadWriteOnce" if cluster.single_node else "ReadWriteMany"
    return _resource("v1", "PersistentVolumeClaim", VOLUME) | {
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "20Gi"}}}
    }


def store_secret(url: str) -> Resource:
    """Return the secret with the store's address, and its parts as KubeRay needs them."""
    parts = urlsplit(url)
    told = {"url": url, "username": parts.username or "", "password": parts.password or ""}
    return _resource("v1", "Secret", STORE) | {"type": "Opaque", "stringData": told}


def redis() -> list[Resource]:
    """Return the installation's own Redis: settings, server, service and network policy."""
    return [
        _resource("v1", "ConfigMap", REDIS) | {"data": {"redis.conf": REDIS_SETTINGS}},
        _resource("v1", "Service", REDIS)
        | {"spec": {"selector": {"app": REDIS}, "ports": [{"port": REDIS_PORT}]}},
        _resource("apps/v1", "StatefulSet", REDIS) | {"spec": _redis_server()},
        _policy(REDIS, [_from_pods({"app": NAME}, REDIS_PORT)]),
    ]


def service(config: Config, cluster: Cluster, serve_config: str) -> list[Resource]:
    """Return the server, its network policy and its disruption budget.

    Args:
        cluster: with the address of its store, if any.
        serve_config: the Serve config, as YAML.
    """
    spec = {
        "serveConfigV2": serve_config,
        "rayClusterConfig": _serving(config, cluster),
        # An upgrade runs two clusters for a while, and the second one's learner takes over. A file
        # that only one pod may open does not allow that.
        "upgradeStrategy": {"type": "None" if cluster.single_node else "NewCluster"},
    }
    clients = {"namespaceSelector": {}, **_labelled({CLIENT: "true"})}
    reach = [
        {"from": [_labelled({"app": NAME}), _OPERATOR]},
        {"from": [clients], "ports": [{"port": PORT}]},
    ]
    return [
        _resource("ray.io/v1", "RayService", NAME) | {"spec": spec},
        _policy(NAME, reach),
        *([] if cluster.single_node else [_budget(cluster)]),
    ]


def training(cluster: Cluster) -> list[Resource]:
    """Return the job that trains a retention ranker, and its network policy.

    A retry resumes an interrupted training.
    """
    pod = _pod(f"{cluster.image}-train", "train", str(TRAINING_CPUS), "16Gi", [_DATA], {})
    job = _resource("ray.io/v1", "RayJob", TRAINING) | {
        "spec": {
            "entrypoint": f"nextswipe train retention search {DATA}/training "
            "--features feed --resume",
            # The operator submits the job, so no further pod has to reach the dashboard.
            "submissionMode": "HTTPMode",
            "backoffLimit": 3,
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": {"headGroupSpec": {"rayStartParams": {}, "template": pod}},
        }
    }
    return [job, _policy(TRAINING, [{"from": [_labelled({"app": TRAINING}), _OPERATOR]}])]


def _serving(config: Config, cluster: Cluster) -> Resource:
    """Return the Ray cluster: a head without replicas, and autoscaled pods with replicas."""
    mounts = [_DATA, _ADDRESS] if cluster.store else [_DATA]
    variables = environment(config)
    if cluster.single_node:
        n_cpus = config.server.replicas + 1
        pod = _pod(cluster.image, "head", str(n_cpus + 1), f"{2 + n_cpus}Gi", mounts, variables)
        return {"headGroupSpec": _group(pod, n_cpus)}
    head = _pod(cluster.image, "head", "2", "4Gi", mounts, variables)
    feed = _pod(cluster.image, "feed", str(CPUS_A_POD), "8Gi", mounts, variables)
    least = cluster.pods(cluster.min_replicas)
    remembered = _remembered(cluster.store) if cluster.keeps_ray_state else None
    return {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": 300},
        **({"gcsFaultToleranceOptions": remembered} if remembered else {}),
        "headGroupSpec": _group(head, 0),
        "workerGroupSpecs": [
            {
                "groupName": "feed",
                "replicas": least,
                "minReplicas": least,
                # Allow a quarter more during an update.
                "maxReplicas": cluster.pods(cluster.max_replicas * 5 // 4),
                **_group(feed, REPLICAS_A_POD),
            }
        ],
    }


def _group(pod: Resource, n_cpus: int) -> Resource:
    params = {"num-cpus": str(n_cpus), "object-store-memory": str(OBJECT_STORE)}
    return {"rayStartParams": params, "template": pod}


def _remembered(url: str) -> Resource:
    """Return the Redis that stores the state of Ray's head, so that the head can be restarted."""
    parts = urlsplit(url)
    scheme = "rediss://" if parts.scheme == "rediss" else ""
    options: Resource = {"redisAddress": f"{scheme}{parts.hostname}:{parts.port or REDIS_PORT}"}
    for key, given in (("username", parts.username), ("password", parts.password)):
        if given:
            reference = {"secretKeyRef": {"name": STORE, "key": key}}
            options[f"redis{key.title()}"] = {"valueFrom": reference}
    return options


_DATA: tuple[Resource, Resource] = (
    {"name": "data", "persistentVolumeClaim": {"claimName": VOLUME}},
    {"name": "data", "mountPath": DATA},
)

_ADDRESS: tuple[Resource, Resource] = (
    {"name": "store", "secret": {"secretName": STORE, "items": [{"key": "url", "path": "url"}]}},
    {"name": "store", "mountPath": STORE_FILE.rpartition("/")[0], "readOnly": True},
)


def _pod(
    image: str,
    role: str,
    cpus: str,
    memory: str,
    mounts: list[tuple[Resource, Resource]],
    variables: dict[str, str],
) -> Resource:
    app = TRAINING if role == "train" else NAME
    container = {
        "name": role,
        "image": image,
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": _exactly(cpus, memory),
        "volumeMounts": [mount for _, mount in mounts],
        "securityContext": _UNPRIVILEGED,
    }
    if role != "train":
        container["ports"] = [{"name": "serve", "containerPort": PORT}]
    return {
        "metadata": {"labels": {"app": app, "role": role}},
        "spec": {
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER},
            "topologySpreadConstraints": [_apart(app)],
            "containers": [container],
            "volumes": [each for each, _ in mounts],
        },
    }


def _budget(cluster: Cluster) -> Resource:
    """Return a budget that lets at most one permanent pod be evicted at a time.

    It is an absolute number, because KubeRay's pods have no controller that reports a desired
    count.
    """
    least = cluster.pods(cluster.min_replicas) - 1
    labels = {"matchLabels": {"app": NAME, "role": "feed"}}
    return _resource("policy/v1", "PodDisruptionBudget", NAME) | {
        "spec": {"minAvailable": least, "selector": labels}
    }


def _apart(app: str) -> Resource:
    """Return a preference to spread pods over machines, so that losing one takes one pod."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": app}},
    }


def _redis_server() -> Resource:
    container = {
        "name": "redis",
        "image": REDIS_IMAGE,
        "args": ["redis-server", "/etc/redis/redis.conf"],
        "ports": [{"containerPort": REDIS_PORT}],
        "readinessProbe": {"exec": {"command": ["redis-cli", "ping"]}, "timeoutSeconds": 5},
        "resources": _exactly("2", f"{REDIS_POD_GIB}Gi"),
        "securityContext": _UNPRIVILEGED,
        "volumeMounts": [
            {"name": "log", "mountPath": "/data"},
            {"name": "settings", "mountPath": "/etc/redis"},
        ],
    }
    disk = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Gi"}}}
    return {
        "serviceName": REDIS,
        "replicas": 1,
        "selector": {"matchLabels": {"app": REDIS}},
        "template": {
            "metadata": {"labels": {"app": REDIS}},
            "spec": {
                "terminationGracePeriodSeconds": GRACE_S,
                "securityContext": {"runAsNonRoot": True, "runAsUser": 999, "fsGroup": 999},
                "containers": [container],
                "volumes": [{"name": "settings", "configMap": {"name": REDIS}}],
            },
        },
        "volumeClaimTemplates": [{"metadata": {"name": "log"}, "spec": disk}],
    }


_UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _exactly(cpus: str, memory: str) -> Resource:
    amount = {"cpu": cpus, "memory": memory}
    return {"requests": amount, "limits": amount}


def _policy(app: str, reach: list[Resource]) -> Resource:
    spec = {**_labelled({"app": app}), "policyTypes": ["Ingress"], "ingress": reach}
    return _resource("networking.k8s.io/v1", "NetworkPolicy", app) | {"spec": spec}


def _from_pods(labels: dict[str, str], port: int) -> Resource:
    return {"from": [_labelled(labels)], "ports": [{"port": port}]}


def _labelled(labels: dict[str, str]) -> Resource:
    return {"podSelector": {"matchLabels": labels}}


def _resource(version: str, kind: str, name: str) -> Resource:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


_OPERATOR = {"namespaceSelector": {}, **_labelled({"app.kubernetes.io/name": "kuberay-operator"})}
