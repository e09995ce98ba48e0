"""Keys between hosts: who may connect to a relay, and what each key may do there.

A host has one key pair, its *identity*: the relay shows it to those who connect, and programs of the host show it to
the relays of other hosts. Public keys travel as small text files. A relay lets in the keys that it *trusts*, each with
what it may read and publish; a client *pins* the public key of each relay that it connects to. The link is ZeroMQ's
CURVE (Curve25519, encrypted and authenticated both ways, fresh keys for each connection); ZAP asks the list.

What is protected
-----------------
- Between hosts: nobody without a trusted key gets an answer, reads along, changes what travels, or sends it again.
  Nobody without the relay's secret can pretend to be the relay. Whoever is turned away is counted.
- Per key: channels that it may not read do not show in `info` and are refused elsewhere; it publishes, acknowledges
  and reports positions only where it was allowed to. A key that is revoked is refused within a second, also on the
  connection that it has.
- On the host: the ipc socket is open to the account that runs the relay, and to root, and to no one else.

What is not
-----------
- Loopback TCP, which is open by default: every account of the host, and whatever can make a program there connect to
  ``127.0.0.1``, reads and publishes everything. ``[security] loopback_needs_keys = true`` closes it.
- Whoever runs as the mesh's account, or is root, on a host: keys, journals and sockets are theirs.
- Inside a channel: who may publish on it may write to each of its partitions that no service of the relay's host
  writes, under any ``producer``. Who may use a group may acknowledge every record of the channels that it reads.
- Load: a stranger can open connections (each is closed after 5 s without a handshake, and may hold one message of
  ``[relay] max_request_bytes`` until then), and a trusted key can ask for as much as the link carries. Use a firewall.
- What does not pass a relay: the streams of telescopes, the health port (``/metrics`` is open on loopback), PostgreSQL.
- Files: journals are as readable as the data directory is; nothing is encrypted on disk, secret keys included.
- The past: a recording of the link cannot be read with a secret that is stolen later, but what a key was sent while it
  was trusted is its own.
"""
