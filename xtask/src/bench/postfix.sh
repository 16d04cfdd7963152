# How does Postfix start from its unpacked package? Sourced behind preamble.sh. $with_dkim: 1 to sign by OpenDKIM.
# Everything that decides about speed and durability is left at its default.

cd /mnt/run
mkdir -p etc queue data
chown postfix data
for queue in active bounce corrupt defer deferred flush hold incoming private saved trace; do
    install -d -m 0700 -o postfix "queue/$queue"
done
install -d -m 0730 -o postfix -g postdrop queue/maildrop
install -d -m 0710 -o postfix -g postdrop queue/public
install -d -m 0755 queue/pid

cat >etc/main.cf <<EOF
compatibility_level = 3.6
mail_owner = postfix
setgid_group = postdrop
queue_directory = /mnt/run/queue
data_directory = /mnt/run/data
daemon_directory = /mnt/root/usr/lib/postfix/sbin
command_directory = /mnt/root/usr/sbin
shlib_directory = /mnt/root/usr/lib/postfix
meta_directory = /mnt/root/usr/share/postfix
import_environment = MAIL_CONFIG LD_LIBRARY_PATH
myhostname = postfix.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
relayhost = [127.0.0.1]:$sink_port
EOF
# As delivered, but for the port, and without the chroot that only the package's own scripts can fill.
awk -v port="127.0.0.1:$server_port" '/^#/ || NF < 8 { print; next }
    $1 == "smtp" && $2 == "inet" { $1 = port }
    { if ($5 == "y") $5 = "n"; print }' /mnt/root/usr/share/postfix/master.cf.dist >etc/master.cf

if [ "$with_dkim" = 1 ]; then
    # By a local socket, as Debian has it: by TCP, delayed acknowledgements would add 90 ms to each message.
    install -d -m 0755 -o opendkim milter
    openssl genrsa -out dkim.pem 2048 2>/dev/null
    chown opendkim dkim.pem
    chmod 0600 dkim.pem
    cat >opendkim.conf <<EOF
Mode s
Domain bench.test
Selector bench
KeyFile /mnt/run/dkim.pem
Canonicalization relaxed/relaxed
OversignHeaders From
UserID opendkim
Socket local:/mnt/run/milter/socket
UMask 000
PidFile /mnt/run/milter/pid
EOF
    cat >>etc/main.cf <<EOF
smtpd_milters = unix:/mnt/run/milter/socket
EOF
    /mnt/root/usr/sbin/opendkim -x opendkim.conf
fi
exec /mnt/root/usr/lib/postfix/sbin/master -c /mnt/run/etc -s
