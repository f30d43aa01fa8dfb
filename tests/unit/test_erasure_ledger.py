"""The ledger of the erased: digests, order of entries, what a record before an erasure is."""

import pytest

from streams.erasure import Entry, Ledger, keep_out, read_record
from streams.outbox import Outgoing
from triggers.customer import Customer
from triggers.judgement import Gone


def entry(why: str = "erased", at: int = 100, offset: int = 7) -> Entry:
    return Entry(why, at, offset)


def test_a_digest_depends_on_the_key_and_never_shows_the_id() -> None:
    found = {Ledger(key).digest("ann") for key in (b"", b"k", b"l")}
    assert len(found) == 3
    assert all(len(digest) == 32 and "ann" not in digest for digest in found)


def test_in_a_topic_that_was_made_anew_offsets_say_nothing() -> None:
    """Its records are later in time, though their offsets begin again."""
    ledger, digest = Ledger(b"k"), Ledger(b"k").digest("ann")
    ledger.take(digest, entry(at=100, offset=5_000))
    assert not entry(at=100, offset=5_000).covers("customer", 3, 101)
    ledger.keep(digest, entry("returned", at=150, offset=3), 0)
    assert ledger.of("ann") == entry("returned", at=150, offset=3)
    ledger.begin(0)
    ledger.take(digest, entry("returned", at=150, offset=3))
    assert ledger.of("ann") == entry("returned", at=150, offset=3)
    ledger.take(digest, entry("erased", at=170, offset=4))
    ledger.take(digest, entry("returned", at=150, offset=3))  # told once more
    assert ledger.of("ann") == entry("erased", at=170, offset=4)


def test_an_older_entry_that_comes_late_changes_nothing() -> None:
    ledger = Ledger(b"k")
    ledger.take(ledger.digest("ann"), entry("returned", offset=9))
    ledger.take(ledger.digest("ann"), entry("erased"))
    found = ledger.of("ann")
    assert found is not None
    assert not found.gone


def test_of_an_erasure_and_a_return_in_one_batch_the_last_word_is_told() -> None:
    ledger, news = Ledger(b"k"), dict[str, Entry]()
    ledger.note(Gone("ann", "erased", 100), 7, news)
    ledger.note(Gone("ann", "returned", 200), 9, news)
    assert news == {ledger.digest("ann"): Entry("returned", 200, 9)}


def test_what_lies_before_the_erasure_is_told_by_offset_or_time() -> None:
    one = entry()
    assert one.covers("customer", 6, 100)
    assert not one.covers("customer", 7, 0)
    assert one.covers("cart", 10**9, 99)
    assert not one.covers("cart", 0, 100)


def test_what_a_store_that_was_set_back_does_not_know_is_told_again() -> None:
    ledger = Ledger(b"k")
    ledger.keep(ledger.digest("ann"), entry(), 3)
    ledger.keep(ledger.digest("bob"), entry(), 4)
    assert ledger.of("ann") == entry()
    ledger.begin(3)
    assert ledger.of("ann") is None
    assert ledger.of("bob") == entry()
    ledger.take(ledger.digest("bob"), entry())
    ledger.begin(4)
    assert ledger.of("bob") == entry(), "the topic tells it"


def test_whoever_returned_begins_anew_there() -> None:
    ledger = Ledger(b"k")
    ledger.take(ledger.digest("ann"), entry("returned", at=200, offset=9))
    old = Customer("ann")
    old.now.at = 150
    old.touch("now")
    found = ledger.restore("ann", dict(old.take_changes()))
    assert (found.now.at, found.now.gone) == (0, "")


def test_a_record_comes_back_as_the_entry_that_it_tells() -> None:
    ledger, other = Ledger(b"k"), Ledger(b"k")
    told = ledger.record(ledger.digest("ann"), entry())
    assert b"ann" not in (told.key or b"") + told.value
    other.take(*read_record(told.key, told.value))
    assert other.of("ann") == entry()


@pytest.mark.parametrize("key", [None, b"", b"short", b"\xff" * 32])
def test_a_record_with_another_key_is_refused(key: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"digest|decode"):
        read_record(key, b"{}")


def test_a_document_from_before_the_erasure_is_taken_for_nothing() -> None:
    ledger = Ledger(b"k")
    ledger.take(ledger.digest("ann"), entry(at=100))
    old = Customer("ann")
    old.now.at = 99
    old.touch("now")
    parts = dict(old.take_changes())
    found = ledger.restore("ann", parts)
    assert found.now.gone == "erased"
    assert all(not packed for _, packed in found.take_changes()), "it is deleted"
    young = Customer("ann")
    young.now.at = 101
    young.touch("now")
    assert ledger.restore("ann", dict(young.take_changes())).now.gone == ""


def test_the_outbox_gives_back_nothing_that_was_decided_before_the_erasure() -> None:
    ledger = Ledger(b"k")
    digest = ledger.digest("ann")

    def made(who: str, number: str) -> Outgoing:
        return Outgoing("decisions", who.encode(), b"{}", number)

    entries = [
        [made("ann", "1"), made("bob", "2")],
        [ledger.record(digest, entry())],
        [made("bob", "3"), Outgoing("dead-letters", b"\xff", b"?", "4")],
        [made("ann", "5"), ledger.record(digest, entry("returned", offset=9))],
        [made("ann", "6")],
    ]
    keep_out(ledger, 0, entries)
    kept = [[record.id for record in records if record.topic != "erased"] for records in entries]
    assert kept == [["2"], [], ["3", "4"], ["5"], ["6"]]
