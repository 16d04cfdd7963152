# How does OpenSMTPD start from its unpacked package? Sourced behind preamble.sh.
# Its paths are compiled in, so they are laid over the machine's, which no other process sees.

mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=0755 tmpfs /var/lib
mount -t tmpfs -o mode=0755 tmpfs /var/spool
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd /mnt/run/spool
chmod 0711 /mnt/run/spool
mount --bind /mnt/run/spool /var/spool/smtpd

# By default it dials one relay once in some seconds, for a hundred messages each, and takes a hundred over one connection: the
# limits that can be set are lifted. That a route rests three seconds after a connection has ended cannot be; as a route is a
# pair of addresses, it gets twenty of its own to send from.
sources=127.0.1.1
for last in $(seq 2 20); do sources="$sources, 127.0.1.$last"; done
cat >/mnt/run/smtpd.conf <<EOF
mta limit conn-delay-host 0
mta limit conn-delay-route 0
mta limit conn-delay-source 0
mta limit conn-delay-connector 0
mta limit conn-delay-relay 0
mta limit conn-delay-domain 0
smtp limit max-mails 1000000
table sources { $sources }
listen on 127.0.0.1 port $server_port hostname opensmtpd.test
action "relay" relay host smtp://127.0.0.1:$sink_port src <sources>
match from any for any action "relay"
EOF
exec /mnt/root/usr/sbin/smtpd -F -f /mnt/run/smtpd.conf
