# Runs the command in the final root, under the busybox that came along. Its output goes through
# pipes, so that it may be opened again by name, and from there to the host by one channel each;
# its exit status goes by a third, once.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
home=/run/guest
bb=$home/busybox

# Where a guest asked for systemd, systemd takes over as the first program, and runs this script
# again as one of its services.
if [ $$ = 1 ] && [ -e $home/systemd ]; then
	$bb mkdir -p /run/systemd/system
	$bb cp $home/guest.service /run/systemd/system/
	exec /lib/systemd/systemd --unit=guest.service
	echo "guest: no systemd in this userland" >/dev/console
	echo b >/proc/sysrq-trigger
fi

# Where a guest asked for the actor as the first program, this script goes on beside it.
if [ $$ = 1 ] && [ -e $home/first ]; then
	$bb mkfifo $home/first.in $home/first.out
	$bb sh $home/stage2.sh &
	exec $home/bin/client <>$home/first.in 1<>$home/first.out 2>/dev/console
fi

port() {
	tries=0
	while [ $tries -lt 200 ]; do
		for directory in /sys/class/virtio-ports/*; do
			[ -e "$directory/name" ] && read -r name <"$directory/name"
			if [ "$name" = "$1" ] && [ -e "/dev/${directory##*/}" ]; then
				echo "/dev/${directory##*/}"
				return
			fi
		done
		tries=$((tries + 1))
		$bb sleep 0.05
	done
	echo "guest: no channel $1 to the host" >/dev/console
	echo b >/proc/sysrq-trigger
}

exec </dev/null 9>"$(port status)"
$bb mkfifo $home/out $home/err
$bb cat $home/out >"$(port out)" 9>&- &
out=$!
$bb cat $home/err >"$(port err)" 9>&- &
err=$!
echo up >&9

$bb setsid $bb sh $home/command >$home/out 2>$home/err 9>&- &
wait $!
status=$?

# What the command left running may hold the pipes open: whatever is in them by now is passed on.
($bb sleep 2 && kill $out $err) >/dev/null 2>&1 9>&- &
wait $out
wait $err
echo "exit $status" >&9
# The host ends the guest now; should it be gone, the guest ends itself.
$bb sleep 5
echo b >/proc/sysrq-trigger
