//! The settings of the daemon: one table from which flags, environment names and file keys are derived.

/// One setting of `roo run`.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The flag without its dashes: `data-dir`. The environment name is derived from it: `ROO_DATA_DIR`.
    pub(crate) name: &'static str,
    /// What stands for the value in the help.
    pub(crate) value: &'static str,
    /// One line for the help.
    pub(crate) help: &'static str,
    /// A secret is also read from the file that `ROO_<NAME>_FILE` names and from `/run/secrets/roo_<name>`.
    pub(crate) secret: bool,
    /// A switch: its flag needs no value.
    pub(crate) switch: bool,
    /// The key of the original's JSON file that means the same, as a path of object keys.
    pub(crate) original: &'static [&'static str],
}

const fn setting(name: &'static str, value: &'static str, help: &'static str) -> Setting {
    Setting { name, value, help, secret: false, switch: false, original: &[] }
}

impl Setting {
    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    const fn switch(self) -> Self {
        Self { switch: true, ..self }
    }

    const fn original(self, path: &'static [&'static str]) -> Self {
        Self { original: path, ..self }
    }

    /// The environment name: `ROO_DATA_DIR`.
    pub(crate) fn env(&self) -> String {
        format!("ROO_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// The key in a configuration file: `data_dir`.
    pub(crate) fn file_key(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// Every setting, in the order of the help.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("data-dir", "DIR", "Where identity, log, store and snapshots live [default: ./roo-data]")
        .original(&["DataDirectoryRoot"]),
    setting("http", "ADDRS", "Listeners for plain http: challenges, redirects, http routes; separated by commas [default: :80]"),
    setting("https", "ADDRS", "Listeners for https, separated by commas [default: :443]"),
    setting("route-ports", "BOOL", "Listen on the ports that routes name as well [default: true]").switch(),
    setting("api", "ADDR", "Listener for the API [default: :6299]"),
    setting("api-tls", "BOOL", "Serve the API over TLS, with a certificate that follows from the secret").switch(),
    setting("raft", "ADDR", "Listener for the other nodes [default: :6300]").original(&["Cluster", "Binding"]),
    setting("proxy-protocol-from", "CIDRS", "Balancers in front that say by the PROXY protocol who the client is, separated by commas [default: none]"),
    setting("trusted-proxies", "CIDRS", "Proxies in front whose forwarding fields are believed, separated by commas [default: none]"),
    setting("unix-upstreams", "DIRS", "Directories whose sockets routes may lead to, separated by commas [default: none]"),
    setting("connections", "N", "Client connections of this node at a time [default: 20000]").original(&["MaximumConnections"]),
    setting("header-bytes", "N", "Bytes of all header fields of a request [default: 65536]").original(&["MaxHeaderBytes"]),
    setting("header-timeout", "TIME", "How long a client may take for the head of a request [default: 10s]")
        .original(&["ReadHeaderTimeoutSeconds"]),
    setting("idle-timeout", "TIME", "How long a client connection stays open without a request [default: 60s]")
        .original(&["IdleTimeoutSeconds"]),
    setting("body-timeout", "TIME", "How long nothing may move in a body, either way [default: 60s]"),
    setting("tunnel-timeout", "TIME", "How long nothing may move in a WebSocket [default: 1h]"),
    setting("connect-timeout", "TIME", "How long connecting to a destination may take, unless its route says otherwise [default: 5s]"),
    setting("response-timeout", "TIME", "How long a destination may take until its response begins, unless its route says otherwise [default: 60s]"),
    setting("drain-timeout", "TIME", "How long open requests get when the node is stopped [default: 25s]"),
    setting("workers", "N", "Proxy threads [default: one per core]"),
    setting("advertise", "ADDR", "Raft address the other nodes dial [default: found out]"),
    setting("peers", "ADDRS", "Raft addresses of the nodes, separated by commas")
        .original(&["Cluster", "BootstrapHosts"]),
    setting("dns", "NAME", "Name whose addresses are the nodes, for example tasks.roo_roo.")
        .original(&["Cluster", "DNS"]),
    setting("resolver", "ADDR", "DNS server for node and upstream names [default: the system's]")
        .original(&["Cluster", "Resolver"]),
    setting("start-delay", "TIME", "How long the set of nodes must be stable before a cluster is formed; a name that leads to one node alone, four times as long [default: 3s]")
        .original(&["Cluster", "StartDelaySeconds"]),
    setting("expect", "N", "How many nodes found the cluster: fewer than a majority of them never do, whatever --peers or --dns shows [default: as many as that shows]"),
    setting("dead-after", "TIME", "After how much silence a node is removed from the cluster, if the others can do without it; 0: never [default: 10m]"),
    setting("voters-max", "N", "How many nodes of the cluster vote at most: 3, 5 or 7 [default: 7]"),
    setting("secret", "TEXT", "The cluster's shared secret, 16 characters or more").secret(),
    setting("token", "TEXT", "The API's bearer token [default: derived from the secret]").secret(),
    setting("audit", "WHERE", "Audit log of the API's writes: `log`, `off`, or the path of a file [default: log]"),
    setting("access-log", "WHERE", "Log of requests: `off`, `stdout`, or the path of a file [default: off]"),
    setting("access-log-format", "FORMAT", "Form of its lines: `json`, or `clf`, the combined log format [default: json]"),
    setting(
        "access-log-only",
        "WHICH",
        "Which requests have a line: `all`, `errors`, or a share such as 1%, errors in any case [default: all]",
    ),
    setting(
        "trace",
        "SHARE",
        "W3C trace context: share of the traces begun here that are marked as sampled; `off` leaves it alone [default: 100%]",
    ),
    setting(
        "acme-directory",
        "URLS",
        "ACME directories, the preferred one first, separated by commas; `internal` for Roo's own CA, `off` for none [default: Let's Encrypt]",
    ),
    setting("acme-email", "MAIL", "Contact for the ACME account"),
    setting("acme-ca-file", "FILE", "PEM file with the roots to trust for the ACME directory, instead of the system's; URL=FILE for one of several"),
    setting("acme-eab", "KID:HMAC", "External account that the CA gave out, key id and HMAC key; URL=KID:HMAC for one of several CAs").secret(),
    setting("acme-staging", "BOOL", "Use Let's Encrypt's staging directory").switch().original(&["AcmeStaging"]),
    setting(
        "acme-challenge",
        "LIST",
        "How names are proven, the preferred way first, separated by commas [default: http-01,tls-alpn-01, and dns-01 if it is set up]",
    ),
    setting("acme-profile", "NAME", "Profile to order certificates by, of those that the CA offers; URL=NAME for one of several CAs [default: the CA's]"),
    setting("acme-rehearsal", "URL", "Where a name that the CA has refused three times is tried first; off: nowhere [default: Let's Encrypt's staging, for its production]"),
    setting("acme-limits", "LIMITS", "What the CA allows, for example orders=300/3h,domain=50/7d,exact=5/7d,failures=5/1h, or none; URL=LIMITS for one of several CAs [default: Let's Encrypt's published limits, none for others]"),
    setting("retire-after", "TIME", "How long the certificate of a name without a route is kept; 0: for ever [default: 7d]"),
    setting("acme-key", "KIND", "Keys of new certificates: p256, p384, rsa2048, or two of them as in p256+rsa2048 [default: p256]"),
    setting("certs-dir", "DIRS", "Directories with certificates of your own, NAME.crt beside NAME.key, separated by commas [default: none]"),
    setting("acme-wildcards", "BOOL", "Use the certificate of a wildcard for the names under it [default: true]").switch(),
    setting("acme-dns", "HOW", "How records for dns-01 are written: rfc2136:SERVER, acme-dns:URL or hook:PROGRAM [default: none]"),
    setting("acme-dns-key", "NAME", "The TSIG key for rfc2136: its name, or hmac-sha512:NAME [default algorithm: hmac-sha256]"),
    setting("acme-dns-secret", "BASE64", "The secret of that key").secret(),
    setting("acme-dns-accounts", "FILE", "Accounts at the acme-dns server by name, in JSON [default: registered as needed]"),
    setting("acme-dns-servers", "ADDRS", "DNS servers that must show a record before the CA looks [default: those of its zone]"),
    setting("acme-dns-wait", "TIME", "How long they may take, up to 2m; 0: they are not asked [default: 60s]"),
    setting("acme-probe", "BOOL", "Look what is wrong with a name before its first order and after failures [default: true for Let's Encrypt]").switch(),
    setting("acme-resolver", "ADDR", "DNS server that shows what a CA sees [default: that of --resolver]"),
    setting("swarm", "BOOL", "Watch Docker Swarm's services for routes").switch().original(&["Swarm"]),
    setting("docker-host", "URL", "The Docker engine [default: unix:///var/run/docker.sock]"),
    setting("docker-ca", "FILE", "PEM file with the roots to trust for a Docker engine on the network [default: the system's]"),
    setting("docker-cert", "FILE", "PEM file with the certificate to show to it [default: none]"),
    setting("docker-key", "FILE", "PEM file with the key of that certificate"),
    setting("config", "FILE", "Configuration file in JSON"),
    setting("debug", "BOOL", "Serve /debug/pprof/").switch().original(&["Debug"]),
];

/// The setting called `name`.
pub(crate) fn by_name(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.name == name).expect("the name stands in the table above")
}
