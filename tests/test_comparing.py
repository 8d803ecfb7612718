"""What a link asks to compare, and what is read for it."""

from __future__ import annotations

import pytest

from services.domain import VersionRef
from services.errors import BadInput, NotFound
from services.side_by_side import comparing
from services.signoff import Signoff
from tests.fakes import FakeRegistry


class TestALink:
    @pytest.fixture
    def registry(self, registry: FakeRegistry) -> FakeRegistry:
        for _ in range(3):
            registry.add_version("m", {"val_auc": 0.9})
        registry.add_version("a,b:c", {"val_auc": 0.9})
        return registry

    def test_reads_names_that_hold_commas_and_colons(self) -> None:
        assert comparing.parse("m:3,a,b:c:1") == (VersionRef(name="m", version=3), VersionRef(name="a,b:c", version=1))

    def test_forgives_a_comma_at_the_end_and_a_version_named_twice(self) -> None:
        assert comparing.parse("m:3,m:3,") == (VersionRef(name="m", version=3),)

    @pytest.mark.parametrize("text", ["m:03", "m:0", "m:", "m:x", ":3", ",", "m", "m:3.0", "m:٣"])
    def test_refuses_what_is_not_of_that_form(self, text: str) -> None:
        with pytest.raises(BadInput):
            comparing.parse(text)

    def test_a_bare_name_is_the_champion_and_the_newest(self, signoff: Signoff, registry: FakeRegistry) -> None:
        assert [ref.version for ref in comparing.asked(signoff, "m").refs] == [2, 3]
        registry.set_alias(VersionRef(name="m", version=3), "champion")
        signoff.snapshot.refresh()
        assert [ref.version for ref in comparing.asked(signoff, "m").refs] == [3, 2]

    def test_the_link_of_a_version_page_is_that_version_against_the_champion(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        registry.set_alias(VersionRef(name="m", version=2), "champion")
        assert [ref.version for ref in comparing.asked_one(signoff, "m", "1").refs] == [2, 1]
        assert isinstance(comparing.asked_one(signoff, "m", "01").problem, BadInput)

    def test_what_exists_is_kept_and_the_rest_is_named(self, signoff: Signoff) -> None:
        found = comparing.asked(signoff, "m:1,m:9")
        assert [ref.version for ref in found.refs] == [1]
        assert isinstance(found.problem, NotFound)
        assert "m/v9" in str(found.problem)

    def test_a_name_alone_with_a_colon_is_an_empty_choice(self, signoff: Signoff) -> None:
        found = comparing.asked(signoff, "m:")
        assert (found.model, found.refs, found.problem) == ("m", (), None)

    def test_reads_each_version_once(self, signoff: Signoff, registry: FakeRegistry) -> None:
        refs = [VersionRef(name="m", version=number) for number in (1, 2)]
        comparing.shown(signoff, refs)
        before = registry.calls
        comparing.shown(signoff, refs)
        assert registry.calls == before

    def test_two_are_needed(self, signoff: Signoff) -> None:
        with pytest.raises(BadInput, match="two or more"):
            comparing.shown(signoff, [VersionRef(name="m", version=1)])
