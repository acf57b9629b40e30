"""Data of the report's figures: a leaderboard and its trials in, JSON values out. Pure."""
