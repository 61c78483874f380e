"""Which addresses outgoing HTTP may reach: public ones, and those that WEBHOOK_ALLOWED_HOSTS lists.

Whoever may submit a job chooses a URL that our workers call from inside the network. What a URL
says is checked at submit, without DNS; what its name resolves to is checked when connecting, and
the connection goes to the very address that was checked, so a second DNS answer changes nothing.
"""

import functools
import ipaddress
import socket
import ssl

import httpx
from django.conf import settings

from jobs.errors import InvalidJob, JobError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
PORTS = {"http": 80, "https": 443}
ADDRESSES_TRIED = 3
# What Python's own list lacks: where Azure answers its instances with their credentials, and old inner IPv6.
ALSO_INNER = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("fec0::/10"))
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Forbidden(JobError):
    """Outgoing HTTP may not go there; the text says where, why, and what would allow it."""


def check_url(url: str, field: str) -> None:
    """Refuse what a URL itself gives away, without asking DNS; raises InvalidJob naming `field`."""
    try:
        _check_shape(httpx.URL(url))
    except httpx.InvalidURL as error:
        raise InvalidJob(field, f"{url!r} is not a URL: {error}") from None
    except Forbidden as error:
        raise InvalidJob(field, str(error)) from None


def client(*, timeout: httpx.Timeout) -> httpx.Client:
    """An HTTP client that reaches permitted addresses only; other requests raise Forbidden.

    It uses no proxy, which would resolve names again, and follows no redirect by itself.
    """
    return httpx.Client(transport=_CheckedTransport(), timeout=timeout, trust_env=False)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet at large, also when it is IPv4 inside IPv6."""
    if embedded := _embedded(address):
        return is_public(embedded)
    if any(address in network for network in ALSO_INNER):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


@functools.cache
def tls() -> ssl.SSLContext:
    """Made once: reading the certificate store takes longer than many a delivery."""
    return httpx.create_ssl_context()


class _CheckedTransport(httpx.BaseTransport):
    """Resolves a request's host once, checks every address found, and connects to one of those."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport(verify=tls(), trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        addresses = _permitted_addresses(request.url)[:ADDRESSES_TRIED]
        for address in addresses[:-1]:
            try:
                return self._inner.handle_request(_pinned(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return self._inner.handle_request(_pinned(request, addresses[-1]))

    def close(self) -> None:
        self._inner.close()


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to one address; its Host header and its certificate stay those of the name."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions | {"sni_hostname": _host(request.url)},
    )


def _permitted_addresses(url: httpx.URL) -> list[str]:
    """What the URL's host resolves to; one inner address among them is enough to refuse."""
    _check_shape(url)
    host = _host(url)
    try:
        found = socket.getaddrinfo(host, _port(url), type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise httpx.ConnectError(f"{host} cannot be resolved: {error}") from error
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    if not _is_listed(url):
        for address in addresses:
            _check_address(ipaddress.ip_address(address), host)
    return addresses


def _check_shape(url: httpx.URL) -> None:
    if url.scheme not in PORTS:
        raise Forbidden(f"{str(url)!r} does not start with http:// or https://")
    if url.userinfo:
        raise Forbidden("carries a user name or password, which would end up in logs; leave it out")
    host = _host(url)
    if not host or "%" in host or not 0 < _port(url) < 65536:
        raise Forbidden(f"{str(url)!r} names no host and port that can be called")
    if _is_listed(url):
        return
    if host == "localhost" or host.endswith(".localhost"):
        raise Forbidden(_refusal(host, host))
    if literal := _literal(host):
        _check_address(literal, host)


def _check_address(address: Address, host: str) -> None:
    if not is_public(address):
        raise Forbidden(_refusal(host, str(address)))


def _refusal(host: str, address: str) -> str:
    name = host if host == address else f"{host} ({address})"
    return f"{name} is not a public address; WEBHOOK_ALLOWED_HOSTS must list the host to allow it"


def _literal(host: str) -> Address | None:
    """The address a host spells out, also in the old forms (0x7f.1, 2130706433) the resolver understands."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this IPv6 one end up at."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_listed(url: httpx.URL) -> bool:
    """Listed as `host`, for all its ports, or as `host:port`."""
    host = _host(url)
    bracketed = f"[{host}]" if ":" in host else host
    names = {host, bracketed, f"{bracketed}:{_port(url)}"}
    return any(entry.lower() in names for entry in settings.WEBHOOK_ALLOWED_HOSTS)


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").lower().rstrip(".")


def _port(url: httpx.URL) -> int:
    return PORTS[url.scheme] if url.port is None else url.port
