"""What every layer agrees on: errors, states, records and paths. Standard library only."""
