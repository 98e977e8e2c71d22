#!/bin/sh
# Makes every secret that docker-compose.yml mounts, at random. Usage: deploy/make-secrets.sh FOLDER [HOST...]
# HOST: names or addresses by which gateways reach the broker; they stand in its certificate.
# deploy/secrets/README.md says which file is for whom and why the modes are what they are.
set -eu

folder=${1:?usage: deploy/make-secrets.sh FOLDER [HOST...]}
shift
deploy=$(cd "$(dirname "$0")" && pwd)
sign=$deploy/certificate.sh
for tool in openssl mosquitto_passwd; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed (Debian: apt install openssl mosquitto)" >&2; exit 1; }
done
mkdir -p "$folder"
chmod 0700 "$folder"
cd "$folder"
if [ -e mosquitto_passwords ]; then
    echo "$folder/mosquitto_passwords is there already; new passwords would lock out what runs with the old" >&2
    exit 1
fi

# Hexadecimal, so that a password needs no quoting in a URL.
random() { openssl rand -hex 24; }

# put NAME VALUE
put() { (umask 077 && printf '%s\n' "$2" >"$1") && chmod 0444 "$1"; }

service=$(random)
observer=$(random)
simulator=$(random)
health=$(random)
postgres=$(random)

put ingest_mqtt_url "mqtt://ganzhi:$service@mosquitto:1883"
put observe_mqtt_url "mqtt://observer:$observer@mosquitto:1883"
put simulate_mqtt_url "mqtt://simulator:$simulator@mosquitto:1883"
put mosquitto_health_password "$health"
put http_token "$(random)"
put postgres_password "$postgres"
put migrate_database_url "postgresql://postgres:$postgres@timescaledb:5432/ganzhi"
# role NAME [SERVICE]: a password file named like the role, and the URL of the service that logs in as it.
role() {
    password=$(random)
    put "$1" "$password"
    [ -z "${2-}" ] || put "$2_database_url" "postgresql://$1:$password@timescaledb:5432/ganzhi"
}
role ganzhi_owner maintain
role ganzhi_writer ingest
role ganzhi_observer observe
role ganzhi_reader
put grafana_admin_password "$(random)"

# Where alerts go, a URL for each receiver; this one leads nowhere until it is replaced.
mkdir -p alerts
for receiver in $(sed -n 's|.*/run/secrets/alerts/\([a-z]*\).*|\1|p' "$deploy/alertmanager/alertmanager.yml"); do
    put "alerts/$receiver" "http://127.0.0.1:9/"
done

# Hashed from a file, not from arguments, which every user of this machine can see.
(umask 077 && printf 'ganzhi:%s\nobserver:%s\nsimulator:%s\nhealth:%s\n' "$service" "$observer" "$simulator" "$health" \
    >passwords.new)
mosquitto_passwd -U passwords.new
mv passwords.new mosquitto_passwords
chmod 0400 mosquitto_passwords

# The broker's certificate, and the authority that signs those of gateways: its key stays in certificates/.
"$sign" certificates mosquitto mosquitto localhost 127.0.0.1 "$@"
cp certificates/authority.crt mosquitto_authority
# What workers and observers on other machines show it.
"$sign" --service certificates ganzhi
"$sign" --service certificates observer
cp certificates/service-authority.crt mosquitto_service_authority
cp certificates/mosquitto.crt mosquitto_certificate
mv certificates/mosquitto.key mosquitto_key
chmod 0444 mosquitto_authority mosquitto_service_authority mosquitto_certificate
chmod 0400 mosquitto_key
# 1883 is the user of the eclipse-mosquitto image; only root can give a file away.
if [ "$(id -u)" = 0 ]; then
    chown 1883:1883 mosquitto_passwords mosquitto_key
else
    echo "now: sudo chown 1883:1883 $folder/mosquitto_passwords $folder/mosquitto_key" >&2
fi
