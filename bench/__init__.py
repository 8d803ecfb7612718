"""What Signoff costs on a large registry, measured: ``python -m bench``."""
