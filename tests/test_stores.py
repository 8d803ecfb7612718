"""Stores outside the MLflow server: each way to fail is one sentence that helps, in bounded time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from services.errors import FilesUnreadable, NotFound, RegistryUnavailable, StoreUnavailable
from services.mlflow import stores
from services.mlflow.registry import MlflowRegistry

WHAT = "the files of m/v1"


class NoCredentialsError(Exception):
    """As botocore's: a name is all that is known of it here."""


class EndpointConnectionError(Exception):
    """As botocore's."""


class ClientError(Exception):
    """As botocore's, which carries the store's answer."""

    def __init__(self, code: str) -> None:
        super().__init__(f"An error occurred ({code}) when calling the ListObjectsV2 operation")
        self.response = {"Error": {"Code": code}}


class TestPathsOfOtherMachines:
    @pytest.mark.parametrize(
        ("source", "why"),
        [
            (r"C:\Users\kim\mlruns\0\model", "a path on a Windows drive"),
            ("file:///C:/Users/kim/mlruns/0/model", "a path on a Windows drive"),
            ("D:/mlruns/0/model", "a path on a Windows drive"),
            (r"\\share\models", "a path on a Windows drive"),
            ("./mlruns/0/abc/artifacts/model", "a relative path"),
            ("model", "a relative path"),
            ("", "a relative path"),
            ("file://otherhost/srv/model", "a folder of another machine"),
            ("file:///nowhere/at/all", "no such folder on the machine where Signoff runs"),
            ("/nowhere/at/all", "no such folder on the machine where Signoff runs"),
            ("dbfs:/databricks/mlflow/1", "read through a Databricks workspace"),
            ("runs:/0/model", "MLflow has no such run or model"),
            ("models:/gone/1", "MLflow has no such run or model"),
            ("mlflow-artifacts:/a/../b/run/artifacts/model", "MLflow refuses every path with .. in it"),
            ("mlflow-artifacts:/%252e%252E/b", "MLflow refuses every path with .. in it"),
        ],
    )
    def test_are_named_and_never_read(self, source: str, why: str) -> None:
        with pytest.raises(FilesUnreadable) as refusal:
            stores.require_readable(source, WHAT)
        assert why in str(refusal.value)
        assert str(refusal.value).startswith(f"The files of m/v1 cannot be read from {source or 'no source at all'}: ")
        assert str(refusal.value).endswith("register it anew. What lies there is unguarded.")

    def test_a_folder_that_is_there_is_read(self, tmp_path: Path) -> None:
        for source in (str(tmp_path), tmp_path.as_uri(), "s3://bucket/model", "mlflow-artifacts:/1/r/artifacts..x/y"):
            stores.require_readable(source, WHAT)


class TestErrors:
    @pytest.mark.parametrize(
        ("source", "error", "words"),
        [
            ("s3://b/m", ModuleNotFoundError(name="botocore"), "pip install boto3"),
            ("gs://b/m", ModuleNotFoundError(name="google.cloud"), "pip install google-cloud-storage"),
            ("wasbs://c@a.blob.core.windows.net/m", ImportError(), "pip install azure-storage-blob azure-identity"),
            ("hdfs://namenode/m", ImportError(), "pip install pyarrow"),
            ("sftp://host/m", ImportError(), "pip install pysftp"),
            ("s3://b/m", NoCredentialsError(), "Signoff has no credentials for it"),
            ("gs://b/m", NoCredentialsError(), "GOOGLE_APPLICATION_CREDENTIALS"),
            ("s3://b/m", ClientError("NoSuchBucket"), "there is nothing"),
            (
                "s3://b/m",
                ClientError("AccessDenied"),
                "its store answers ClientError: An error occurred (AccessDenied)",
            ),
            ("s3://b/m", PermissionError("denied"), "its store answers PermissionError: denied"),
        ],
    )
    def test_are_one_sentence_that_says_what_to_install_or_to_give(
        self, source: str, error: Exception, words: str
    ) -> None:
        found = stores.translated(error, source, WHAT)
        assert isinstance(found, FilesUnreadable)
        assert words in str(found)
        assert source in str(found)
        assert "unguarded" in str(found)
        assert "\n" not in str(found)

    def test_a_scheme_that_mlflow_does_not_know_is_named(self) -> None:
        found = stores.translated(ValueError(), "hf://org/model", WHAT, known=False)
        assert "MLflow has no artifact store for hf: here" in str(found)

    @pytest.mark.parametrize(
        "error",
        [EndpointConnectionError(), TimeoutError(), ConnectionRefusedError(), ClientError("SlowDown")],
        ids=lambda error: type(error).__name__,
    )
    def test_a_store_that_does_not_answer_is_away_and_not_empty(self, error: Exception) -> None:
        assert type(stores.translated(error, "s3://b/m", WHAT)) is StoreUnavailable

    def test_a_password_in_a_source_is_not_told(self) -> None:
        found = stores.translated(ImportError(), "sftp://kim:hunter2@host/m", WHAT)
        assert "hunter2" not in str(found)
        assert "kim:…@host" in str(found)


