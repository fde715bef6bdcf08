"""Where the benchmark finds and keeps things."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
PAGE = ROOT / "bench" / "report"
PIN = ROOT / "vendor" / "llama.cpp" / "pin.toml"
VENDORED_TREE = ROOT / "vendor" / "llama.cpp" / "src"
REFERENCE_BUILD = ROOT / "build" / "reference"
REFERENCE_SERVER = REFERENCE_BUILD / "bin" / "llama-server"
REFERENCE_BENCH = REFERENCE_BUILD / "bin" / "llama-bench"
DEMO_MODEL = ROOT / "pyllama" / "models" / "pyllama-demo.gguf"
PYLLAMA_SERVER = ROOT / ".venv" / "bin" / "pyllama-server"
