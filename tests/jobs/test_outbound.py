import ipaddress
import socket
import threading

import httpx
import pytest

from jobs import outbound
from jobs.errors import InvalidJob

BRIEF = httpx.Timeout(0.3)


@pytest.fixture
def resolves(monkeypatch):
    """Have DNS answer a name with these addresses, one list a question; returns the questions that were asked."""
    real = socket.getaddrinfo
    asked = []

    def resolves(name, *answers):
        def getaddrinfo(host, port, *args, **kwargs):
            if host != name:
                return real(host, port, *args, **kwargs)
            found = answers[min(len(asked), len(answers) - 1)]
            asked.append(host)
            return [entry for address in found for entry in real(address, port, *args, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    return resolves


@pytest.fixture
def listener():
    """A server that takes connections and keeps what it was first sent."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(5)
    heard = []

    def serve():
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            heard.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1], heard
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
        "255.255.255.255", "168.63.129.16", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "2002:a00:1::",
        "2001:db8::1", "2001::1", "::ffff:169.254.169.254",
    ],
)  # fmt: skip
def test_an_inner_address_is_not_public(address):
    assert not outbound.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
)
def test_an_address_of_the_internet_is_public(address):
    assert outbound.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/",
        "http://", "http:///path", "http://user:pw@example.com/", "http://user@example.com/", "http://ex ample.com/",
        "http://example.com:99999/", "http://example.com:0/", "http://[::1", "http://example.com/\nHost: x",
        "http://localhost/", "http://LOCALHOST:8000/", "http://db.localhost/", "http://localhost./",
        "http://127.0.0.1/", "http://127.0.0.1./", "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/",
        "http://0177.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/",
        "https://10.0.0.1/", "http://0/", "http://[fe80::1%25eth0]/", "http://127.0.0.1%2eexample.com/",
    ],
)  # fmt: skip
def test_a_url_that_gives_itself_away_is_refused_by_the_fields_name(url):
    with pytest.raises(InvalidJob) as refused:
        outbound.check_url(url, "/callback_url")
    assert refused.value.field == "/callback_url"


@pytest.mark.parametrize("url", ["https://example.com/hook?a=b", "http://example.com:8080/", "https://1.1.1.1/",
                                 "https://bücher.example/", "https://[2606:4700:4700::1111]/"])  # fmt: skip
def test_a_url_is_taken_at_submit_without_asking_dns(url, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    outbound.check_url(url, "/callback_url")


@pytest.mark.parametrize("listed", ["127.0.0.1", "127.0.0.1:8001"])
def test_a_listed_host_may_be_an_inner_one(settings, listed):
    settings.WEBHOOK_ALLOWED_HOSTS = [listed]
    outbound.check_url("http://127.0.0.1:8001/", "/callback_url")


def test_a_host_listed_with_a_port_is_not_allowed_with_another(settings):
    settings.WEBHOOK_ALLOWED_HOSTS = ["127.0.0.1:8001", "Inner.Example"]
    outbound.check_url("http://inner.example:5/", "/callback_url")
    with pytest.raises(InvalidJob, match="WEBHOOK_ALLOWED_HOSTS must list"):
        outbound.check_url("http://127.0.0.1:8002/", "/callback_url")


def test_a_name_that_resolves_to_an_inner_address_is_not_called(resolves, listener):
    port, heard = listener
    resolves("inner.example", ["127.0.0.1"])
    with (
        outbound.client(timeout=BRIEF) as client,
        pytest.raises(outbound.Forbidden, match=r"inner.example \(127.0.0.1\)"),
    ):
        client.get(f"http://inner.example:{port}/")
    assert heard == []


def test_one_inner_address_among_public_ones_is_enough_to_refuse(resolves):
    resolves("mixed.example", ["1.1.1.1", "10.0.0.1"])
    with outbound.client(timeout=BRIEF) as client, pytest.raises(outbound.Forbidden, match=r"10\.0\.0\.1"):
        client.get("http://mixed.example/")


def test_a_name_that_changes_its_answer_after_the_check_is_not_asked_again(resolves, listener):
    port, heard = listener
    asked = resolves("rebinding.example", ["1.1.1.1"], ["127.0.0.1"])
    with outbound.client(timeout=BRIEF) as client, pytest.raises(httpx.TransportError):
        client.get(f"http://rebinding.example:{port}/")
    assert asked == ["rebinding.example"]
    assert heard == []


def test_a_listed_name_is_called_under_its_own_name(resolves, listener, settings):
    port, heard = listener
    settings.WEBHOOK_ALLOWED_HOSTS = ["inner.example"]
    resolves("inner.example", ["127.0.0.1"])
    with outbound.client(timeout=httpx.Timeout(5)) as client:
        assert client.get(f"http://inner.example:{port}/x").status_code == 204
    assert f"Host: inner.example:{port}".encode() in heard[0]


def test_the_next_address_is_tried_when_one_does_not_answer(resolves, listener, settings):
    port, heard = listener
    settings.WEBHOOK_ALLOWED_HOSTS = ["inner.example"]
    resolves("inner.example", ["127.0.0.2", "127.0.0.1"])
    with outbound.client(timeout=httpx.Timeout(5)) as client:
        assert client.post(f"http://inner.example:{port}/", content=b"body").status_code == 204
    assert heard[0].startswith(b"POST / ")


def test_tls_asks_for_the_certificate_of_the_name_not_of_the_address(resolves, listener, settings):
    port, heard = listener
    settings.WEBHOOK_ALLOWED_HOSTS = ["inner.example"]
    resolves("inner.example", ["127.0.0.1"])
    with outbound.client(timeout=httpx.Timeout(5)) as client, pytest.raises(httpx.TransportError):
        client.get(f"https://inner.example:{port}/")
    assert b"inner.example" in heard[0]
    assert outbound.tls().check_hostname


def test_a_name_that_nobody_knows_is_a_connection_error(resolves, monkeypatch):
    def unknown(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with outbound.client(timeout=BRIEF) as client, pytest.raises(httpx.ConnectError, match=r"unknown\.example"):
        client.get("http://unknown.example/")


def test_a_proxy_of_the_environment_is_not_used(monkeypatch, listener):
    port, heard = listener
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    with outbound.client(timeout=BRIEF) as client, pytest.raises(outbound.Forbidden):
        client.get("http://10.0.0.1/")
    assert heard == []
