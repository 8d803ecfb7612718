"""The verbs, called as by the browser: for tests that are not about the door a request comes through.

    from tests.verbs import reviews
    reviews.submit(signoff, ref, by="scientist", comment="Please review.")  # source=Source.BROWSER

A test that is about the door gives ``source`` itself. To replace a part of a verb, patch the module itself.
"""

from __future__ import annotations

import inspect
from functools import partial
from types import ModuleType
from typing import Any

from services import desk as _desk
from services.domain import Source
from services.reconciliation import reconciler as _reconciler
from services.reconciliation import redress as _redress
from services.verbs import automation as _automation
from services.verbs import break_glass as _break_glass
from services.verbs import findings as _findings
from services.verbs import policies as _policies
from services.verbs import releases as _releases
from services.verbs import reviews as _reviews
from services.verbs import statements as _statements
from services.verbs import validations as _validations


class ThroughTheBrowser:
    """A module whose functions get ``source=Source.BROWSER`` where they need a source and the test gives none."""

    def __init__(self, module: ModuleType) -> None:
        vars(self).update(_module=module)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if not name.startswith("_") and inspect.isfunction(found) and "source" in inspect.signature(found).parameters:
            return partial(found, source=Source.BROWSER)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError(f"Patch {self._module.__name__} itself.")


automation: Any = ThroughTheBrowser(_automation)
break_glass: Any = ThroughTheBrowser(_break_glass)
desk: Any = ThroughTheBrowser(_desk)
findings: Any = ThroughTheBrowser(_findings)
policies: Any = ThroughTheBrowser(_policies)
reconciler: Any = ThroughTheBrowser(_reconciler)
redress: Any = ThroughTheBrowser(_redress)
releases: Any = ThroughTheBrowser(_releases)
reviews: Any = ThroughTheBrowser(_reviews)
statements: Any = ThroughTheBrowser(_statements)
validations: Any = ThroughTheBrowser(_validations)
