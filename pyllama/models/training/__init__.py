"""How the bundled demo model was made; see README.md beside this file."""
