/*
 * The checks that rows of the key tables name: each judges one value by itself. 0, or -EINVAL
 * with a sentence that names the key, what it takes and the value (never that of a secret).
 * Values are what a user wrote: not trusted, NUL-terminated.
 */
#ifndef PKIFS_KEYCHECK_H
#define PKIFS_KEYCHECK_H

#include "pkifs/keytable.h"

typedef int key_checker(const struct key *key, const char *value, struct error *err);

key_checker check_words;     /* one of key->values */
key_checker check_number;    /* key->min to key->max, decimal, in key->unit */
key_checker check_key_size;  /* a size that some key-type takes */
key_checker check_text;      /* key->min to key->max characters (UTF-8), none a control character */
key_checker check_object;    /* the name of a profile or certificate id */
key_checker check_account;   /* a user of the system */
key_checker check_reader;    /* user:NAME, group:NAME */
key_checker check_url;       /* an absolute URL whose scheme is one of key->values */
key_checker check_crl_url;   /* the same; of LDAP one that names an entry, or leaves that out */
key_checker check_sha256;    /* 32 bytes in hex, colons or not */
key_checker check_subject;   /* RFC 4514; `SN` may stand without a value */
key_checker check_ca_name;   /* RFC 4514, every attribute with a value */
key_checker check_domain;    /* a DNS name, may begin "*." */
key_checker check_address;   /* an IP address */
key_checker check_mail;      /* an e-mail address */
key_checker check_peer_name; /* a name that somebody proves: DNS, address, e-mail, DN */
key_checker check_oid;       /* an object identifier, 1.2.3 */
key_checker check_span;      /* a span of time: 30d, 12h */
key_checker check_path;      /* a path, relative or not */
key_checker check_command;   /* an absolute path, arguments may follow */
key_checker check_program;   /* an absolute path alone */
key_checker check_server;    /* IP address[:port], IPv6 with a port in brackets */
key_checker check_listen;    /* [address]:port */
key_checker check_base64url; /* RFC 4648 §5, without padding */
key_checker check_tsig;      /* NAME:ALGORITHM:BASE64 (RFC 8945) */
key_checker check_key_store; /* `store` or a PKCS#11 URI (RFC 7512) */
key_checker check_store_key; /* a path, `credential:NAME`, `none` */
key_checker check_keyring;   /* the name of a keyring of the kernel */
key_checker check_firewall;  /* `none`, `nft:FAMILY TABLE SET`, a program */

/* keycheck_ipsec.c: tunnels. */
key_checker check_endpoint;     /* an IP address, a DNS name, `any` */
key_checker check_local_id;     /* a name of one end for IKE */
key_checker check_remote_id;    /* the same, perhaps with a wildcard, or `any` */
key_checker check_traffic;      /* a network, perhaps :PROTOCOL:PORT */
key_checker check_ike_proposal; /* algorithms, in strongSwan's spelling or Junos's */
key_checker check_esp_proposal;
key_checker check_mark;  /* VALUE[/MASK] */
key_checker check_netns; /* the name of a network namespace */
key_checker check_spi;   /* 256 to 2^32 - 1 */
key_checker check_hex;   /* bytes */

/* 1 to 64 characters of A-Z a-z 0-9 . _ -, not beginning with . or -: a name of an object. */
bool object_name_is_legal(const char *name);

/* Seconds of "30d" or "12h", -1 where TEXT is none. */
long long span_seconds(const char *text);

#endif
