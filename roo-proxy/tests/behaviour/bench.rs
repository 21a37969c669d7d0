//! A running proxy with a certificate authority of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use roo_proxy::{
    Certificates, Config, Control, Events, HostPattern, Listeners, Proxy, RouteTable, Timeouts, certified_key,
};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

/// Nothing that is waited for may take longer.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) proxy: Proxy,
    pub(crate) events: Events,
    pub(crate) control: Control,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) authority: Authority,
}

impl Bench {
    pub(crate) fn start() -> Bench {
        Bench::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Bench {
        Bench::with_workers(config, 1)
    }

    pub(crate) fn with_workers(config: Config, workers: usize) -> Bench {
        let listeners = Listeners::bind(loopback(), loopback(), workers).unwrap();
        let (http, https) = (listeners.http(), listeners.https());
        let (proxy, events) = Proxy::start(listeners, config).unwrap();
        let control = proxy.control();
        Bench { proxy, events, control, http, https, authority: Authority::new() }
    }

    /// Sets the routes, and certificates for all of their https names.
    pub(crate) fn routes<R: AsRef<str>>(&self, routes: &[(&str, R)]) {
        self.only_routes(routes);
        let names = routes.iter().filter_map(|(origin, _)| {
            let origin: roo_proxy::Origin = origin.parse().unwrap();
            (origin.scheme == roo_proxy::Scheme::Https).then(|| origin.host.to_string())
        });
        let certificates: Vec<_> = names.map(|name| self.authority.issue(&[&name])).collect();
        self.control.set_certificates(Certificates::new(certificates));
    }

    /// Sets the routes alone.
    pub(crate) fn only_routes<R: AsRef<str>>(&self, routes: &[(&str, R)]) {
        let routes = routes.iter().map(|(origin, route)| (origin.parse().unwrap(), route.as_ref().parse().unwrap()));
        self.control.set_routes(RouteTable::new(routes));
    }
}

/// Timeouts of a moment each, but for those that must not strike.
pub(crate) fn hasty() -> Timeouts {
    let moment = Duration::from_millis(300);
    Timeouts { header: moment, idle: moment, body: moment, tunnel: moment, ..Timeouts::default() }
}

pub(crate) fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Waits for a condition, up to [`SOON`].
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// Signs certificates that [`Authority::roots`] trusts.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        Arc::new(roots)
    }

    pub(crate) fn issue(&self, names: &[&str]) -> (Vec<HostPattern>, Arc<CertifiedKey>) {
        let (chain, key) = self.issue_pem(names);
        (names.iter().map(|name| name.parse().unwrap()).collect(), certified_key(&chain, &key).unwrap())
    }

    /// A certificate and its key, both PEM.
    pub(crate) fn issue_pem(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}
