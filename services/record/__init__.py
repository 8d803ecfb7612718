"""The ledger: appended, verified, witnessed, exported, and mirrored in MLflow's tags."""
