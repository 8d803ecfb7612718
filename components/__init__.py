"""What draws domain objects and gives back domain objects. Decides nothing, writes nothing."""
