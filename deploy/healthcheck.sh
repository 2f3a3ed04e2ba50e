#!/usr/bin/env bash
# Requests the health of the engine in this container; the image has no HTTP client.
# Usage: healthcheck [/healthz | /readyz]     (the port is that of MILLSTREAM_HTTP)
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/${MILLSTREAM_HTTP##*:}"
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "${1:-/healthz}" >&3
read -r _ status _ <&3
[ "$status" = 200 ]
