#!/usr/bin/env bash
# Sourced by the other scripts: `make_venv [EXTRAS]` makes or reuses .venv in the repository root.
# An install is skipped while pyproject.toml and the interpreter are those of the last one.

make_venv() {
  local extras="${1:-}" python="${PYTHON:-python3}" stamp
  local target=".${extras:+[$extras]}"
  if [ ! -x .venv/bin/python ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      { echo "launch: $python is too old; Python 3.11 or newer is needed (set PYTHON)" >&2; return 2; }
    "$python" -m venv .venv
  fi
  stamp="$(cksum <pyproject.toml) $(.venv/bin/python --version) $PWD"
  # What was installed with extras serves a call without them too.
  if grep -qsxF -- "$stamp" ".venv/installed-${extras:-core}" ||
    { [ -z "$extras" ] && grep -qsxF -- "$stamp" .venv/installed-*; }; then
    return 0
  fi
  echo "launch: installing $target into .venv" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$target"
  echo "$stamp" >".venv/installed-${extras:-core}"
}
