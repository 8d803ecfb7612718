"""Who may come in, as what, and to do which action."""
