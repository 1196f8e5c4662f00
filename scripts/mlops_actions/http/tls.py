"""Whom to trust over TLS, and what to show of oneself."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ..errors import BadInput

_BEGIN = "-----BEGIN"


@dataclass(frozen=True)
class Tls:
    """How connections are secured. All certificates and keys are PEM.

    Attributes:
        authority: certificates to trust; "" for this machine's alone.
        alone: whether those of this machine are not trusted beside them.
        certificate, key: what this client shows of itself; the key may be in `certificate`.
        server_name: what the server's certificate must be for; "" for the URL's host.
        insecure: whether to trust any server.
        names: what users call the authority and the client certificate, for messages.
    """

    authority: str = ""
    alone: bool = False
    certificate: str = ""
    key: str = field(default="", repr=False)
    server_name: str = ""
    insecure: bool = False
    names: tuple[str, str] = ("REQUESTS_CA_BUNDLE", "the client certificate")

    def context(self) -> ssl.SSLContext:
        """The settings, as OpenSSL takes them; the same ones give the same context, since reading this machine's
        certificates takes a while.

        Raises:
            BadInput: a certificate or key cannot be used.
        """
        return _context(self)

    def _made(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cadata=self.authority if self.alone and self.authority else None)
            if self.authority and not self.alone:
                context.load_verify_locations(cadata=self.authority)
        except (ssl.SSLError, ValueError) as error:
            raise BadInput(
                f"Cannot use {self.names[0]}: it is not a certificate", why=_words(error), fix="It must be PEM"
            ) from error
        # As Go's rules, and so kubectl's: an authority needs no key identifier, and one below the root is enough.
        # Python 3.13 made the strict rules its default, which refuse many a private CA.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.certificate:
            self._show(context)
        return context

    def _show(self, context: ssl.SSLContext) -> None:
        """OpenSSL takes a key only from a file: it is this user's alone, and gone when this returns."""

        def locked() -> str:
            raise BadInput(f"The key of {self.names[1]} is encrypted", fix="Store it without a passphrase, as a secret")

        with tempfile.TemporaryDirectory(prefix="client-certificate-") as folder:  # mode 700
            path = Path(folder) / "both.pem"
            path.touch(mode=0o600)
            path.write_text(f"{self.certificate}\n{self.key}")
            try:
                context.load_cert_chain(path, password=locked)
            except (ssl.SSLError, ValueError) as error:
                raise BadInput(
                    f"Cannot use {self.names[1]} and its key",
                    why=_words(error),
                    fix="Check that both are PEM and belong together",
                ) from error


@lru_cache(maxsize=8)
def _context(tls: Tls) -> ssl.SSLContext:
    return tls._made()


def machine_authority(environ: Mapping[str, str]) -> str:
    """The certificates that the usual variables name, to trust beside those of this machine; "" for none.

    Raises:
        BadInput: the file cannot be read.
    """
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        if path := environ.get(name, ""):
            return read_file(Path(path), f"the file of {name}", "Correct the variable, or remove it")
    return ""


def trusted_file(environ: Mapping[str, str]) -> str | bool:
    """What requests is to trust (`verify`): this machine's certificates, and not those that come with it."""
    named = environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE")
    return named or ssl.get_default_verify_paths().cafile or True


def read_pem(value: str, name: str, folder: Path) -> str:
    """A setting that is PEM or the path of such a file; "" if it is not set. A private key must be in a file.

    Args:
        value: the setting.
        name: of the setting, for messages.
        folder: what a path is relative to.

    Raises:
        BadInput: the file cannot be read, or the setting is a private key itself, which records would show.
    """
    if _BEGIN not in value:
        path = folder / Path(value).expanduser()
        return read_file(path, name, "Give a PEM file's path") if value else ""
    if "PRIVATE KEY" in value:
        raise BadInput(f"{name} is a private key itself", fix="Write it into a file, and give the file's path")
    return value


def read_file(path: Path, name: str, fix: str) -> str:
    """The text of a file with a certificate, key or token, without the end of its last line.

    Raises:
        BadInput: it cannot be read. The message shows nothing of what is in it.
    """
    try:
        return path.read_text(encoding="utf-8").rstrip()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", "") or "It is not text"
        raise BadInput(f"Cannot read {name}: {path}", why=why, fix=fix) from None


def _words(error: Exception) -> str:
    """Why OpenSSL does not take something. Only a reason of its own is safe to show: others show bytes of a key."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "It is not PEM"
