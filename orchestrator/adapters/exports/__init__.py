"""The leaderboard for other tools, a module for each format; see ``formats``."""
