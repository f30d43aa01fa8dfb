"""The sizing benchmark measures what it says, and a customer stays within the stated room."""

from __future__ import annotations

from pathlib import Path

from benchmarks.sizing import measure


def test_p9_a_customer_takes_a_few_kilobytes_of_redis_and_a_timer_about_a_hundred_bytes(
    tmp_path: Path,
) -> None:
    found = measure(1_000, tmp_path)
    assert found["timers"] == 500
    assert found["document_bytes"] < found["redis_bytes"] < 1.5 * found["document_bytes"]
    assert 1_000 < found["bytes_per_customer"] < 5_000
    assert 40 < found["bytes_per_timer"] < 200
    assert found["worker_bytes_per_customer"] > found["bytes_per_customer"]
