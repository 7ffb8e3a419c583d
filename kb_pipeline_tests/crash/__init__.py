"""What a refresh leaves behind when its process is killed at any point."""