class TestAnswersOfTheServerAboutFiles:
    """The server hands the files out itself; a status is all that its routes for files say of an error."""

    @pytest.mark.parametrize(
        ("status", "kind", "words"),
        [
            (400, FilesUnreadable, "MLflow refuses to give the files of m/v1: it answers 400"),
            (403, FilesUnreadable, "Signoff's account there may not read them"),
            (404, NotFound, "MLflow does not know the files of m/v1"),
            (429, RegistryUnavailable, "did not give a usable answer"),
            (500, RegistryUnavailable, "did not give a usable answer"),
        ],
    )
    def test_are_an_outage_only_where_waiting_helps(self, status: int, kind: type[Exception], words: str) -> None:
        answer = requests.Response()
        answer.status_code = status

        def ask() -> None:
            raise requests.HTTPError("no", response=answer)

        with pytest.raises(kind, match=words):
            MlflowRegistry("http://127.0.0.1:9")._once(ask, WHAT)


class TestPatience:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stores, "STORE_SECONDS", 0.05)

    @pytest.fixture
    def hanging(self) -> Iterator[Callable[[], object]]:
        """A call that does not come back before the test is over."""
        over = threading.Event()
        yield over.wait
        over.set()

    def test_ends_and_the_store_is_left_alone_for_a_while(self, hanging: Callable[[], object]) -> None:
        patience, asked = stores.Patience(), []
        with pytest.raises(RegistryUnavailable, match="does not answer"):
            patience.bounded(hanging, "s3://b/m", WHAT)
        with pytest.raises(RegistryUnavailable):
            patience.bounded(lambda: asked.append(1), "s3://b/other", WHAT)
        assert asked == []
        patience.bounded(lambda: asked.append(1), "s3://another/m", WHAT)
        assert asked == [1]

    def test_forgets_stores_that_have_been_left_alone_long_enough(
        self, hanging: Callable[[], object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "REST_SECONDS", 0.0)
        patience = stores.Patience()
        for host in ("a", "b", "c"):
            with pytest.raises(RegistryUnavailable):
                patience.bounded(hanging, f"s3://{host}/m", WHAT)
        assert list(patience._silent) == ["s3://c"]

    def test_lasts_as_long_as_something_arrives(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        arrived, sizes = threading.Event(), iter((1000, 2000, 3000, 3001))

        def size(folder: Path) -> int:
            found = next(sizes)
            if found == 3001:
                arrived.set()
            return found

        monkeypatch.setattr(stores, "_size", size)
        assert stores.Patience().bounded(arrived.wait, "s3://b/m", WHAT, tmp_path)

    def test_what_the_call_raises_arrives(self) -> None:
        def broken() -> None:
            raise NoCredentialsError

        with pytest.raises(NoCredentialsError):
            stores.Patience().bounded(broken, "s3://b/m", WHAT)


class TestWithMlflowsOwnStores:
    """Without a server: what the installed MLflow does with each scheme."""

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("s3://bucket/model", "pip install boto3"),
            ("gs://bucket/model", "pip install google-cloud-storage"),
            ("wasbs://c@a.blob.core.windows.net/model", "pip install azure-storage-blob"),
            ("hf://org/model", "no artifact store for hf:"),
            ("oss://bucket/model", "no artifact store for oss:"),
        ],
    )
    def test_each_is_unreadable_with_what_to_install(
        self, source: str, words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for library in ("boto3", "botocore", "google.cloud", "azure"):
            monkeypatch.setitem(sys.modules, library, None)
        registry = MlflowRegistry("http://127.0.0.1:9")
        with pytest.raises(FilesUnreadable) as refusal:
            registry._listed(registry._repository(source, WHAT), None, WHAT)
        assert words in str(refusal.value)
