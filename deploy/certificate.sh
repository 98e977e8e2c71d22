#!/bin/sh
# Signs a certificate, with an authority that it makes first where there is none, and says what it made.
# Usage: deploy/certificate.sh FOLDER GATEWAY            a gateway, which shows it to the broker (port 8883)
#        deploy/certificate.sh FOLDER NAME HOST...       a server, by the names or addresses it is reached at
#        deploy/certificate.sh --service FOLDER NAME     the service itself, ganzhi or observer (port 8884, docs/tls.md)
# FOLDER/authority.key signs: whoever has it can speak for any gateway, so it belongs on no server. The service has an
# authority of its own, service-authority: no gateway's certificate is good where workers come in, nor theirs where gateways do.
set -eu
umask 077

usage='usage: deploy/certificate.sh [--service] FOLDER NAME [HOST...]'
authority=authority
if [ "${1-}" = --service ]; then
    authority=service-authority
    shift
fi
folder=${1:?$usage}
name=${2:?$usage}
shift 2

# The broker takes the name for the user: the form is that of a gateway's level in a topic.
case $authority/$name in
    service-authority/ganzhi | service-authority/observer)
        [ $# = 0 ] || { echo "$name is no server: leave the hosts out" >&2; exit 2; } ;;
    service-authority/*) echo "$name: --service signs for ganzhi and observer only" >&2; exit 2 ;;
    authority/*[!A-Za-z0-9_.-]*) echo "$name: a gateway's name is 1 to 64 of A-Z a-z 0-9 _ . -" >&2; exit 2 ;;
    authority/ganzhi | authority/ganzhi-* | authority/observer | authority/simulator | authority/health)
        echo "$name is a user or a client id of the service itself: choose another, or see --service" >&2; exit 2 ;;
    authority/authority | authority/service-authority)
        echo "$name.key is what signs: choose another name" >&2; exit 2 ;;
esac
if [ -e "$folder/$name.key" ]; then
    echo "$folder/$name.key is there already; to renew it, move it and $name.crt away" >&2
    exit 1
fi

mkdir -p "$folder"
cd "$folder"
curve="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
if [ ! -e "$authority.key" ]; then
    # shellcheck disable=SC2086  # options, not one word
    openssl req -x509 $curve -keyout "$authority.key" -out "$authority.crt" -days 3650 -subj "/CN=Ganzhi $authority" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
    chmod 0444 "$authority.crt"
    echo "$folder/$authority.crt and .key: an authority, for 10 years; the key signs, keep it off every server"
fi

{
    echo basicConstraints=critical,CA:FALSE
    echo subjectKeyIdentifier=hash
    echo authorityKeyIdentifier=keyid
    if [ $# = 0 ]; then
        echo extendedKeyUsage=clientAuth
    else
        echo extendedKeyUsage=serverAuth
        names=
        for host; do
            case $host in
                *:* | *.*.*.*[0-9]) kind=IP ;;
                *) kind=DNS ;;
            esac
            names="$names${names:+,}$kind:$host"
        done
        echo "subjectAltName=$names"
    fi
} >"$name.ext"
# Two years: a certificate that nobody renews ends before everybody who knew how has left.
# shellcheck disable=SC2086
openssl req $curve -keyout "$name.key" -subj "/CN=$name" 2>/dev/null |
    openssl x509 -req -CA "$authority.crt" -CAkey "$authority.key" -CAcreateserial -days 730 -extfile "$name.ext" \
        -out "$name.crt" 2>/dev/null
rm "$name.ext"
echo "$folder/$name.crt and .key: $name, signed by $authority.crt, until $(openssl x509 -noout -enddate -in "$name.crt" | cut -d= -f2)"
