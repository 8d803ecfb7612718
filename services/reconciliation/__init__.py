"""What was changed in MLflow past Signoff: found, kept, put back or adopted."""
