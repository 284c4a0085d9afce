"""The calls of Confluent's registry API that the project makes, over the standard library.

The client in confluent-kafka retries and caches internally and takes 0.7 s to import. Here a call is one
request that fails in one of three ways: the registry says that it has no such thing, it declines, or it is
away.
"""

import base64
import json
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from ssl import SSLCertVerificationError
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from config.errors import ConfigurationError
from config.settings import Settings
from schemas.references import Reference, whole

#: The time-out of a connection, of each piece of an answer, and of all pieces together.
TIMEOUT_S = 10.0
ANSWER_BYTES = 2**20
PIECE_BYTES = 65_536
#: Confluent's error codes for a subject, a version or a schema that does not exist.
NOT_FOUND = {40401, 40402, 40403}
DECLINED = {409, 422}
NOT_ALLOWED = {401, 403}
REDIRECTS = {301, 302, 303, 307, 308}
#: An id is a positive Java int.
SCHEMA_ID_MAX = 2**31 - 1
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"

T = TypeVar("T")


class NotFound(Exception):  # noqa: N818 - the name is the message
    """The registry itself says that it has no such subject or schema."""


class Declined(Exception):  # noqa: N818 - the name is the message
    """The registry will not do it: not allowed, not compatible, not valid."""


class NotAllowed(Declined):
    """The registry does not know this user, or does not allow the request."""


class RegistryAway(Exception):  # noqa: N818 - the name is the message
    """No answer, or not a registry's answer; trying again may help."""


class Version(NamedTuple):
    """A schema as the registry holds it: its id, its text, and what it refers to."""

    schema_id: int
    text: str
    references: list[Reference]


class Registry(NamedTuple):
    """A registry's address. Every method may raise RegistryAway or Declined."""

    url: str
    auth: str | None

    @classmethod
    def of(cls, settings: Settings) -> "Registry | None":
        """The registry of these settings, if there is one; connects on the first call."""
        if settings.registry is None:
            return None
        parts = urlsplit(settings.registry)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise ConfigurationError(
                "WALLET_REGISTRY must be like http://host:8081, with user and password in WALLET_REGISTRY_AUTH"
            )
        auth = settings.registry_auth
        return cls(settings.registry.rstrip("/"), auth.get_secret_value() if auth else None)

    def subjects_of(self, schema_id: int) -> set[str]:
        """The subjects that list this id or have listed it; raises NotFound if there is no such id."""
        return self._ask("GET", f"/schemas/ids/{schema_id}/versions?deleted=true", _subjects)

    def schema(self, schema_id: int) -> str:
        """The text of a schema with everything it refers to put into it.

        Raises NotFound if there is no such id, ValueError if its references cannot be resolved.
        """
        return self.whole(
            self._ask("GET", f"/schemas/ids/{schema_id}", lambda answer: _version(schema_id, answer))
        )

    def whole(self, version: Version) -> str:
        """The same as `schema`, for a version that was already fetched."""

        def referred(reference: Reference) -> tuple[str, list[Reference]]:
            try:
                found = self.version(reference.subject, reference.version)
            except NotFound as error:
                # A referenced schema cannot be deleted, so this says nothing about the schema itself.
                raise RegistryAway(
                    f"{self.url} has no version {reference.version} of {reference.subject}, which schema id "
                    f"{version.schema_id} refers to: {error}"
                ) from error
            return found.text, found.references

        return whole(version.text, version.references, referred)

    def id_of(self, subject: str, text: str) -> int:
        """The id of a schema under its subject, also of a deleted version; raises NotFound if never registered."""
        return self._ask(
            "POST", f"/subjects/{quote(subject, '')}?deleted=true", _id, schema=text, schemaType="AVRO"
        )

    def register(self, subject: str, text: str, references: list[Reference] | None = None) -> int:
        """Register a schema, unless it exists already, and return its id; raises Declined."""
        path = f"/subjects/{quote(subject, '')}/versions"
        more = {"references": [one._asdict() for one in references]} if references else {}
        return self._ask("POST", path, _id, schema=text, schemaType="AVRO", **more)

    def versions(self, subject: str) -> list[int]:
        """The numbers of a subject's versions in their order, deleted ones too; raises NotFound without a subject."""
        path = f"/subjects/{quote(subject, '')}/versions?deleted=true"
        return self._ask("GET", path, lambda answer: sorted(map(int, answer)))

    def version(self, subject: str, number: int) -> Version:
        """One version of a subject, also one that was deleted; raises NotFound."""
        path = f"/subjects/{quote(subject, '')}/versions/{number}?deleted=true"
        return self._ask("GET", path, lambda answer: _version(_id(answer), answer))

    def set_compatibility(self, subject: str, level: str) -> None:
        """Set how later versions of a subject must be compatible with earlier ones."""
        self._ask("PUT", f"/config/{quote(subject, '')}", lambda _: None, compatibility=level)

    def _ask(self, method: str, path: str, read: Callable[[Any], T], **body: Any) -> T:
        headers = {"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE}
        if self.auth:
            headers["Authorization"] = f"Basic {base64.b64encode(self.auth.encode()).decode()}"
        # The scheme was checked to be http or https when the address was read.
        request = Request(  # noqa: S310
            self.url + path, method=method, headers=headers, data=json.dumps(body).encode() if body else None
        )
        try:
            with build_opener(_StayHere).open(request, timeout=TIMEOUT_S) as response:
                return read(json.loads(_all_of(response)))
        except HTTPError as error:
            raise _failure(error) from error
        except (OSError, HTTPException) as error:
            raise RegistryAway(f"{self.url} does not answer: {error}{_advice(error)}") from error
        except _UNREADABLE as error:
            raise RegistryAway(f"{self.url}{path} does not answer like a registry: {error!r}") from error


class _StayHere(HTTPRedirectHandler):
    """Follows no redirect: it would carry user and password to wherever it leads."""

    def redirect_request(self, *_: object) -> None:
        return None


#: What reading an answer that is not a registry's may raise.
_UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, RecursionError)


