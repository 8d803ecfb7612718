"""`make run`: the embedded stack, from an empty folder to a registry with a history."""
