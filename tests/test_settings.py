"""The settings of the contract, and the one sentence for each mistake."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from services.domain import VersionRef
from services.errors import BadInput, InvalidSettings, LedgerUnavailable
from services.settings import Settings
from services.signoff import Signoff
from tests.conftest import settings_in
from tests.fakes import FakeRegistry


class TestSettings:
    def test_defaults_are_those_of_the_contract(self, tmp_path: Path) -> None:
        settings = Settings.read({"SIGNOFF_HOME": str(tmp_path)})
        assert (settings.port, settings.mlflow_port) == (8501, 5000)
        assert settings.mlflow_uri == "http://127.0.0.1:5000"
        assert settings.database_url == f"sqlite:///{tmp_path}/signoff.db"
        assert settings.url == "http://localhost:8501"
        assert settings.embedded

    def test_the_secret_is_made_once_and_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        first = Settings.read({"SIGNOFF_HOME": str(tmp_path)}).secret_key
        assert len(first) >= 32
        assert Settings.read({"SIGNOFF_HOME": str(tmp_path)}).secret_key == first
        assert stat.S_IMODE((tmp_path / "secret-key").stat().st_mode) == 0o600

    @pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "SIGNOFF_DATABASE_URL"])
    def test_outside_the_embedded_stack_a_secret_must_be_given(self, tmp_path: Path, name: str) -> None:
        environ = {"SIGNOFF_HOME": str(tmp_path), name: "http://mlflow.example"}
        with pytest.raises(InvalidSettings, match="SIGNOFF_SECRET_KEY is not set"):
            Settings.read(environ)
        assert Settings.read({**environ, "SIGNOFF_SECRET_KEY": "s" * 32}).secret_key == b"s" * 32
        with pytest.raises(InvalidSettings, match="has 31 bytes"):
            Settings.read({**environ, "SIGNOFF_SECRET_KEY": "s" * 31})

    @pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "8 501", "８５０１"])
    def test_a_port_that_is_none_is_named(self, tmp_path: Path, port: str) -> None:
        with pytest.raises(InvalidSettings, match="SIGNOFF_PORT"):
            Settings.read({"SIGNOFF_HOME": str(tmp_path), "SIGNOFF_PORT": port})

    @pytest.mark.parametrize(
        "url",
        ["signoff.example", "ftp://signoff.example", "http://", "http://h:x", "http://[::1", f"http://{'ü' * 90}"],
    )
    def test_a_public_address_that_is_none_is_named(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(InvalidSettings, match="SIGNOFF_URL"):
            Settings.read({"SIGNOFF_HOME": str(tmp_path), "SIGNOFF_URL": url})

    def test_proxies_are_addresses_and_networks_and_none_by_default(self, tmp_path: Path) -> None:
        environ = {"SIGNOFF_HOME": str(tmp_path)}
        assert Settings.read(environ).trusted_proxies == ()
        named = Settings.read({**environ, "SIGNOFF_TRUSTED_PROXIES": "10.0.0.7, fd00::/8,"})
        assert named.trusted_proxies == ("10.0.0.7", "fd00::/8")
        for wrong in ("*", "proxy.example", "10.0.0.7/8", "10.0.0.7:80"):
            with pytest.raises(InvalidSettings, match="SIGNOFF_TRUSTED_PROXIES"):
                Settings.read({**environ, "SIGNOFF_TRUSTED_PROXIES": wrong})

    def test_one_port_for_both_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSettings, match="both 5000"):
            Settings.read({"SIGNOFF_HOME": str(tmp_path), "SIGNOFF_PORT": "5000"})


class TestStarting:
    def test_a_broken_policy_stops_the_start_with_file_and_line(self, tmp_path: Path) -> None:
        (tmp_path / "p.yaml").write_text("name: x\ntitle: [\n")
        with pytest.raises(InvalidSettings, match=r"p\.yaml:3"):
            Signoff.wire(settings=settings_in(tmp_path, SIGNOFF_POLICIES=str(tmp_path)), registry=FakeRegistry())

    def test_a_database_that_is_none_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "signoff.db").write_text("this is no database, only text that is long enough to be looked at")
        with pytest.raises(LedgerUnavailable, match="nothing was changed"):
            Signoff.wire(settings=settings_in(tmp_path), registry=FakeRegistry())

    def test_a_second_start_keeps_everything_and_activates_nothing_anew(self, tmp_path: Path) -> None:
        for _ in range(2):
            signoff = Signoff.wire(settings=settings_in(tmp_path), registry=FakeRegistry())
        with signoff.database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM events").scalar() == 3


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("m", "03"),
        ("m", "0"),
        ("m", "-1"),
        ("m", "1.0"),
        ("m", "٣"),
        ("m", " 3"),
        ("m", ""),
        ("m", None),
        (None, "3"),
        ("", "3"),
        ("m" * 501, "3"),
        ("m", "99999999999"),
    ],
)
def test_a_malformed_reference_is_bad_input(name: str | None, version: str | None) -> None:
    with pytest.raises(BadInput):
        VersionRef.parse(name, version)