def _all_of(response: HTTPResponse | HTTPError) -> bytes:
    """An answer's body; raises OSError if it is too large, or comes too slowly."""
    deadline = time.monotonic() + TIMEOUT_S
    body = b""
    while piece := response.read1(PIECE_BYTES):
        body += piece
        if len(body) > ANSWER_BYTES:
            raise OSError(f"its answer is larger than {ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"its answer took longer than {TIMEOUT_S:g} s")
    return body


def _advice(error: Exception) -> str:
    if isinstance(getattr(error, "reason", error), SSLCertVerificationError):
        return "; if your own CA signed its certificate, name the CA's file in SSL_CERT_FILE"
    return ""


def _subjects(answer: Any) -> set[str]:
    return {listed["subject"] for listed in answer}


def _id(answer: Any) -> int:
    return int(answer["id"])


def _version(schema_id: int, answer: Any) -> Version:
    referred = answer.get("references") or ()
    references = [Reference(str(one["name"]), str(one["subject"]), int(one["version"])) for one in referred]
    return Version(schema_id, str(answer["schema"]), references)


def _failure(error: HTTPError) -> Exception:
    """What an answer other than 2xx means. The 404 of a proxy or a wrong path has no error code of the registry."""
    with error:
        try:
            answer = json.loads(_all_of(error))
            code, message = int(answer["error_code"]), str(answer["message"])
        except (OSError, HTTPException, *_UNREADABLE):
            code, message = 0, str(error.reason)
    if error.code == 404 and code in NOT_FOUND:
        return NotFound(message)
    if error.code in NOT_ALLOWED:
        return NotAllowed(f"{error.code} {message}")
    if error.code in DECLINED:
        return Declined(f"{error.code} {message}")
    if error.code in REDIRECTS:
        return RegistryAway(
            f"{error.url} answers {error.code}, a redirect: set WALLET_REGISTRY to where it leads"
        )
    return RegistryAway(f"{error.url} answers {error.code} {message}")
