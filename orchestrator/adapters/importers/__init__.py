"""Reading results that something else made; nothing here executes or unpickles what it reads."""
