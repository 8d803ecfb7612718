"""The HTTP door around the pages: logging in, the gate before every request, headers, and signs of life."""
