"""What a page or a list shows, put together; no door computes."""
