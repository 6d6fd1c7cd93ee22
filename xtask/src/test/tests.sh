#!/bin/sh
# Runs the scenarios named as arguments, once for each attach mode in ATTACH_MODES (NAME=VALUE ...),
# between lines that tell the host which run it is.

# Whether this kernel refuses kprobe.multi, with the errno of one that has no CONFIG_FPROBE.
is_without_multi() {
	lease-trace monitor -d 1ms --attach multi 2>&1 >/dev/null |
		grep 'kprobe.multi: Operation not supported (os error 95)'
}

worst=0
for mode in $ATTACH_MODES; do
	echo "@@ begin ${mode%%=*}"
	if [ -n "${mode#*=}" ]; then
		export LEASE_TRACE_ATTACH="${mode#*=}"
	else
		unset LEASE_TRACE_ATTACH
	fi
	if [ "$LEASE_TRACE_ATTACH" = multi ] && is_without_multi; then
		echo "@@ end 0"
		continue
	fi
	if [ $# -gt 0 ]; then
		/run/guest/scenarios --test-threads=1 --exact "$@"
	fi
	status=$?
	echo "@@ end $status"
	[ $status -eq 0 ] || worst=$status
done
exit $worst
