"""Which partition a key belongs to: Java's default partitioner, `murmur2_random` in librdkafka.

librdkafka's own default differs and puts nine of ten keys elsewhere.
"""

import struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """MurmurHash2 of 32 bits, as `org.apache.kafka.common.utils.Utils.murmur2` has it, unsigned."""
    length = len(key)
    whole = length & ~3
    state = _SEED ^ length
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        k = word * _M & _MASK
        state = (state * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    if length != whole:
        state = (state ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    state = (state ^ state >> 13) * _M & _MASK
    return state ^ state >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key in a topic with `partitions` partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
