"""What a person asks for: submit, collect, status. They neither print nor exit."""
