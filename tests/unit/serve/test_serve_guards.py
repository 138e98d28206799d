"""Who may ask the server, and what browsers are told: API keys, hosts, origins, headers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from serving import KEY, PICTURE, assert_framed, serving

from headstart.core.errors import SettingError
from headstart.core.predictor import Predictor
from headstart.use.serve import guards


def test_without_the_right_key_only_health_is_told(model: Path) -> None:
    with serving(model, access={"keys": guards.Keys([KEY, "another-key-of-the-server"])}) as client:
        for given in (None, "Bearer wrong", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer \xfc"):
            headers = {} if given is None else {"authorization": given.encode("latin-1")}
            for method, path in (("POST", "/predict"), ("GET", "/model"), ("GET", "/models"), ("GET", "/metrics")):
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401, (path, given)
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/openapi.json").json()["paths"]["/predict"]["post"]["security"] == [{"HTTPBearer": []}]
        right = {"authorization": f"Bearer {KEY}"}
        assert client.post("/predict", content=PICTURE, headers=right).status_code == 200
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_keys_come_from_a_file_or_the_environment_and_short_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not guards.read_keys(None)
    monkeypatch.setenv("HEADSTART_API_KEYS", f"{KEY}, second-key-of-many")
    assert guards.read_keys(None).accept("second-key-of-many")
    (tmp_path / "keys").write_text(f"# ours\n{KEY}\n")
    assert guards.read_keys(str(tmp_path / "keys")).accept(KEY)
    assert not guards.read_keys(str(tmp_path / "keys")).accept("second-key-of-many")
    for text, word in (("short\n", "fewer than 16"), ("# none\n", "no API key")):
        (tmp_path / "keys").write_text(text)
        with pytest.raises(SettingError, match=word):
            guards.read_keys(str(tmp_path / "keys"))
    with pytest.raises(SettingError, match="cannot be read"):
        guards.read_keys(str(tmp_path / "absent"))


def test_other_hosts_and_pages_of_other_sites_are_refused_unless_allowed(model: Path, client: httpx.Client) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}, {"host": "[::1"}):
        assert client.post("/predict", content=PICTURE, headers=headers).status_code == 403, headers
    own = {"origin": str(client.base_url).rstrip("/")}
    answer = client.post("/predict", content=PICTURE, headers=own)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    site = "https://pictures.example"
    access = {"origins": frozenset([site]), "hosts": guards.LOOPBACK | {"models.example"}}
    with serving(model, access=access) as open_client:
        allowed = open_client.post("/predict", content=PICTURE, headers={"origin": site, "host": "models.example"})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == site
        assert (
            open_client.post("/predict", content=PICTURE, headers={"origin": "https://evil.example"}).status_code == 403
        )


def test_a_page_of_an_allowed_site_can_read_every_answer_and_no_other_page_can(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, other = {"origin": "https://pictures.example"}, {"origin": "https://evil.example"}
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with serving(model, access={"origins": frozenset([site["origin"]]), "keys": guards.Keys([KEY])}) as client:
        key = {"authorization": f"Bearer {KEY}"}
        monkeypatch.setattr(Predictor, "run", lambda *arguments: 1 / 0)
        for status, headers in (
            (500, key),
            (403, {**key, "host": "evil.example"}),
            (401, {}),
        ):
            answer = client.post("/predict", content=PICTURE, headers={**site, **headers})
            assert answer.status_code == status
            assert answer.headers.get_list("access-control-allow-origin") == [site["origin"]], status
            assert answer.headers["access-control-expose-headers"] == "Retry-After, X-Request-Id"
            assert_framed(answer)
            refused = client.post("/predict", content=PICTURE, headers={**other, **headers})
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers
        first = client.options("/predict", headers={**site, **ask})
        assert (first.status_code, first.headers["access-control-allow-origin"]) == (200, site["origin"])
        assert "authorization" in first.headers["access-control-allow-headers"]
        assert client.options("/predict", headers={**other, **ask}).status_code == 403


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("127.0.0.1", (), {"localhost", "127.0.0.1", "::1"}),
        ("127.0.0.5", (), {"localhost", "127.0.0.1", "::1", "127.0.0.5"}),
        ("localhost", ("models.example",), {"localhost", "127.0.0.1", "::1", "models.example"}),
        ("0.0.0.0", (), None),
        ("192.0.2.7", ("models.example",), {"localhost", "127.0.0.1", "::1", "192.0.2.7", "models.example"}),
    ],
)
def test_a_server_on_loopback_or_with_allowed_names_answers_to_no_others(
    host: str, allowed: tuple[str, ...], expected: set[str] | None
) -> None:
    assert guards.hosts_for(host, allowed) == expected


@pytest.mark.parametrize("origin", ["https://pictures.example", "http://localhost:3000", "http://[::1]:8080"])
def test_an_origin_as_browsers_send_it_may_be_allowed(origin: str) -> None:
    assert guards.check_origins([origin]) == {origin}


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "pictures.example", "https://pictures.example/", "https://Pictures.example", "https://a.example:443"],
)
def test_an_origin_that_no_browser_would_send_is_refused(origin: str) -> None:
    with pytest.raises(SettingError, match="is no origin: give scheme, host"):
        guards.check_origins(["http://localhost:3000", origin])


def test_every_answer_has_the_headers_that_browsers_obey(client: httpx.Client) -> None:
    answers = [
        *(client.get(path) for path in ("/", "/healthz", "/metrics", "/openapi.json", "/nothing")),
        *(client.post(path) for path in ("/predict", "/predict?top=0", "/predict?model=fish")),
        client.put("/predict"),
        client.get("/healthz", headers={"host": "evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 400, 422, 404, 405, 403]
    for answer in answers:
        assert_framed(answer)
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404


@pytest.mark.parametrize("given", ["", " ", " , ", ","])
def test_a_variable_that_is_set_but_holds_no_key_does_not_open_the_server(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_API_KEYS", given)
    with pytest.raises(SettingError, match="HEADSTART_API_KEYS is set but holds no API key"):
        guards.read_keys(None)


def test_a_comment_is_no_key_wherever_it_stands_and_a_byte_order_mark_is_not_part_of_one(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(f"\ufeff{KEY}\n   # keys of the web team, 2026\n".encode())
    keys = guards.read_keys(str(tmp_path / "keys"))
    assert keys.accept(KEY)
    assert not keys.accept("# keys of the web team, 2026")
    (tmp_path / "keys").write_text("  # a comment that is long enough\n")
    with pytest.raises(SettingError, match="no API key"):
        guards.read_keys(str(tmp_path / "keys"))
