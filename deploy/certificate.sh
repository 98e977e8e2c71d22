#!/bin/sh
# Signs a certificate, with an authority that it makes first where there is none.
# Usage: deploy/certificate.sh FOLDER GATEWAY          a gateway, which shows it to the broker
#        deploy/certificate.sh FOLDER NAME HOST...     a server, by the names or addresses it is reached at
# FOLDER/authority.key signs: whoever has it can speak for any gateway, so it belongs on no server.
set -eu
umask 077

usage='usage: deploy/certificate.sh FOLDER NAME [HOST...]'
folder=${1:?$usage}
name=${2:?$usage}
shift 2

# The broker takes the name for the user: the form is that of a gateway's level in a topic.
case $name in
    *[!A-Za-z0-9_.-]*) echo "$name: a gateway's name is 1 to 64 of A-Z a-z 0-9 _ . -" >&2; exit 2 ;;
    ganzhi | observer | simulator | health) echo "$name is a user of the service itself: choose another" >&2; exit 2 ;;
esac
if [ -e "$folder/$name.key" ]; then
    echo "$folder/$name.key is there already; to renew it, move it and $name.crt away" >&2
    exit 1
fi

mkdir -p "$folder"
cd "$folder"
curve="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
if [ ! -e authority.key ]; then
    # shellcheck disable=SC2086  # options, not one word
    openssl req -x509 $curve -keyout authority.key -out authority.crt -days 3650 -subj "/CN=Ganzhi authority" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
    chmod 0444 authority.crt
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
    openssl x509 -req -CA authority.crt -CAkey authority.key -CAcreateserial -days 730 -extfile "$name.ext" \
        -out "$name.crt" 2>/dev/null
rm "$name.ext"
