# Sourced by parts that look at the page: installs Debian's package `chromium` where it is missing, and fails if it
# cannot be had.
if ! command -v chromium >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 || true
fi
command -v chromium >/dev/null
