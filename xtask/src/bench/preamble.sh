# What does each peer find when it starts? A private view of the machine, in a mount namespace of its own: its package under
# /mnt/root, its state under /mnt/run, and its users in /etc/passwd. Nothing is installed, and nothing is left behind.

set -eu
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/root /mnt/run
mount --bind "$peer_root" /mnt/root
mount --bind "$peer_run" /mnt/run
cp /etc/passwd /mnt/run/passwd
cp /etc/group /mnt/run/group
id=64700
for user in postfix postdrop opensmtpd opensmtpq opendkim; do
    id=$((id + 1))
    sed -i "/^$user:/d" /mnt/run/passwd /mnt/run/group
    echo "$user:x:$id:$id::/nonexistent:/usr/sbin/nologin" >>/mnt/run/passwd
    echo "$user:x:$id:" >>/mnt/run/group
done
mount --bind /mnt/run/passwd /etc/passwd
mount --bind /mnt/run/group /etc/group
# The client's own name is looked up, and some resolvers ask the network first: a nameserver out of reach would be measured.
echo "lookup file" >/mnt/run/resolv.conf
mount --bind /mnt/run/resolv.conf "$(readlink -f /etc/resolv.conf)"
LD_LIBRARY_PATH=/mnt/root/usr/lib/postfix:/mnt/root/usr/lib
for libraries in /mnt/root/usr/lib/*-linux-gnu /mnt/root/lib/*-linux-gnu; do
    LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$libraries
done
export LD_LIBRARY_PATH
