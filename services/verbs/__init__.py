"""What people and pipelines do with a version: one function a verb."""
