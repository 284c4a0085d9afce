"""Certificates of a test's own, by openssl: an authority, and what it signs for servers and clients."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Signed:
    """A key and its certificate, each a PEM file, and both in one."""

    key: Path
    certificate: Path
    both: Path


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = folder / f"{name}.key"
        self.certificate = folder / f"{name}.pem"
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-days", "3650",
                 "-subj", f"/CN={name}")  # fmt: skip

    def sign(self, name: str, names: str = "IP:127.0.0.1,DNS:localhost", *, over: bool = False) -> Signed:
        """A key and a certificate for these names; `over`: one that has expired."""
        signed = Signed(*(self._folder / f"{name}.{ending}" for ending in ("key", "crt", "pem")))
        request, extension = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        _openssl("req", *_NEW_KEY, "-keyout", signed.key, "-out", request, "-subj", f"/CN={name}")
        extension.write_text(f"subjectAltName={names}\n")
        days = "-1" if over else "3650"
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
                 "-out", signed.certificate, "-extfile", extension, "-days", days)  # fmt: skip
        signed.both.write_text(signed.key.read_text() + signed.certificate.read_text())
        return signed


_NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def locked(key: Path, password: str) -> Path:
    """The same key under a password, in a file beside it."""
    there = key.with_suffix(".locked")
    _openssl("pkcs8", "-topk8", "-in", key, "-out", there, "-passout", f"pass:{password}")
    return there
