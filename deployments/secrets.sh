#!/bin/sh
# Prints an .env with fresh secrets. Needs openssl.
set -eu
password() { echo "p$(openssl rand -hex 24)"; }
for name in ADMIN_PASSWORD \
	REDIS_API_PASSWORD REDIS_WORKER_PASSWORD REDIS_TRIGGER_PASSWORD \
	NATS_API_PASSWORD NATS_WORKER_PASSWORD NATS_TRIGGER_PASSWORD; do
	echo "$name=$(password)"
done
echo "SECRET_KEY=$(openssl rand -base64 32)"
echo "WORKER_SLOTS="
