"""What we override or lean on inside Faust, mode and aiokafka is still what we have read.

Their private methods may change with any release. The versions are pinned; this test makes an
upgrade stop here until somebody has read the changes. `python -m tests.unit.test_overrides`
prints the table for the versions that are installed.
"""

from __future__ import annotations

import hashlib
import inspect
from importlib import import_module
from importlib.metadata import version
from typing import Any

import pytest

VERSIONS = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "mode-streaming": "0.7.1"}

READ = {
    "faust.transport.consumer": {
        "Consumer.__init__": "302410d59e69",
        "Consumer.on_partitions_revoked": "d04b7ae72c6f",
        "Consumer.on_partitions_assigned": "29ce96596f05",
        "Consumer.perform_seek": "0e8c130ff4b0",
        "Consumer.on_stop": "45b1d2210ce2",
        "Consumer.commit": "a354437baaa0",
        "Consumer.commit_and_end_transactions": "892377824b11",
        "Consumer._commit_handler": "4e5da5df0730",
        "Consumer._drain_messages": "44a2500309e8",
        "Consumer.on_buffer_full": "c8961679e0bc",
        "Consumer.on_buffer_drop": "4b57e8a418d5",
        "Consumer.stop_flow": "cf7e875a2b0d",
        "Consumer.resume_flow": "db59630f25b5",
        "Consumer._commit_livelock_detector": "af196ff46fd4",
        "Fetcher._fetcher": "68f894f0b577",
        "Fetcher.on_stop": "21f3bae9b455",
        "ConsumerThread.on_partitions_revoked": "c44013f1259c",
        "ConsumerThread.on_partitions_assigned": "e59e8dda4372",
        "ThreadDelegateConsumer.__init__": "7072ae80eac1",
        "ThreadDelegateConsumer.threadsafe_partitions_revoked": "6c55d67e9eb0",
        "ThreadDelegateConsumer.threadsafe_partitions_assigned": "50fac26841ad",
    },
    "faust.transport.drivers.aiokafka": {
        "ConsumerRebalanceListener": "f3d04f29dfb3",
        "Consumer._new_consumer_thread": "0870ec53dea7",
        "AIOKafkaConsumerThread.__post_init__": "913dc7c0d957",
        "AIOKafkaConsumerThread.on_start": "38b4e8bd1e10",
        "AIOKafkaConsumerThread.on_thread_stop": "8dfc004e258b",
        "AIOKafkaConsumerThread._create_consumer": "a4dc6ba0681a",
        "AIOKafkaConsumerThread._create_worker_consumer": "c2701bfc3e6f",
        "AIOKafkaConsumerThread.close": "d22efc59a1df",
        "AIOKafkaConsumerThread.subscribe": "74f90b8c8cbc",
        "AIOKafkaConsumerThread._commit": "932852ce7a23",
        "AIOKafkaConsumerThread._seek_wait": "9d221e816d94",
        "AIOKafkaConsumerThread.assignment": "61f105132ae6",
        "AIOKafkaConsumerThread.topic_partitions": "8e5084fa9734",
        "AIOKafkaConsumerThread.verify_event_path": "b983e7735f64",
        "Producer._settings_default": "9c39987fb719",
        "Producer._settings_extra": "a4c7bc41b638",
        "Producer._new_producer": "e72355c3430e",
        "Producer._ensure_producer": "5592a4bbdf25",
        "Producer.on_start": "219c9a7a785d",
        "Producer.on_stop": "86799c5ab7b6",
        "Producer.flush": "36d0cb3615f6",
        "server_list": "5a13d9708b3c",
    },
    "faust.app.base": {
        "App._new_transport": "42db531312dd",
        "App._new_producer_transport": "eb3b4aa6a896",
        "App._create_directories": "a9f571c3b04a",
        "App._on_partitions_revoked": "d5c895bbe57d",
        "App._on_partitions_assigned": "de932b7927db",
        "App._stop_consumer": "55854a5de12c",
        "App._on_rebalance_when_stopped": "1b172d9af8ff",
        "App.on_started": "c03627f2dc44",
        "App.on_stop": "bfe5a933defb",
        "App.on_rebalance_start": "5c1e23de3067",
    },
    "faust.tables.recovery": {
        "Recovery.on_rebalance": "aa4d997a1795",
        "Recovery._resume_streams": "d986a6710c1a",
        "Recovery._restart_recovery": "6bd8a8558a2d",
        "Recovery._wait": "ec7429b70176",
    },
    "faust.tables.manager": {
        "TableManager.on_start": "365dd25fbc0e",
        "TableManager.on_rebalance": "2d2c23a07bf5",
        "TableManager.wait_until_recovery_completed": "e0f224aba177",
    },
    "faust.transport.conductor": {
        "Conductor._subscriber": "2a7908583404",
        "Conductor._update_indices": "619b3247b96a",
        "Conductor.on_partitions_assigned": "616e9729131c",
    },
    "faust.assignor.partition_assignor": {
        "PartitionAssignor.__init__": "64cb8790c572",
        "PartitionAssignor._perform_assignment": "1e0bf2c5c8f4",
        "PartitionAssignor._get_copartitioned_groups": "82b7a3764ad5",
        "PartitionAssignor.on_assignment": "72f34bf053d6",
    },
    "faust.types.settings.base": {
        "SettingsRegistry._init_settings": "73b1705b4f9d",
    },
    "faust.types.settings.settings": {
        "Settings.getenv": "2277ed5c749d",
    },
    "aiokafka.consumer.fetcher": {
        "FetchResult": "d7db13f06de8",
        "PartitionRecords": "94aa0da0dbec",
        "Fetcher.__init__": "bf21ecb7e0f2",
        "Fetcher.close": "1cd24bc1c442",
        "Fetcher._create_fetch_waiter": "61d840568746",
        "Fetcher.error_future": "255f98d81bc7",
        "Fetcher._fetch_requests_routine": "2a8ec5932644",
        "Fetcher._get_actions_per_node": "1dab2cf937d1",
        "Fetcher._proc_fetch_request": "59bf948fff47",
        "Fetcher._set_error": "d29810f3f509",
        "Fetcher._update_fetch_positions": "d7774d8241dc",
        "Fetcher.fetched_records": "be4348896b9b",
        "Fetcher.seek_to": "f0ba6aba6c22",
    },
    "aiokafka.consumer.subscription_state": {
        "TopicPartitionState": "2b83334afadf",
        "Assignment": "ce6859542c70",
        "SubscriptionState.fetch_context": "ff2a654dca23",
        "SubscriptionState.reassignment_in_progress": "6876e75ff981",
    },
    "aiokafka.consumer.group_coordinator": {
        "GroupCoordinator.check_errors": "ba6ca51ad348",
        "GroupCoordinator._push_error_to_user": "743ff515bd7e",
        "GroupCoordinator._maybe_leave_group": "016cd88a16e6",
        "GroupCoordinator._on_join_prepare": "4d9524afc0ee",
        "GroupCoordinator._on_join_complete": "0b0b3d204b40",
        "GroupCoordinator.commit_offsets": "5cbe31af28d6",
    },
    "aiokafka.consumer.consumer": {
        "AIOKafkaConsumer.start": "2f1ba7044332",
        "AIOKafkaConsumer.stop": "bc5da9c98595",
        "AIOKafkaConsumer.commit": "79b057d88220",
        "AIOKafkaConsumer.beginning_offsets": "8da4f7758ad4",
        "AIOKafkaConsumer.end_offsets": "f4b190785818",
    },
    "aiokafka.producer.producer": {
        "AIOKafkaProducer.create_batch": "c4efda4bb7a0",
        "AIOKafkaProducer.send_batch": "bf42b0f0c5c0",
    },
    "aiokafka.producer.message_accumulator": {
        "BatchBuilder.append": "657d76f55157",
        "BatchBuilder.close": "084fb8748d27",
        "MessageAccumulator.add_batch": "5ed1c5b1367a",
        "MessageBatch.done": "2d765e5c2dc8",
    },
    "aiokafka.producer.sender": {
        "SendProduceReqHandler._can_retry": "7ff5d491d977",
        "SendProduceReqHandler.handle_response": "850323cc8f77",
    },
    "mode.services": {
        "Service.crash": "14980000465d",
        "Service._crash": "7bc0c709a151",
        "Service.stop": "e17cd2b6bd01",
        "Service.wait_first": "feade6a31f8a",
        "Service._execute_task": "2a976a30f01c",
    },
    "mode.threads": {
        "ServiceThread._serve": "67809eae0957",
        "ServiceThread.stop": "32d026539c36",
        "ServiceThread._shutdown_thread": "d7377862e734",
        "ServiceThread._gather_remaining_tasks": "6f65b92dd101",
    },
}

