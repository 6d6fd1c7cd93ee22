#!/bin/sh
# The main job on real input. A monitor watches three clients that pin a file for a device or a
# ring: perftest's ib_write_bw, which never takes a lease, and two that take one and let it go
# while the pins are still there. The last word is the report.
#
# $1: table or json, the form of the monitor's output. DEMO_RDMA=required: no RDMA is an error.
set -u
format=$1
net=leasedemo
device=rxe_leasedemo
address=192.0.2.1 # of the range for documentation
report=lease-trace\ report

talk() {
	if [ "$format" = json ]; then echo "$*" >&2; else echo "$*"; fi
}
step() { talk; talk "## $*"; }
fail() {
	echo "demo: $*" >&2
	exit 2
}

work=$(mktemp -d /dev/shm/lease-demo.XXXXXX) || fail "could not make a directory in /dev/shm"
monitor='' server='' clients=''
clean_up() {
	for pid in $monitor $server $clients; do kill "$pid" 2>/dev/null; done
	wait
	rdma link delete $device 2>/dev/null
	ip link delete $net 2>/dev/null
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# start NAME: a client of its own, told what to do by `tell NAME COMMAND`.
start() {
	mkfifo "$work/$1.in" "$work/$1.out"
	client <"$work/$1.in" >"$work/$1.out" &
	clients="$clients $!"
	case $1 in
	verbs) exec 3>"$work/$1.in" 4<"$work/$1.out" ;;
	ring) exec 5>"$work/$1.in" 6<"$work/$1.out" ;;
	esac
	tell "$1" "comm $1-client"
}
tell() {
	name=$1
	shift
	case $name in
	verbs) echo "$*" >&3 && read -r answer <&4 ;;
	ring) echo "$*" >&5 && read -r answer <&6 ;;
	esac || fail "the client $name is gone"
	case $answer in
	ok*) talk "   $name-client: $*" ;;
	*) fail "the client $name was told \"$*\" and said: $answer" ;;
	esac
}

rdma_up() {
	command -v ip >/dev/null && command -v rdma >/dev/null && command -v ib_write_bw >/dev/null ||
		{ echo "iproute2 and perftest are not installed" && return 1; }
	modprobe -a rdma_rxe ib_uverbs && modprobe dummy numdummies=0 || return 1
	ip link add $net type dummy &&
		ip address add $address/24 dev $net &&
		ip link set $net up &&
		rdma link add $device type rxe netdev $net
}
step "an RDMA device of software (rdma_rxe) over a dummy network device"
if reason=$(rdma_up 2>&1); then
	rdma=yes
elif [ "${DEMO_RDMA:-}" = required ]; then
	fail "no RDMA device: $reason"
else
	rdma=
	talk "   none here, so the demo goes on with io_uring alone: $reason"
fi

step "lease-trace monitor -o $format"
mkfifo "$work/monitor"
tee "$work/monitor.log" <"$work/monitor" &
if [ "$format" = json ]; then
	lease-trace monitor -o json >"$work/monitor" &
else
	lease-trace monitor >"$work/monitor" 2>&1 &
fi
monitor=$!
# The first thing it says, it says when it has attached.
tries=0
until [ -s "$work/monitor.log" ]; do
	kill -0 $monitor 2>/dev/null || fail "the monitor did not start"
	tries=$((tries + 1))
	[ $tries -lt 600 ] || fail "the monitor did not get ready within a minute"
	sleep 0.1
done

if [ -n "$rdma" ]; then
	step "a client that takes no lease: ib_write_bw --mmap over a file on tmpfs"
	for side in server client; do
		dd if=/dev/zero of="$work/$side" bs=1M count=2 2>/dev/null
	done
	options="-d $device -s 65536 -n 200 --report_gbits"
	# shellcheck disable=SC2086
	ib_write_bw $options --mmap="$work/server" >"$work/server.log" 2>&1 &
	server=$!
	sleep 1
	# shellcheck disable=SC2086
	if ib_write_bw $options --mmap="$work/client" $address >"$work/client.log" 2>&1; then
		talk "   ib_write_bw: $(grep -A1 '#bytes' "$work/client.log" | tail -n 1 | xargs)"
	else
		fail "ib_write_bw failed: $(cat "$work/client.log" "$work/server.log")"
	fi
	wait $server
	server=

	step "a client that gives its lease back before its memory region"
	start verbs
	tell verbs "open f $work/verbs rw,creat,cloexec"
	tell verbs "write-all f 1M"
	tell verbs "setlease f w"
	tell verbs "mmap m f 1M shared rw"
	tell verbs "rdma-open d $device"
	tell verbs "reg-mr mr d m rw"
	tell verbs "setlease f u"
	sleep 1
fi

step "a client that closes and unmaps its file while an io_uring still has it as a buffer"
start ring
tell ring "open f $work/ring rw,creat,cloexec"
tell ring "write-all f 1M"
tell ring "setlease f w"
tell ring "mmap m f 1M shared rw"
tell ring "uring r"
tell ring "register-buffers r m"
tell ring "close f"
tell ring "munmap m"
sleep 1

if [ -n "$rdma" ]; then
	step "the first of the two drops its pins at last"
	tell verbs "dereg-mr mr"
	sleep 1
fi

step "$report (its exit status 1 says: there are zombies)"
if [ "$format" = json ]; then $report -J; else $report; fi
status=$?

step "the end: the monitor is told to stop"
kill $monitor
wait $monitor
ended=$?
monitor=
[ $status -eq 1 ] || fail "the report's exit status is $status, not 1: it found no zombie"
[ $ended -eq 0 ] || fail "the monitor's exit status is $ended"
