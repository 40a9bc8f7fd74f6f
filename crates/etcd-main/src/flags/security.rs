//! Flags of the groups Security and Auth.

use super::{Flag, Kind, applied};

pub(super) const SECURITY: &[Flag] = &[
    applied("cert-file", Kind::Text, "", "The certificate for clients."),
    applied("key-file", Kind::Text, "", "Its key."),
    applied("client-cert-auth", Kind::Bool, "false", "Clients must show a certificate."),
    applied("client-cert-file", Kind::Text, "", "A certificate of its own for connections to this member itself."),
    applied("client-key-file", Kind::Text, "", "Its key."),
    applied("client-crl-file", Kind::Text, "", "Client certificates that were taken back."),
    applied("client-cert-allowed-hostname", Kind::List, "", "Names of which a client's certificate must have one."),
    applied(
        "trusted-ca-file",
        Kind::Text,
        "",
        "The authorities that sign clients' certificates; makes them mandatory.",
    ),
    applied("auto-tls", Kind::Bool, "false", "Make a certificate for clients and keep it in the data folder."),
    applied("peer-cert-file", Kind::Text, "", "The certificate for other members."),
    applied("peer-key-file", Kind::Text, "", "Its key."),
    applied("peer-client-cert-auth", Kind::Bool, "false", "Other members must show a certificate."),
    applied("peer-trusted-ca-file", Kind::Text, "", "The authorities that sign other members' certificates."),
    applied(
        "peer-cert-allowed-cn",
        Kind::List,
        "",
        "Common names of which another member's certificate must have one.",
    ),
    applied("peer-cert-allowed-hostname", Kind::List, "", "Names of which another member's certificate must have one."),
    applied(
        "peer-auto-tls",
        Kind::Bool,
        "false",
        "Make a certificate for other members and keep it in the data folder.",
    ),
    applied("peer-client-cert-file", Kind::Text, "", "A certificate of its own for connections to other members."),
    applied("peer-client-key-file", Kind::Text, "", "Its key."),
    applied("self-signed-cert-validity", Kind::Uint, "1", "Years that a certificate made here is good for."),
    applied("peer-crl-file", Kind::Text, "", "Members' certificates that were taken back."),
    applied("cipher-suites", Kind::List, "", "The cipher suites of TLS 1.2 that are allowed."),
    applied("cors", Kind::Origins, "*", "Origins that browsers may come from."),
    applied("host-whitelist", Kind::Words, "*", "Host names that plain HTTP requests may carry."),
    applied("tls-min-version", Kind::Text, "TLS1.2", "The oldest TLS that is spoken: TLS1.2 or TLS1.3."),
    applied("tls-max-version", Kind::Text, "", "The newest TLS that is spoken: TLS1.2 or TLS1.3."),
];

pub(super) const AUTH: &[Flag] = &[
    applied("auth-token", Kind::Text, "simple", "What tokens are made of: simple, or jwt with its options."),
    applied("bcrypt-cost", Kind::Uint, "10", "The cost of a password's hash, from 4 to 31."),
    applied("auth-token-ttl", Kind::Uint, "300", "Seconds that a token lives."),
];
