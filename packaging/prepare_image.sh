#!/bin/sh
# Installs into a build container what it lacks for one backend (backends.toml), and makes /opt/wheels, a Python
# environment with what the scripts here need. Run as root in a fresh container, in the root of the sources. The PATH with
# the newest compiler and that Python in front is the last line printed, and the workflow's for the steps that follow.
set -eu
backend=${1:?usage: prepare_image.sh BACKEND}
here=packaging

list() {  # an image may have no Python yet that reads TOML
  awk -v backend="[$backend]" -v key="packages.$1" '
    /^\[/ { inside = ($0 == backend) }
    inside && $1 == key { sub(/^[^[]*\[/, ""); gsub(/[],"]/, " "); print }
  ' "$here/backends.toml"
}

if command -v dnf >/dev/null; then
  # shellcheck disable=SC2046
  dnf install -y --setopt=install_weak_deps=False $(list dnf)
elif command -v apt-get >/dev/null; then
  apt-get update
  # shellcheck disable=SC2046
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(list apt)
else
  echo "prepare_image: neither dnf nor apt-get is here" >&2
  exit 1
fi
for toolset in /opt/rh/gcc-toolset-*/root/usr/bin; do
  [ -d "$toolset" ] && PATH=$toolset:$PATH
done
for python in python3.13 python3.12 python3.11 python3; do
  if command -v "$python" >/dev/null; then
    "$python" -m venv /opt/wheels && PATH=/opt/wheels/bin:$PATH
    python -m pip install --quiet 'pip>=25.1' && python -m pip install --quiet --group wheels
    break
  fi
done
echo "$PATH"
if [ -n "${GITHUB_PATH:-}" ]; then
  echo "$PATH" | tr : '\n' | tac >> "$GITHUB_PATH"
fi
