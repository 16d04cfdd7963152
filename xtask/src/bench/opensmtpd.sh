# How does OpenSMTPD start from its unpacked package? Sourced behind preamble.sh.
# Its paths are compiled in, so they are laid over the machine's, which no other process sees.

mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=0755 tmpfs /var/lib
mount -t tmpfs -o mode=0755 tmpfs /var/spool
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd /mnt/run/spool
chmod 0711 /mnt/run/spool
mount --bind /mnt/run/spool /var/spool/smtpd

cat >/mnt/run/smtpd.conf <<EOF
listen on 127.0.0.1 port $server_port hostname opensmtpd.test
action "relay" relay host smtp://127.0.0.1:$sink_port
match from any for any action "relay"
EOF
exec /mnt/root/usr/sbin/smtpd -F -f /mnt/run/smtpd.conf
