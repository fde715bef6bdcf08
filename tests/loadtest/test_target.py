from __future__ import annotations

import ssl

import pytest

from pyllama.loadtest import Target, TargetError


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://localhost:8080", "localhost", 8080, "/v1/chat/completions"),
        ("localhost:8080", "localhost", 8080, "/v1/chat/completions"),
        ("http://localhost", "localhost", 80, "/v1/chat/completions"),
        ("https://a.example/", "a.example", 443, "/v1/chat/completions"),
        ("http://[::1]:9/v1", "::1", 9, "/v1/chat/completions"),
        ("http://h/some/prefix", "h", 80, "/some/prefix/v1/chat/completions"),
        ("http://h/some/prefix/v1/", "h", 80, "/some/prefix/v1/chat/completions"),
        ("http://h/x/chat/completions?a=b", "h", 80, "/x/chat/completions?a=b"),
    ],
)
def test_urls(url: str, host: str, port: int, path: str) -> None:
    target = Target.parse(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert Target.parse(target.url) == target


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://h", "scheme"),
        ("http://", "no host"),
        ("http://h:99999", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://me:secret@h", "user"),
        ("http://h/a b", "ASCII"),
        ("http://h/a\r\nX: y", "ASCII"),
        ("http://h/ä", "ASCII"),
    ],
)
def test_what_is_no_target(url: str, words: str) -> None:
    with pytest.raises(TargetError, match=words) as caught:
        Target.parse(url)
    assert "secret" not in str(caught.value)


def test_certificates_are_checked_unless_told_otherwise() -> None:
    assert Target.parse("http://h").tls() is None
    context = Target.parse("https://h").tls()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    insecure = Target.parse("https://h", insecure=True).tls()
    assert insecure is not None
    assert insecure.verify_mode is ssl.CERT_NONE
