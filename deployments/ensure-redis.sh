#!/usr/bin/env bash
# Makes sure that a redis-server (6.2 or later) is installed, where that can be
# done without asking for a password. Never fails: without one, `takt dev` says so
# and keeps everything in memory, and tests that need one are skipped.
set -u

if command -v redis-server >/dev/null || command -v valkey-server >/dev/null; then
  exit 0
fi

run=""
if [ "$(id -u)" = 0 ]; then
  run="env"
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  run="sudo -n"
fi

install() {
  if command -v apt-get >/dev/null; then
    $run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq redis-server
    # The package starts a server of its own, which Takt does not use.
    command -v systemctl >/dev/null && $run systemctl disable --now redis-server >/dev/null 2>&1
    return 0
  elif command -v dnf >/dev/null; then $run dnf install -y -q redis
  elif command -v apk >/dev/null; then $run apk add -q redis
  elif command -v pacman >/dev/null; then $run pacman -S --noconfirm --quiet valkey
  else return 1
  fi
}

if command -v brew >/dev/null && [ "$(id -u)" != 0 ]; then
  echo "Installing redis with Homebrew: Takt keeps its state in Redis." >&2
  brew install -q redis >&2 || true
elif [ -n "$run" ]; then
  echo "Installing redis-server with the system's package manager: Takt keeps its state in Redis." >&2
  install >&2 || true
fi

if ! command -v redis-server >/dev/null && ! command -v valkey-server >/dev/null; then
  echo "redis-server is not installed and cannot be installed without a password." >&2
  echo "Install it yourself (for example: sudo apt-get install redis-server) to keep what you make." >&2
fi
exit 0
