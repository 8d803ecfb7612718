"""May this call to MLflow happen? What the hook in its server asks, and what it is told."""
