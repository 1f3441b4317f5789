"""A film of what an agent looks at, and a contact sheet of it."""
