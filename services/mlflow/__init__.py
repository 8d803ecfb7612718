"""The one way to a real MLflow server: `services.registry.Registry` on its client."""
