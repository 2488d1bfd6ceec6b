# shellcheck shell=bash
# Sourced by the NAME-server scripts of this folder. Each of them:
#   NAME-server DIR PORT [options of that server]   starts it; prints "READY URL" when it answers
#   NAME-server stop DIR                            ends it
# DIR holds what the server needs, its process id (pid) and its output (log).
set -eu

alive() { # alive PID: it runs; one that only waits for its parent does not
	case $(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) in
	'' | Z) return 1 ;;
	esac
}

if [ "${1:-}" = stop ]; then
	for file in "$2"/pid*; do
		[ -s "$file" ] || continue
		read -r pid <"$file"
		kill "$pid" 2>/dev/null || :
		for _ in $(seq 100); do
			alive "$pid" || break
			sleep 0.05
		done
		rm -f "$file"
	done
	exit 0
fi
if [ $# -lt 2 ]; then
	echo "usage: ${0##*/} DIR PORT [options] | stop DIR" >&2
	exit 2
fi
PORT=$2
mkdir -p "$1"
DIR=$(cd "$1" && pwd)
shift 2

if (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then
	echo "port $PORT is taken" >&2
	exit 1
fi

new_key() { # new_key FILE TYPE: rsa:2048, ec:P-256, ed25519; one that is there stays
	[ ! -s "$1" ] || return 0
	case $2 in
	rsa:*) openssl genpkey -quiet -algorithm RSA -pkeyopt "rsa_keygen_bits:${2#*:}" -out "$1" ;;
	ec:*) openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:${2#*:}" \
		-pkeyopt ec_param_enc:named_curve -out "$1" ;;
	*) openssl genpkey -algorithm "$2" -out "$1" ;;
	esac
}

new_ca() { # new_ca NAME SUBJECT TYPE: NAME.key, NAME.pem
	[ ! -s "$1.pem" ] || return 0
	new_key "$1.key" "$3"
	openssl req -x509 -new -key "$1.key" -subj "$2" -days 3650 -out "$1.pem" \
		-addext basicConstraints=critical,CA:TRUE \
		-addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature,keyEncipherment
}

issue() { # issue CA NAME SUBJECT TYPE EXTENSION...: NAME.key, NAME.pem signed by CA
	local ca=$1 name=$2 subject=$3 type=$4
	shift 4
	[ ! -s "$name.pem" ] || return 0
	new_key "$name.key" "$type"
	printf '%s\n' subjectKeyIdentifier=hash authorityKeyIdentifier=keyid "$@" >"$name.ext"
	openssl req -new -key "$name.key" -subj "$subject" |
		openssl x509 -req -CA "$ca.pem" -CAkey "$ca.key" -days 800 \
			-extfile "$name.ext" -out "$name.pem" 2>/dev/null
}

serve() { # serve COMMAND...: in the background; PIDFILE: beside another one
	"$@" >>"$DIR/log" 2>&1 </dev/null &
	echo $! >"$DIR/${PIDFILE:-pid}"
}

ready() { # ready URL COMMAND...: waits until COMMAND succeeds
	local url=$1 pid
	shift
	read -r pid <"$DIR/pid"
	for _ in $(seq 200); do
		if ! alive "$pid"; then
			tail -5 "$DIR/log" >&2
			exit 1
		fi
		if "$@" >/dev/null 2>&1; then
			echo "READY $url"
			return 0
		fi
		sleep 0.05
	done
	echo "no answer in 10 s; see $DIR/log" >&2
	exit 1
}
