"""The calls of Confluent's registry API that the project makes, over the standard library.

The client that comes with confluent-kafka retries and caches inside and takes 0.7 s to import. Here a call
is one request, and its failure one of three: the registry says that it has no such thing, it declines, or
it is away.
"""

import base64
import json
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from config.errors import ConfigurationError
from config.settings import Settings

TIMEOUT_S = 10.0
ANSWER_BYTES = 16 * 2**20
#: Confluent's error codes for a subject, a version or a schema that does not exist.
NOT_FOUND = {40401, 40402, 40403}
DECLINED = {401, 403, 409, 422}
#: An id is a positive Java int.
SCHEMA_ID_MAX = 2**31 - 1
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"

T = TypeVar("T")


class NotFound(Exception):  # noqa: N818 - the name is the message
    """The registry itself says that it has no such subject or schema."""


class Declined(Exception):  # noqa: N818 - the name is the message
    """The registry will not do it: not allowed, not compatible, not valid."""


class RegistryAway(Exception):  # noqa: N818 - the name is the message
    """No answer, or none that a registry would give; trying again may help."""


class Registry(NamedTuple):
    """A registry's address. Every method may raise RegistryAway or Declined."""

    url: str
    auth: str | None

    @classmethod
    def of(cls, settings: Settings) -> "Registry | None":
        """The registry of these settings, if there is one; connects when it is first asked."""
        if settings.registry is None:
            return None
        parts = urlsplit(settings.registry)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise ConfigurationError(
                "WALLET_REGISTRY must be like http://host:8081, user and password in WALLET_REGISTRY_AUTH"
            )
        auth = settings.registry_auth
        return cls(settings.registry.rstrip("/"), auth.get_secret_value() if auth else None)

    def subjects_of(self, schema_id: int) -> set[str]:
        """The subjects that list this id; raises NotFound if there is no such id."""
        return self._ask("GET", f"/schemas/ids/{schema_id}/versions", _subjects)

    def schema(self, schema_id: int) -> str:
        """The text of a schema; raises NotFound if there is no such id."""
        return self._ask("GET", f"/schemas/ids/{schema_id}", lambda answer: str(answer["schema"]))

    def id_of(self, subject: str, text: str) -> int:
        """The id of a schema under its subject; raises NotFound if it is not registered there."""
        return self._ask("POST", f"/subjects/{quote(subject, '')}", _id, schema=text, schemaType="AVRO")

    def register(self, subject: str, text: str) -> int:
        """Register a schema, unless it is there already, and return its id; raises Declined."""
        path = f"/subjects/{quote(subject, '')}/versions"
        return self._ask("POST", path, _id, schema=text, schemaType="AVRO")

    def versions(self, subject: str) -> list[int]:
        """The numbers of a subject's versions, in their order; raises NotFound if there is no such subject."""
        return self._ask(
            "GET", f"/subjects/{quote(subject, '')}/versions", lambda answer: sorted(map(int, answer))
        )

    def version(self, subject: str, number: int) -> tuple[int, str]:
        """The id and the text of one version of a subject; raises NotFound."""
        path = f"/subjects/{quote(subject, '')}/versions/{number}"
        return self._ask("GET", path, lambda answer: (_id(answer), str(answer["schema"])))

    def set_compatibility(self, subject: str, level: str) -> None:
        """What later versions of a subject must be to earlier ones."""
        self._ask("PUT", f"/config/{quote(subject, '')}", lambda _: None, compatibility=level)

    def _ask(self, method: str, path: str, read: Callable[[Any], T], **body: str) -> T:
        headers = {"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE}
        if self.auth:
            headers["Authorization"] = f"Basic {base64.b64encode(self.auth.encode()).decode()}"
        # The scheme was checked to be http or https when the address was read.
        request = Request(  # noqa: S310
            self.url + path, method=method, headers=headers, data=json.dumps(body).encode() if body else None
        )
        try:
            with urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                return read(json.loads(response.read(ANSWER_BYTES)))
        except HTTPError as error:
            raise _failure(error) from error
        except (OSError, HTTPException) as error:
            raise RegistryAway(f"{self.url} does not answer: {error}") from error
        except (LookupError, TypeError, ValueError) as error:
            raise RegistryAway(f"{self.url}{path} answers what is not a registry's: {error!r}") from error


def _subjects(answer: Any) -> set[str]:
    return {listed["subject"] for listed in answer}


def _id(answer: Any) -> int:
    return int(answer["id"])


def _failure(error: HTTPError) -> Exception:
    """What an answer that is not 2xx means. A proxy's or a wrong path's 404 has no code of the registry's."""
    with error:
        try:
            answer = json.loads(error.read(ANSWER_BYTES))
            code, message = int(answer["error_code"]), str(answer["message"])
        except (OSError, HTTPException, LookupError, TypeError, ValueError):
            code, message = 0, str(error.reason)
    if error.code == 404 and code in NOT_FOUND:
        return NotFound(message)
    if error.code in DECLINED:
        return Declined(f"{error.code} {message}")
    return RegistryAway(f"{error.url} answers {error.code} {message}")