PATHS = [(module, name) for module, names in READ.items() for name in names]


def source_digest(module: str, name: str) -> str:
    """Digest of the source of a class, function or method, as written."""
    thing: Any = import_module(module)
    for part in name.split("."):
        thing = inspect.getattr_static(thing, part)
        # mode wraps background tasks; Python wraps properties.
        thing = getattr(thing, "fun", None) or getattr(thing, "fget", None) or thing
    return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:12]


@pytest.mark.parametrize("package", VERSIONS)
def test_the_version_is_the_one_that_was_read(package: str) -> None:
    assert version(package) == VERSIONS[package], (
        f"{package} is another version than the one that streams/transport.py was written "
        "against: read its changes, then bring VERSIONS and READ up to date"
    )


@pytest.mark.parametrize(("module", "name"), PATHS)
def test_a_method_that_we_override_or_lean_on_is_unchanged(module: str, name: str) -> None:
    assert source_digest(module, name) == READ[module][name], (
        f"{module}.{name} has changed: read it again, check streams/transport.py, fetching.py, "
        "producer.py, assignor.py and app.py against it, then write its new digest here"
    )


if __name__ == "__main__":
    for module, names in READ.items():
        print(f'    "{module}": {{')
        for name in names:
            print(f'        "{name}": "{source_digest(module, name)}",')
        print("    },")
