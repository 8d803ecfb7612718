"""Where a holdout may come from, what is refused before anything runs, and that every refusal says why."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlflow.data
import numpy as np
import pandas as pd
import pytest

from services.domain import Column, Dataset, Signature
from services.validation import holdout
from services.validation.errors import (
    EmptyHoldout,
    HoldoutRefused,
    HoldoutTooLarge,
    MissingTargets,
    OneClassOnly,
    SourceNotAllowed,
    UnreadableHoldout,
    WrongColumn,
    WrongType,
)
from services.validation.holdout import Holdout, HoldoutLimits, Places
from services.validation.report import Task
from services.validation.schema import rows_for

pytestmark = pytest.mark.usefixtures("decoding_here")

SMALL = HoldoutLimits(bytes=10_000, rows=100, columns=20)


def table(rows: int = 40) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": np.arange(rows),
            "dose": np.linspace(0, 1, rows),
            "site": ["north", "south"] * (rows // 2),
            "y": [0, 1] * (rows // 2),
        }
    )


def csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def uploaded(content: bytes, *, target: str = "y", limits: HoldoutLimits = SMALL, task: Task | None = None) -> Holdout:
    return holdout.from_upload(io.BytesIO(content), file_name="holdout.csv", target=target, limits=limits, task=task)


class TestReading:
    @pytest.mark.parametrize("kind", [csv, parquet])
    def test_a_table_is_read_whatever_its_file_is_called(self, kind: Callable[[pd.DataFrame], bytes]) -> None:
        found = uploaded(kind(table()))

        assert (found.facts.rows, found.facts.columns) == (40, ("age", "dose", "site", "y"))
        assert (found.task, found.classes) == (Task.CLASSIFIER, (0, 1))
        assert found.truth.tolist() == table()["y"].tolist()
        assert found.facts.source == "upload:holdout.csv"

    def test_the_digest_is_the_one_mlflow_gives_the_same_rows(self) -> None:
        logged = mlflow.data.from_pandas(table(), targets="y", name="n")

        assert uploaded(parquet(table())).facts.digest == logged.digest
        assert uploaded(csv(table())).facts.digest == logged.digest

    def test_the_sha256_is_that_of_the_file(self) -> None:
        assert uploaded(csv(table())).facts.sha256 == hashlib.sha256(csv(table())).hexdigest()

    def test_row_labels_that_pandas_wrote_are_no_column(self) -> None:
        labelled = table().set_index(pd.Index([f"row {number}" for number in range(40)]))

        assert uploaded(parquet(labelled)).facts.columns == ("age", "dose", "site", "y")

    @pytest.mark.parametrize("separator", [";", "\t"])
    def test_other_separators_and_a_byte_order_mark_are_understood(self, separator: str) -> None:
        content = "\ufeff".encode() + table().to_csv(index=False, sep=separator).encode()

        assert uploaded(content).facts.columns == ("age", "dose", "site", "y")


class TestTarget:
    @pytest.mark.parametrize(
        ("values", "task", "classes"),
        [
            (["benign", "malignant"] * 20, Task.CLASSIFIER, ("benign", "malignant")),
            ([True, False] * 20, Task.CLASSIFIER, (False, True)),
            ([3.0, 1.0, 2.0, 1.0] * 10, Task.CLASSIFIER, (1.0, 2.0, 3.0)),
        ],
    )
    def test_text_truth_and_few_whole_numbers_are_classes(
        self, values: list[object], task: Task, classes: tuple[object, ...]
    ) -> None:
        found = uploaded(parquet(table().assign(y=values)))

        assert (found.task, found.classes) == (task, classes)
        assert [found.classes[position] for position in found.truth] == values

    @pytest.mark.parametrize("values", [np.arange(40), np.linspace(0, 1, 40), [0.5, 1.5] * 20])
    def test_many_numbers_and_fractions_are_numbers(self, values: object) -> None:
        assert uploaded(parquet(table().assign(y=values))).task is Task.REGRESSOR

    def test_whoever_asks_for_numbers_gets_numbers(self) -> None:
        found = uploaded(csv(table()), task=Task.REGRESSOR)

        assert (found.task, found.task_guessed) == (Task.REGRESSOR, False)


class TestRefusal:
    """One clear sentence each, as an error of its own; nothing is ever half read."""

    @pytest.mark.parametrize(
        ("content", "error", "words"),
        [
            (b"", EmptyHoldout, "The file is empty."),
            (b"\n\n", EmptyHoldout, "nothing but empty lines"),
            (b"age,y\n", EmptyHoldout, "columns but no rows"),
            (csv(table().drop(columns="y")), WrongColumn, "no column 'y' to be the target; there are 'age', 'dose'"),
            (csv(table()[["y"]]), WrongColumn, "no column beside the target"),
            (b"a,a,y\n1,2,0\n", WrongColumn, "Two columns are named 'a'"),
            (b"a,,y\n1,2,0\n", WrongColumn, "Column 2 has no name"),
            (b"a,y\n1,0,5\n2,1,6\n", WrongColumn, "The first row has more values than the 2 columns"),
            (b"a,y\n1,0\n2,1,6\n", UnreadableHoldout, "cannot be read as CSV"),
            (csv(table().assign(y=1)), OneClassOnly, "All 40 rows have the target 1: nothing"),
            (csv(table().assign(y=0.5)), OneClassOnly, "the target 0.5: nothing"),
            (parquet(table().assign(y=True)), OneClassOnly, "the target True: nothing"),
            (csv(table().assign(y="a")), OneClassOnly, "the target 'a': nothing"),
            (csv(table().assign(y=[None, 1, 0, 1] * 10)), MissingTargets, "10 of 40 rows have no usable target"),
            (parquet(table().assign(y=[np.inf, 1.5] * 20)), MissingTargets, "20 of 40 rows"),
            (parquet(table().assign(y=[[1], [2]] * 20)), WrongType, "neither text nor numbers"),
            (b"PAR1 and then nothing of the kind", UnreadableHoldout, "cannot be read as Parquet"),
            (b'age,y\n"1,0\n', UnreadableHoldout, "cannot be read as CSV"),
            (b"\x89PNG\r\n\x1a\n\0\0", UnreadableHoldout, "neither CSV nor Parquet"),
            ("größe,y\n1,0\n".encode("latin-1"), UnreadableHoldout, "cannot be read as CSV"),
        ],
    )
    def test_what_is_wrong_is_said(self, content: bytes, error: type[HoldoutRefused], words: str) -> None:
        with pytest.raises(error, match=words) as refused:
            uploaded(content)

        assert str(refused.value).count("\n") == 0
        assert "np." not in str(refused.value)

    def test_text_is_no_number_to_predict(self) -> None:
        with pytest.raises(WrongType, match="holds no numbers, which a regressor predicts"):
            uploaded(csv(table().assign(y=["low", "high"] * 20)), task=Task.REGRESSOR)

    def test_a_name_for_each_row_is_no_class(self) -> None:
        names = pd.DataFrame({"x": range(1001), "y": [f"patient {number}" for number in range(1001)]})

        with pytest.raises(WrongType, match="1,001 different values"):
            uploaded(csv(names), limits=HoldoutLimits())


class TestSize:
    def test_a_file_of_two_gigabytes_is_refused_without_being_read(self, tmp_path: Path) -> None:
        file = tmp_path / "large.csv"
        with file.open("wb") as content:
            content.truncate(2 << 30)  # sparse: it takes no space, and no time unless somebody reads it

        with file.open("rb") as content, pytest.raises(HoldoutTooLarge, match="2,048 MB; at most 256 MB"):
            holdout.from_upload(_Unreadable(content), file_name="large.csv", target="y", limits=HoldoutLimits())

    def test_more_rows_than_are_read_are_refused(self) -> None:
        for content in (csv(table(200)), parquet(table(200))):
            with pytest.raises(HoldoutTooLarge, match="more than 100 rows"):
                uploaded(content)

    def test_more_columns_than_are_read_are_refused(self) -> None:
        wide = pd.DataFrame({f"c{number}": [1, 2] for number in range(30)})

        for content in (csv(wide), parquet(wide)):
            with pytest.raises(HoldoutTooLarge, match="30 columns; at most 20"):
                uploaded(content, limits=HoldoutLimits(columns=20))

    def test_a_small_file_that_unpacks_to_a_large_table_is_refused(self) -> None:
        bomb = parquet(pd.DataFrame({"x": ["x" * 10_000] * 90, "y": [0, 1] * 45}))
        assert len(bomb) < SMALL.bytes

        with pytest.raises(HoldoutTooLarge, match="once it is unpacked"):
            uploaded(bomb)

    def test_a_packed_csv_is_not_unpacked(self) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("holdout.csv", csv(table()))

        with pytest.raises(UnreadableHoldout):
            uploaded(packed.getvalue())


class _Unreadable(io.RawIOBase):
    """A file whose size can be asked, and that must not be read."""

    def __init__(self, content: io.BufferedReader) -> None:
        self._content = content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._content.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("it was read")


class TestPlaces:
    @pytest.fixture
    def places(self, tmp_path: Path) -> Places:
        (folder := tmp_path / "holdouts").mkdir()
        (folder / "nested").mkdir()
        (folder / "nested" / "h 1.csv").write_bytes(csv(table()))
        (tmp_path / "secret.csv").write_bytes(csv(table()))
        return Places(folders=(folder,))

    def read(self, location: str, places: Places) -> Holdout:
        return holdout.from_place(location, target="y", places=places, limits=SMALL)

    def test_a_file_in_a_listed_folder_is_read_by_path_and_by_uri(self, places: Places) -> None:
        file = places.folders[0] / "nested" / "h 1.csv"

        for location in (str(file), file.as_uri()):
            found = self.read(location, places)
            assert (found.facts.rows, found.facts.source) == (40, location)

    @pytest.mark.parametrize(
        "location",
        [
            "{root}/secret.csv",
            "{root}/holdouts/../secret.csv",
            "file://{root}/holdouts/%2e%2e/secret.csv",
            "{root}/holdouts",
            "holdouts/nested/h 1.csv",
            "file://elsewhere{root}/holdouts/nested/h 1.csv",
            "http://169.254.169.254/latest/meta-data",
            "https://example.com/h.csv",
            "s3://bucket/h.csv",
            "ftp://host/h.csv",
            "mlflow-artifacts:/1/h.csv",
            "//host/share/h.csv",
            "",
        ],
    )
    def test_everything_else_is_refused(self, location: str, places: Places, tmp_path: Path) -> None:
        with pytest.raises(SourceNotAllowed):
            self.read(location.format(root=tmp_path), places)

    @pytest.mark.parametrize("link", ["file", "folder"])
    def test_a_link_does_not_lead_out(self, link: str, places: Places, tmp_path: Path) -> None:
        target = tmp_path / "secret.csv" if link == "file" else tmp_path
        (places.folders[0] / "link").symlink_to(target)
        location = places.folders[0] / ("link" if link == "file" else "link/secret.csv")

        with pytest.raises(SourceNotAllowed):
            self.read(str(location), places)

    def test_a_pipe_is_no_file_and_nobody_waits_for_it(self, places: Places) -> None:
        os.mkfifo(places.folders[0] / "pipe")

        with pytest.raises(SourceNotAllowed, match="is not a file"):
            self.read(str(places.folders[0] / "pipe"), places)

    def test_a_missing_file_is_told_inside_a_listed_folder_only(self, places: Places, tmp_path: Path) -> None:
        with pytest.raises(UnreadableHoldout, match="There is no file"):
            self.read(str(places.folders[0] / "none.csv"), places)
        with pytest.raises(SourceNotAllowed, match="in none of the folders"):
            self.read(str(tmp_path / "none.csv"), places)

    def test_nothing_is_read_where_no_folder_is_listed(self, places: Places) -> None:
        with pytest.raises(SourceNotAllowed, match="no folder is listed"):
            self.read(str(places.folders[0] / "nested" / "h 1.csv"), Places())

    def test_a_listed_folder_may_itself_be_a_link(self, places: Places, tmp_path: Path) -> None:
        (tmp_path / "alias").symlink_to(places.folders[0])
        aliased = Places(folders=(tmp_path / "alias",))

        assert self.read(str(tmp_path / "alias" / "nested" / "h 1.csv"), aliased).facts.rows == 40


class TestLoggedDataset:
    """MLflow keeps the name and the digest of a data set and where it came from, but not its rows."""

    def read(self, dataset: Dataset, folder: Path) -> Holdout:
        return holdout.from_dataset(dataset, target="y", places=Places(folders=(folder,)), limits=SMALL)

    def logged(self, source: str = "") -> Dataset:
        digest = mlflow.data.from_pandas(table(), targets="y", name="n").digest
        return Dataset(name="screening_holdout", digest=digest, context="eval", source=source)

    def test_it_is_read_from_where_it_came_from_and_keeps_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "h.csv").write_bytes(csv(table()))

        found = self.read(self.logged(str(tmp_path / "h.csv")), tmp_path)

        assert (found.facts.name, found.facts.digest) == ("screening_holdout", self.logged().digest)

    def test_a_file_that_changed_since_is_not_that_data_set(self, tmp_path: Path) -> None:
        (tmp_path / "h.csv").write_bytes(csv(table().assign(age=1)))

        with pytest.raises(UnreadableHoldout, match="is not what was logged as 'screening_holdout'"):
            self.read(self.logged(str(tmp_path / "h.csv")), tmp_path)

    @pytest.mark.parametrize("source", ["", "https://example.com/h.csv", "/etc/passwd"])
    def test_what_came_from_elsewhere_is_not_fetched(self, source: str, tmp_path: Path) -> None:
        with pytest.raises(SourceNotAllowed):
            self.read(self.logged(source), tmp_path)


class TestSignature:
    """The columns are compared before anything runs, and given in the model's order and types."""

    def rows(self, *columns: Column, frame: pd.DataFrame | None = None) -> object:
        found = uploaded(parquet(table() if frame is None else frame))
        return rows_for(found, Signature(inputs=columns, outputs=()), "The candidate m/v2")

    def test_columns_come_in_the_models_order_and_types_and_others_are_left_out(self) -> None:
        rows = self.rows(Column(name="dose", type="float"), Column(name="age", type="double"))

        assert isinstance(rows, pd.DataFrame)
        assert list(rows.columns) == ["dose", "age"]
        assert [str(dtype) for dtype in rows.dtypes] == ["float32", "float64"]

    def test_without_a_signature_everything_but_the_target_is_given(self) -> None:
        rows = rows_for(uploaded(csv(table())), None, "The candidate m/v2")

        assert isinstance(rows, pd.DataFrame)
        assert list(rows.columns) == ["age", "dose", "site"]

    def test_an_optional_column_may_be_missing(self) -> None:
        rows = self.rows(Column(name="dose", type="double"), Column(name="weight", type="double", required=False))

        assert isinstance(rows, pd.DataFrame)
        assert rows["weight"].isna().all()

    def test_a_plain_array_is_given_to_a_model_that_takes_one(self) -> None:
        rows = self.rows(Column(name="0", type="tensor float64 (-1, 2)"), frame=table().drop(columns="site"))

        assert isinstance(rows, np.ndarray)
        assert (rows.shape, rows.dtype) == ((40, 2), np.float64)

    @pytest.mark.parametrize(
        ("column", "error", "words"),
        [
            (Column(name="weight", type="double"), WrongColumn, "needs 'weight', which the holdout does not have"),
            (Column(name="y", type="long"), WrongColumn, "cannot be the target as well"),
            (Column(name="site", type="double"), WrongType, "takes double in 'site'; the holdout has text such as 'no"),
            (Column(name="dose", type="long"), WrongType, "takes long in 'dose'; the holdout has fractions"),
            (Column(name="age", type="string"), WrongType, "takes string in 'age'; the holdout has numbers"),
            (Column(name="age", type="boolean"), WrongType, "takes boolean in 'age'"),
            (Column(name="site", type="datetime"), WrongType, "takes datetime in 'site'"),
            (Column(name="0", type="tensor float64 (-1, 7)"), WrongColumn, "takes 7 columns without names"),
            (Column(name="0", type="tensor float64 (-1, 3)"), WrongType, "text such as 'north' in 'site'"),
            (Column(name="0", type="tensor uint8 (-1, 28, 28)"), WrongType, "which no table gives"),
        ],
    )
    def test_what_does_not_fit_is_named(self, column: Column, error: type[HoldoutRefused], words: str) -> None:
        with pytest.raises(error, match=words.replace("(", r"\(")) as refused:
            self.rows(column)

        assert str(refused.value).startswith("The candidate m/v2 ")

    def test_missing_values_are_no_whole_numbers(self) -> None:
        holes = table().assign(age=[None, 1.0] * 20)

        with pytest.raises(WrongType, match="takes long in 'age'; the holdout has missing values"):
            self.rows(Column(name="age", type="long"), frame=holes)
