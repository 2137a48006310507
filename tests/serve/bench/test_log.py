"""The throughput of the log: small here, but through real sockets and with a real replica."""

import pytest
from redises import shared_url
from servers import START_MS

from replay.log.redis.client import RedisClient
from serve.bench.log import LogSize, run_log
from serve.config import StoreSettings


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_what_was_acknowledged_is_logged_and_timed(store: str) -> None:
    told: list[tuple[str, int, int]] = []
    size = LogSize(events=1_000, posters=8, rate=2_000.0)
    url = shared_url() if store == "redis" else ""
    result = run_log(
        size, store=StoreSettings(url), now_ms=START_MS, advance=lambda *step: told.append(step)
    )
    assert (result.store, result.size) == (store, size)
    assert result.events_acked == result.events_logged == 2 * size.events
    assert result.events_per_s > 0.0
    assert result.paced_events_per_s <= 1.1 * size.rate, "batches were due at that rate"
    assert 0.0 < result.ack_p50_ms <= result.ack_p99_ms
    assert result.fsync_p50_ms > 0.0
    assert result.ack_p99_ratio == result.ack_p99_ms / max(result.fsync_p50_ms, 1.0)
    assert (result.memory is None) == (store == "sqlite")
    if result.memory is not None:
        assert 0 < result.memory.event < result.memory.item < result.memory.page < 100_000
        client = RedisClient(url)
        assert not [key for key in client.ask("KEYS", "*") if key.startswith(b"{bench-")]
        client.close()
    assert {name for name, _, _ in told} == {"draw pages", "post closed", "post paced"}
