#!/bin/sh
# Make the secrets that docker-compose.yml hands out; what is there stays as it is.
#
#   deploy/secrets.sh            passwords are drawn; the key for Cal.com is asked for
#   CALCOM_API_KEY=… deploy/secrets.sh   or taken from the environment
#
# The folder keeps others out. Its files can be read by the containers' accounts, to which they are handed one by one.
set -eu
umask 022
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

drawn() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME VALUE: whole or not at all, and never over one that is there.
keep() {
    [ -s "$1" ] && return
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
    echo "made $(pwd)/$1"
}

keep postgres_password "$(drawn)"
keep database_url "postgresql://sagajobs:$(cat postgres_password)@postgres:5432/sagajobs"

keep redis.conf "requirepass $(drawn)"
redis=$(cut -d' ' -f2 redis.conf)
keep broker_url.redis "redis://:$redis@redis:6379/0"
keep redis_url "redis://:$redis@redis:6379/1"

if [ ! -s rabbitmq.conf ]; then
    keep rabbitmq.conf "default_user = sagajobs
default_pass = $(drawn)"
fi
keep broker_url.rabbitmq "amqp://sagajobs:$(sed -n 's/^default_pass = //p' rabbitmq.conf)@rabbitmq:5672//"

keep flower_login "operator:$(drawn)"
keep calcom_webhook_secret "$(drawn)"

if [ ! -s calcom_api_key ]; then
    if [ -z "${CALCOM_API_KEY:-}" ]; then
        printf 'Key for the API of Cal.com (for the simulator: cal_test_simulator): ' >&2
        read -r CALCOM_API_KEY
    fi
    [ -n "$CALCOM_API_KEY" ] || { echo 'no key was given; run this again with one' >&2; exit 1; }
    keep calcom_api_key "$CALCOM_API_KEY"
fi
