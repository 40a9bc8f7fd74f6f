//! One channel over several endpoints: whenever it needs a connection, it takes the first endpoint that answers,
//! beginning with the one that answered last.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{ConnectError, Options};

/// How long one endpoint may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// A silent server is asked whether it is still there after this time, and has this time to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// Bytes that the server may send ahead, on one stream and on all of them.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: bool },
}

struct Targets {
    list: Vec<Target>,
    last_good: AtomicUsize,
    tls: Option<TlsConnector>,
}

pub(crate) fn channel(options: &Options) -> Result<Channel, ConnectError> {
    let list = options.endpoints.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    if list.is_empty() {
        return Err(ConnectError::NoEndpoint);
    }
    let encrypted = list.iter().any(|target| matches!(target, Target::Tcp { tls: true, .. }));
    let tls = if encrypted { Some(connector(options)?) } else { None };
    let targets = Arc::new(Targets { list, last_good: AtomicUsize::new(0), tls });
    // The name is only the authority header's: the connector below decides where to go.
    let endpoint = Endpoint::from_static("http://etcd")
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LIMIT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
        let targets = targets.clone();
        async move { targets.connect().await.map(TokioIo::new) }
    })))
}

impl Targets {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let first = self.last_good.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for step in 0..self.list.len() {
            let index = (first + step) % self.list.len();
            let target = &self.list[index];
            match timeout(CONNECT_LIMIT, self.open(target)).await {
                Ok(Ok(stream)) => {
                    self.last_good.store(index, Ordering::Relaxed);
                    return Ok(stream);
                }
                Ok(Err(error)) => reasons.push(format!("{target}: {error}")),
                Err(_) => reasons.push(format!("{target}: no connection within {CONNECT_LIMIT:?}")),
            }
        }
        Err(io::Error::other(reasons.join("; ")))
    }

    async fn open(&self, target: &Target) -> io::Result<Box<dyn Stream>> {
        let (host, port, tls) = match target {
            Target::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Target::Tcp { host, port, tls } => (host, *port, *tls),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let Some(connector) = self.tls.as_ref().filter(|_| tls) else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix://{}", path.display()),
            Target::Tcp { host, port, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                write!(f, "{scheme}://{host}:{port}")
            }
        }
    }
}

fn parse(text: &str) -> Result<Target, ConnectError> {
    let wrong = || ConnectError::Endpoint(text.to_owned());
    if let Some(path) = text.strip_prefix("unix://") {
        return if path.starts_with('/') { Ok(Target::Unix(path.into())) } else { Err(wrong()) };
    }
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = full.parse().map_err(|_| wrong())?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong()),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if !matches!(uri.path(), "" | "/") {
        return Err(wrong());
    }
    Ok(Target::Tcp { host, port: uri.port_u16().ok_or_else(wrong)?, tls })
}

fn connector(options: &Options) -> Result<TlsConnector, ConnectError> {
    let ca_file = options.ca_file.as_ref().ok_or(ConnectError::NoAuthority)?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(ca_file)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, &error))?;
            builder.with_client_auth_cert(certificates(cert)?, key_der)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(ConnectError::HalfIdentity),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let list = read.map_err(|error| file_error(file, &error))?;
    if list.is_empty() {
        return Err(ConnectError::File { file: file.into(), reason: "it holds no certificate".into() });
    }
    Ok(list)
}

fn file_error(file: &Path, error: &rustls::pki_types::pem::Error) -> ConnectError {
    ConnectError::File { file: file.into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_etcdctl_reads_them() {
        let tcp = |host: &str, port, tls| Some(Target::Tcp { host: host.into(), port, tls });
        let check = |text: &str, expected: Option<Target>| assert_eq!(parse(text).ok(), expected, "{text}");
        check("http://127.0.0.1:2379", tcp("127.0.0.1", 2379, false));
        check("https://etcd-0.example:2379/", tcp("etcd-0.example", 2379, true));
        check("127.0.0.1:2379", tcp("127.0.0.1", 2379, false));
        check("https://[::1]:2379", tcp("::1", 2379, true));
        check("unix:///run/etcd.sock", Some(Target::Unix("/run/etcd.sock".into())));
        check("unix://etcd.sock", None);
        check("http://127.0.0.1", None);
        check("ftp://127.0.0.1:2379", None);
        check("", None);
        check("postgres://user@host:5432/db", None);
    }

    #[test]
    fn https_needs_an_authority_and_a_whole_identity() {
        let options = Options::new(["https://127.0.0.1:1"]);
        assert!(matches!(channel(&options), Err(ConnectError::NoAuthority)));
        assert!(matches!(channel(&Options::new([""; 0])), Err(ConnectError::NoEndpoint)));
        let missing = Options { ca_file: Some("/nonexistent/ca.pem".into()), ..options };
        assert!(matches!(channel(&missing), Err(ConnectError::File { .. })));
    }
}
