#!/bin/sh
# What the tests start beside Python packages: mosquitto, prometheus with promtool, alertmanager
# with amtool, systemd-analyze, faketime.
# Installed with apt where that is allowed; otherwise says what will be skipped. Never fails.
PATH="$PATH:/usr/sbin"
missing=""
command -v mosquitto >/dev/null || missing="$missing mosquitto"
command -v promtool >/dev/null || missing="$missing prometheus"
command -v amtool >/dev/null || missing="$missing prometheus-alertmanager"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
command -v faketime >/dev/null || missing="$missing faketime"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086  # a list of packages
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing; } \
        >/dev/null 2>&1 && exit 0
fi
echo "not installed:$missing - the tests that need it are skipped (as root, apt-get would install it)" >&2
exit 0
