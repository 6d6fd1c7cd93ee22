#!/bin/sh
# Runs the scenarios named as arguments, once for each attach mode in ATTACH_MODES (NAME=VALUE ...),
# between lines that tell the host which run it is.
worst=0
for mode in $ATTACH_MODES; do
	echo "@@ begin ${mode%%=*}"
	if [ -n "${mode#*=}" ]; then
		export LEASE_TRACE_ATTACH="${mode#*=}"
	else
		unset LEASE_TRACE_ATTACH
	fi
	if [ $# -gt 0 ]; then
		/run/guest/scenarios --test-threads=1 --exact "$@"
	fi
	status=$?
	echo "@@ end $status"
	[ $status -eq 0 ] || worst=$status
done
exit $worst
