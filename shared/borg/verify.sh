# What a verify job of a repository runs: sh -c THIS NAME SECONDS BORG ARGUMENT...
# A server that takes the connection and then says nothing must not keep whoever asks: exit code 124
# says that the time was up.
limit=$1
shift
command -v timeout >/dev/null || exec "$@"
exec timeout -k 5 "$limit" "$@"
