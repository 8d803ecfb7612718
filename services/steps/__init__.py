"""The seven steps of every change of stage or alias: slot, intent, change, effect."""
