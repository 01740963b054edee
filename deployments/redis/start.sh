#!/bin/sh
# Starts redis-server in the working directory with the users of users.acl. Their
# passwords come from the environment, as Redis' own files know no variables.
# Arguments go to redis-server.
set -eu
here=$(dirname "$0")
: "${REDIS_API_PASSWORD:?}" "${REDIS_WORKER_PASSWORD:?}" "${REDIS_TRIGGER_PASSWORD:?}"
case "$REDIS_API_PASSWORD$REDIS_WORKER_PASSWORD$REDIS_TRIGGER_PASSWORD" in
*[!A-Za-z0-9]*)
	echo "passwords of Redis' users have to be letters and digits" >&2
	exit 1
	;;
esac
umask 077
acl=$(mktemp)
# The passwords go through sed's standard input, not its arguments, which
# everybody on the machine could read.
sed -f /dev/stdin "$here/users.acl" >"$acl" <<END
s/@REDIS_API_PASSWORD@/$REDIS_API_PASSWORD/
s/@REDIS_WORKER_PASSWORD@/$REDIS_WORKER_PASSWORD/
s/@REDIS_TRIGGER_PASSWORD@/$REDIS_TRIGGER_PASSWORD/
END
exec redis-server "$here/redis.conf" --aclfile "$acl" "$@"
