//! A small HTTPS client for the API: one HTTP/1.1 connection, client certificate or token, no checks of the server
//! (it is on loopback and was started by this program).

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Who asks, and where.
#[derive(Clone)]
pub struct Target {
    pub address: String,
    tls: Arc<ClientConfig>,
    token: Option<String>,
}

impl Target {
    pub fn anonymous(address: &str) -> Self {
        Target { address: address.to_owned(), tls: Arc::new(unchecked().with_no_client_auth()), token: None }
    }

    pub fn with_token(address: &str, token: &str) -> Self {
        Target { token: Some(token.to_owned()), ..Target::anonymous(address) }
    }

    /// With the client certificate of a kubeconfig.
    pub fn from_kubeconfig(path: &Path) -> anyhow::Result<Self> {
        let config: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
        let server = config["clusters"][0]["cluster"]["server"].as_str().context("no server")?;
        let user = &config["users"][0]["user"];
        let pem = |field: &str| BASE64_STANDARD.decode(user[field].as_str().unwrap_or_default());
        let certs = CertificateDer::pem_slice_iter(&pem("client-certificate-data")?).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&pem("client-key-data")?)?;
        let tls = unchecked().with_client_auth_cert(certs, key)?;
        Ok(Target { address: server.trim_start_matches("https://").to_owned(), tls: Arc::new(tls), token: None })
    }

    /// How to speak TLS with the server, without ALPN.
    pub fn tls(&self) -> &Arc<ClientConfig> {
        &self.tls
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(ServerName::try_from("localhost")?, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, target: self.clone() })
    }
}

pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
}

impl Connection {
    /// Sends a request; gives the status and the body that is still coming.
    pub async fn send(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(u16, Incoming)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.target.address)
            .header("content-type", "application/json")
            .header("accept", "application/json");
        if let Some(token) = &self.target.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(body))?).await?;
        Ok((response.status().as_u16(), response.into_body()))
    }

    /// The whole answer; an error when its status is not 2xx.
    pub async fn call(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let (status, body) = self.send(method, path, body).await?;
        let bytes = body.collect().await?.to_bytes();
        if !(200..300).contains(&status) {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
        }
        Ok(bytes)
    }

    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.call(Method::GET, path, Bytes::new()).await?)?)
    }
}

fn unchecked() -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(Unchecked))
}

/// Takes any certificate: the server is our own child on loopback.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
