"""What `nextswipe deploy` writes can be read, built and started with by whom it is for."""

import ast
import re
import shlex
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import typer
import yaml
from lines import tick
from ports import free_port
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.schema import ServeDeploySchema
from typer.testing import CliRunner
from waiting import DEADLINE_S

from serve.commands.main import app
from serve.config import Config, parse
from serve.deploy.deploy import write_deployment
from serve.deploy.manifests import CLIENT, OWN_REDIS, REDIS_SETTINGS, USER
from serve.processes.cluster import DATA, HOME, Cluster, args_of, config_of, environment
from serve.processes.edge import ALONE, FAST, TOGETHER
from serve.store.redis import RedisStore
from serve.store.store import StoreUnavailable

ROOT = Path(__file__).parents[3]
PASSWORD = "sesame"
URL = f"rediss://feed:{PASSWORD}@redis.example:6380/0"
SETTINGS = """
[server]
drain_s = 7.0
[store]
shards = 32
[feed]
eps = 0.05
explorer = { kind = "softmax", temperature = 0.5 }
[markets.GB]
languages = ["en"]
"""


@pytest.fixture(params=["own", "named", "single"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A deployment with a Redis of its own, with one that is there, and with SQLite in one pod."""
    url = URL if request.param == "named" else ""
    cluster = Cluster("registry.example/nextswipe:1", url, single_node=request.param == "single")
    target = tmp_path / "deployment"
    write_deployment(target, parse(SETTINGS), cluster, own_redis=request.param == "own")
    return target


def documents(folder: Path) -> list[dict[str, Any]]:
    """Return all resources."""
    return [
        document
        for path in sorted(folder.glob("**/*.yaml"))
        if path.name != "serve.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]


def of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [document for document in documents(folder) if document["kind"] == kind]


def inside(value: Any, key: str) -> Iterator[Any]:
    """Yield what stands under a key, however deep."""
    if isinstance(value, dict):
        for name, below in value.items():
            if name == key:
                yield below
            yield from inside(below, key)
    elif isinstance(value, list):
        for below in value:
            yield from inside(below, key)


def test_serve_accepts_its_config_and_builds_the_application(folder: Path, tmp_path: Path) -> None:
    written = yaml.safe_load((folder / "serve.yaml").read_text())
    (application,) = ServeDeploySchema.model_validate(written).applications
    args = dict(application.args)
    if args["store_file"] is not None:
        address = tmp_path / "url"
        address.write_text(URL + "\n")
        args["store_file"] = str(address)
    module, _, name = application.import_path.partition(":")
    builder = getattr(__import__(module, fromlist=[name]), name)
    built: Any = call_user_app_builder_with_args_if_necessary(builder, args)
    feed, learner = built._bound_deployment, built._bound_deployment.init_args[1]._bound_deployment
    assert [feed.name, learner.name] == [each.name for each in application.deployments]
    config = learner.init_args[0]
    assert (config.data.folder, config.store.shards, config.feed.eps) == (DATA, 32, 0.05)
    assert config.store.url == (URL if application.args["store_file"] else "")


def test_there_is_one_learner_and_the_feed_is_as_many_as_are_needed(folder: Path) -> None:
    written = yaml.safe_load((folder / "serve.yaml").read_text())
    feed, learner = written["applications"][0]["deployments"]
    assert (learner["num_replicas"], learner["max_surge_percent"]) == (1, 0)
    assert "autoscaling_config" not in learner
    assert feed["max_surge_percent"] > 0
    assert feed["graceful_shutdown_timeout_s"] > 7.0
    assert ("autoscaling_config" in feed) != ("num_replicas" in feed)
    single = not of_kind(folder, "PodDisruptionBudget")
    assert ("num_replicas" in feed) == single
    for deployment in (feed, learner):
        assert deployment["health_check_period_s"] > 0
        assert deployment["ray_actor_options"]["num_cpus"] == 1


def test_the_service_of_kuberay_has_the_same_config_and_room_for_it(folder: Path) -> None:
    (service,) = of_kind(folder, "RayService")
    assert service["spec"]["serveConfigV2"] == (folder / "serve.yaml").read_text()
    feed, _ = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    ray = service["spec"]["rayClusterConfig"]
    for group in ray.get("workerGroupSpecs", []):
        cpus = int(group["rayStartParams"]["num-cpus"])
        scale = feed["autoscaling_config"]
        assert group["minReplicas"] * cpus >= scale["min_replicas"] + 1
        surge = 1 + feed["max_surge_percent"] / 100
        assert group["maxReplicas"] * cpus >= scale["max_replicas"] * surge + 1
        assert group["minReplicas"] > 1, "one may die"
        assert ray["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    if "workerGroupSpecs" not in ray:
        assert int(ray["headGroupSpec"]["rayStartParams"]["num-cpus"]) == feed["num_replicas"] + 1


def test_pods_name_only_what_is_there(folder: Path) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in documents(folder)}
    for template in inside(documents(folder), "template"):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} - {"log"} <= volumes
    for claim in inside(documents(folder), "persistentVolumeClaim"):
        assert ("PersistentVolumeClaim", claim["claimName"]) in there
    for secret in inside(documents(folder), "secretName"):
        assert ("Secret", secret) in there
    for settings in inside(documents(folder), "configMap"):
        assert ("ConfigMap", settings["name"]) in there


def test_every_pod_is_started_with_the_switches_and_without_rights(folder: Path) -> None:
    (service,) = of_kind(folder, "RayService")
    wanted = environment(parse(SETTINGS))
    assert set(wanted) == {switch.name for switch in TOGETHER + FAST}
    assert ALONE[0].name not in wanted, "with it no second machine can join"
    for containers in inside(service, "containers"):
        for container in containers:
            assert {each["name"]: each["value"] for each in container["env"]} == wanted
    for template in inside(documents(folder), "template"):
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_who_may_reach_what_is_said_of_all_pods(folder: Path) -> None:
    labels = {
        template["metadata"]["labels"]["app"] for template in inside(documents(folder), "template")
    }
    policies = {
        each["spec"]["podSelector"]["matchLabels"]["app"]: each["spec"]["ingress"]
        for each in of_kind(folder, "NetworkPolicy")
    }
    assert set(policies) == labels
    to_all = [rule for rules in policies.values() for rule in rules if "from" not in rule]
    assert to_all == []
    (clients,) = [rule for rule in policies["nextswipe"] if CLIENT in str(rule)]
    assert clients["ports"] == [{"port": 8000}]


def test_the_address_of_the_store_is_in_the_secret_alone(tmp_path: Path) -> None:
    cluster = Cluster("nextswipe", URL)
    paths = write_deployment(tmp_path / "here", Config(), cluster, own_redis=False)
    holding = [path for path in paths if PASSWORD in path.read_text()]
    assert [path.name for path in holding] == ["store.yaml"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    (secret,) = of_kind(tmp_path / "here", "Secret")
    assert secret["stringData"] == {"url": URL, "username": "feed", "password": PASSWORD}
    (service,) = of_kind(tmp_path / "here", "RayService")
    remembered = service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    assert remembered["redisAddress"] == "rediss://redis.example:6380"
    keys = [each["key"] for each in inside(remembered, "secretKeyRef")]
    assert keys == ["username", "password"]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    """Run a Redis with the settings of the deployment's own; its address."""
    port, file = free_port(), tmp_path / "redis.conf"
    file.write_text(REDIS_SETTINGS.replace("dir /data", f"dir {tmp_path}"))
    command = ["redis-server", str(file), "--bind", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*command, "--logfile", str(tmp_path / "log")])
    url = OWN_REDIS.replace("nextswipe-redis:6379", f"127.0.0.1:{port}")
    try:
        wait_for(redis.Redis.from_url(url))
        yield url
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_a_redis_of_its_own_is_one_that_the_store_takes(own_redis: str) -> None:
    RedisStore(own_redis, lambda: 0, name="x", n_shards=1, durable=True).close()


def test_a_redis_of_its_own_is_full_before_its_pod_is_and_then_refuses_writes(
    own_redis: str, tmp_path: Path
) -> None:
    write_deployment(tmp_path / "here", Config(), Cluster("nextswipe", ""), own_redis=True)
    (server,) = of_kind(tmp_path / "here", "StatefulSet")
    (limits,) = inside(server, "limits")
    pod_bytes = int(limits["memory"].removesuffix("Gi")) * 2**30
    client = redis.Redis.from_url(own_redis)
    full_bytes = int(client.config_get("maxmemory")["maxmemory"] or 0)
    assert pod_bytes / 2 <= full_bytes <= pod_bytes * 3 / 4
    with RedisStore(own_redis, lambda: 0, name="x", n_shards=1, durable=True) as store:
        store.log.append([tick(1)], durable=True)
        client.config_set("maxmemory", "1mb")  # it holds about as much when it holds nothing
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            store.log.append([tick(2)], durable=True)
        client.config_set("maxmemory", full_bytes)
        store.log.append([tick(3)], durable=True)
        assert [line.record.at_ms for line in store.log.read()] == [1, 3]
    client.close()


def wait_for(client: "redis.Redis") -> None:
    end_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            assert time.monotonic() < end_s
            time.sleep(0.01)
    client.close()


def test_the_job_of_training_can_be_given(folder: Path) -> None:
    (job,) = of_kind(folder, "RayJob")
    program, *words = shlex.split(job["spec"]["entrypoint"])
    assert program == "nextswipe"
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    found.make_context(program, words)
    (container,) = next(inside(job, "containers"))
    assert container["image"] == "registry.example/nextswipe:1-train"


def test_the_images_are_made_of_what_is_here(folder: Path) -> None:
    text = (folder / "Dockerfile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = text.replace("\\\n", " ").splitlines()
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1]), line
    _, *parts = re.split(r"^FROM \S+ \S+ AS |^FROM \S+ AS ", text, flags=re.MULTILINE)
    stages = {name: body for name, _, body in (part.partition("\n") for part in parts)}
    assert set(stages) == {"base", "train", "serve"}
    assert re.findall(r"\.\[(\w+)\]", text) == ["train"]
    assert "train" in extras["optional-dependencies"]
    assert "pip install --constraint constraints.txt .\n" in stages["serve"], "without an extra"
    assert f"--uid {USER} " in stages["base"]
    assert f" {HOME} " in stages["base"]
    assert all("USER nextswipe" in stages[name] for name in ("train", "serve"))
    for program in re.findall(r'python -c "([^"]*)"', text):
        ast.parse(program)
    assert f"Path('{HOME}')" in text


