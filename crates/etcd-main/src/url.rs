//! URLs as etcd takes them: `http(s)://host:port` without a path, `unix(s)://` with whatever names the socket.

/// One URL of a listener or a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// As it was given: what is logged, compared and told to other members.
    text: String,
    pub scheme: Scheme,
    /// `host:port`; for a socket, the part of its name before the first slash.
    pub host: String,
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

/// Why a URL is not taken, in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("parse {0:?}: {1}")]
    Parse(String, String),
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    Address(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let failed = |why: String| UrlError::Parse(text.to_owned(), why);
        let (scheme, rest) = split_scheme(text).map_err(failed)?;
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if let Some(port) = bad_port(host) {
            return Err(failed(format!("invalid port {port:?} after host")));
        }
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let scheme = match scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        if !scheme.is_unix() {
            split_host_port(host).map_err(|_| UrlError::Address(text.to_owned()))?;
            if !path.is_empty() {
                return Err(UrlError::Path(text.to_owned()));
            }
        }
        Ok(Url { text: text.to_owned(), scheme, host: host.to_owned(), path: path.to_owned() })
    }

    /// URLs separated by commas, in order and each once.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
        let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The file of a `unix` socket.
    pub fn socket(&self) -> String {
        format!("{}{}", self.host, self.path)
    }

    /// The host without its port and brackets; empty where there is none.
    pub fn hostname(&self) -> &str {
        split_host_port(&self.host).map_or("", |(host, _)| host)
    }

    pub fn port(&self) -> &str {
        split_host_port(&self.host).map_or("", |(_, port)| port)
    }
}

impl Scheme {
    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }

    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }
}

/// The texts of URLs.
pub fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.text.clone()).collect()
}

/// The texts of URLs, with commas between them.
pub fn joined(urls: &[Url]) -> String {
    texts(urls).join(",")
}

fn split_scheme(text: &str) -> Result<(String, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => break,
        }
    }
    let segment = text.split(['/', '?', '#']).next().unwrap_or_default();
    if segment.contains(':') {
        return Err("first path segment in URL cannot contain colon".to_owned());
    }
    Ok((String::new(), text))
}

/// A port that is not a number, with its colon.
fn bad_port(host: &str) -> Option<&str> {
    let after = host.rfind(']').map_or(0, |at| at + 1);
    let at = host[after..].rfind(':')? + after;
    let port = &host[at..];
    (!port[1..].chars().all(|c| c.is_ascii_digit())).then_some(port)
}

/// Host and port as Go's `net.SplitHostPort` finds them, and its words where there are none.
pub fn split_host_port(address: &str) -> Result<(&str, &str), String> {
    let fail = |why: &str| {
        if address.is_empty() { why.to_owned() } else { format!("address {address}: {why}") }
    };
    let at = address.rfind(':').ok_or_else(|| fail("missing port in address"))?;
    let (host, port) = (&address[..at], &address[at + 1..]);
    if let Some(inner) = host.strip_prefix('[') {
        return match inner.strip_suffix(']') {
            Some(inner) => Ok((inner, port)),
            None if inner.contains(']') => Err(fail("missing port in address")),
            None => Err(fail("missing ']' in address")),
        };
    }
    if host.contains(':') {
        return Err(fail("too many colons in address"));
    }
    Ok((host, port))
}

/// Names and URLs of an initial cluster.
pub type Cluster = std::collections::BTreeMap<String, Vec<Url>>;

/// `name=url` pairs separated by commas; a name may come several times.
pub fn parse_cluster(text: &str) -> Result<Cluster, UrlError> {
    let mut cluster = Cluster::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        cluster.entry(name.to_owned()).or_default().push(Url::parse(url)?);
    }
    cluster.values_mut().for_each(|urls| urls.sort());
    Ok(cluster)
}

/// The pairs of a cluster, in order.
pub fn cluster_text(cluster: &Cluster) -> String {
    let pairs = cluster.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={}", url.text)));
    let mut pairs: Vec<String> = pairs.collect();
    pairs.sort();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(Scheme, &str, &str), &str>) {
        let parsed = Url::parse(text);
        match (&parsed, expected) {
            (Ok(url), Ok((scheme, host, socket))) => {
                assert_eq!((url.scheme, url.host.as_str(), url.socket().as_str()), (scheme, host, socket), "{text}");
            }
            (Err(error), Err(words)) => assert_eq!(error.to_string(), words, "{text}"),
            _ => panic!("{text}: {parsed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_is_a_url() {
        check("http://localhost:2379", Ok((Scheme::Http, "localhost:2379", "localhost:2379")));
        check(" https://[::1]:2379 ", Ok((Scheme::Https, "[::1]:2379", "[::1]:2379")));
        check("unix:///run/etcd.sock", Ok((Scheme::Unix, "", "/run/etcd.sock")));
        check("unixs://localhost:m0", Err("parse \"unixs://localhost:m0\": invalid port \":m0\" after host"));
        check("unix://localhost:123450", Ok((Scheme::Unix, "localhost:123450", "localhost:123450")));
        check("bad", Err("URL scheme must be http, https, unix, or unixs: bad"));
        check("localhost:2379", Err("URL scheme must be http, https, unix, or unixs: localhost:2379"));
        check("127.0.0.1:2379", Err("parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon"));
        check("http://a", Err("URL address does not have the form \"host:port\": http://a"));
        check("http://a:1/", Err("URL must not contain a path: http://a:1/"));
        check("http://a:b", Err("parse \"http://a:b\": invalid port \":b\" after host"));
        check("", Err("URL scheme must be http, https, unix, or unixs: "));
    }

    #[test]
    fn a_cluster_there_and_back() {
        let cluster = parse_cluster("b=http://b:1,a=http://a:2,a=http://a:1,").unwrap();
        assert_eq!(cluster_text(&cluster), "a=http://a:1,a=http://a:2,b=http://b:1");
        assert!(parse_cluster("a").is_err());
    }
}
