"""A schema registry with Confluent's API, asked for the one thing that a producer needs."""

import json
from urllib.parse import quote
from urllib.request import Request, urlopen

ASK_S = 10.0


def latest_schema_id(registry: str, topic: str, *, authorization: str | None = None) -> int:
    """The id of the newest schema of a topic's values; `authorization` is the header's value. Raises OSError."""
    if not registry.startswith(("http://", "https://")):
        raise ValueError(f"a registry's address begins with http:// or https://: {registry}")
    headers = {"Authorization": authorization} if authorization else {}
    request = Request(f"{registry.rstrip('/')}/subjects/{quote(f'{topic}-value', safe='')}/versions/latest")  # noqa: S310 - http or https, see above
    for name, value in headers.items():
        request.add_header(name, value)
    with urlopen(request, timeout=ASK_S) as answer:  # noqa: S310 - as above
        return int(json.load(answer)["id"])