def test_settings_are_those_that_were_given() -> None:
    config = parse(SETTINGS)
    args = args_of(config, None, config.data.folder)
    assert config_of(args) == config
    assert set(args["settings"]) == {"server", "store", "feed", "markets"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "SQLite in data, a file on one machine's disk"),
        (["--own-redis", "--single-node"], "--own-redis alone"),
        (["--own-redis", "--store", "redis://h/0"], "--own-redis alone"),
        (["--own-redis", "--min-replicas", "9", "--max-replicas", "8"], "got 9 and 8"),
        (["--own-redis", "--min-replicas", "0"], "got 0 and 64"),
        (["--store", "mysql://h"], "redis://, rediss://, got mysql://"),
    ],
)
def test_what_cannot_be_deployed_is_refused_in_words(
    options: list[str], message: str, tmp_path: Path
) -> None:
    got = CliRunner().invoke(app, ["deploy", str(tmp_path / "d"), *options])
    assert got.exit_code == 2
    assert message in got.output
    assert not (tmp_path / "d").exists()


def test_the_command_writes_the_same_again_and_over_nothing_unasked(tmp_path: Path) -> None:
    command = ["deploy", str(tmp_path), "--own-redis"]
    assert CliRunner().invoke(app, command).exit_code == 0
    first = {path: path.read_bytes() for path in tmp_path.glob("**/*") if path.is_file()}
    assert "--force" in CliRunner().invoke(app, command).output
    (tmp_path / "serve.yaml").write_text("mine")
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    assert {path: path.read_bytes() for path in first} == first
