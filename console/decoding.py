"""Decode a rejected record's value as far as possible, whatever rules it breaks, or say why not."""

from typing import Any

from console.encoding import strings
from operations.rejections.listing import readable
from schemas.avro import IllegalAvro
from schemas.codec import HEADER_BYTES, decode_transaction


def decoded(value: bytes | None) -> dict[str, Any]:
    """`decoded` with a transaction's fields, or None and the cause in `not_decoded`.

    It uses the pipeline's own schema; a value in a producer's own schema may not decode with it.
    """
    if value is None:
        return {"decoded": None, "not_decoded": "there is no value"}
    if len(value) < HEADER_BYTES or value[0]:
        return {
            "decoded": None,
            "not_decoded": f"not the wire format: the value starts with {value[:HEADER_BYTES].hex()}",
        }
    try:
        one = decode_transaction(value[HEADER_BYTES:])
    except (IllegalAvro, ValueError) as error:
        return {"decoded": None, "not_decoded": str(error)}
    schema_id = {"schema_id": int.from_bytes(value[1:HEADER_BYTES])}
    return {"decoded": schema_id | strings(readable(one)), "not_decoded": None}
