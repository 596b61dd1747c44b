"""Endurance of the local profile: kills its processes at random moments, and looks for what is left."""
