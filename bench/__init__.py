"""Load tests of pyllama-server beside llama-server."""
