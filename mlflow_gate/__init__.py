"""The hook inside the MLflow server: asks Signoff before anything that could alter what Production means."""
