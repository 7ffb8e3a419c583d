"""The network's door: translates HTTP requests into calls of the installation."""
