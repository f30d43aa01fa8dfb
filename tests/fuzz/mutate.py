"""Inputs made from inputs: cut, doubled, spliced, with bytes that parsers fear."""

from __future__ import annotations

import random

#: No input grows beyond it, so that a mutation of a mutation stays quick.
SIZE_MAX = 64 * 1024
ROUNDS_MAX = 6

TOKENS = [
    b"",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\u0000",
    b"\r\n",
    b"\r\n\r\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"'",
    b":",
    b",",
    b"- ",
    b"? ",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!python/x ",
    b"%",
    b"#",
    b"|",
    b">",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"9" * 400,
    b"9007199254740993",
    b"-9223372036854775809",
    b"0x10",
    b"1_000",
    b"12:30",
    b"2024-02-30T25:61:61Z",
    b"9999-12-31T23:59:59.999Z",
    b"{" * 80,
    b"[" * 80,
    b"(" * 200,
    b"size(size(",
    b" && ",
    b" ? 1 : ",
    b"customer.",
    b"event.",
    b"..",
    b"/../",
    b"%2e%2e%2f",
    b"Host: x\r\n",
    b"Content-Length: 99\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Authorization: Bearer \xff\r\n",
    b"Expect: 100-continue\r\n",
    b"0\r\n\r\n",
    b"A" * 9000,
    "Ünï\u202e\U0001f600".encode(),
]


def mutated(chance: random.Random, pool: list[bytes]) -> bytes:
    """One input of ``pool``, changed a few times."""
    found = bytearray(chance.choice(pool))
    for _ in range(chance.randint(1, ROUNDS_MAX)):
        _change(chance, found, pool)
    return bytes(found[:SIZE_MAX])


def _change(chance: random.Random, found: bytearray, pool: list[bytes]) -> None:
    at = chance.randint(0, len(found))
    upto = min(len(found), at + chance.choice([1, 1, 2, 4, 16, 64, 400]))
    kind = chance.randrange(8)
    if kind == 0:
        del found[at:upto]
    elif kind == 1:
        found[at:at] = chance.choice(TOKENS)
    elif kind == 2:
        found[at:upto] = chance.choice(TOKENS)
    elif kind == 3 and found:
        found[min(at, len(found) - 1)] ^= 1 << chance.randrange(8)
    elif kind == 4:
        found[at:at] = found[at:upto] * chance.choice([1, 2, 30])
    elif kind == 5:
        other = chance.choice(pool)
        begin = chance.randint(0, len(other))
        found[at:upto] = other[begin : begin + chance.choice([4, 40, 400])]
    elif kind == 6:
        lines = bytes(found).split(b"\n")
        chance.shuffle(lines)
        found[:] = b"\n".join(lines)
    else:
        found[at:upto] = chance.randbytes(chance.choice([1, 2, 8]))
    del found[SIZE_MAX:]
