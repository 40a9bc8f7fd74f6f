//! The addresses at which members listen for their peers, as a request may name them.

use store_api::MembershipError;

/// Checks the addresses of a request and puts them in order, so that equal lists are equal.
pub(crate) fn peer_urls(given: Vec<String>) -> Result<Vec<String>, MembershipError> {
    let mut urls: Vec<String> = given.iter().map(|url| url.trim().to_owned()).collect();
    if urls.is_empty() || !urls.iter().all(|url| is_peer_url(url)) {
        return Err(MembershipError::BadUrls);
    }
    urls.sort();
    Ok(urls)
}

/// `http` and `https` with host and port and no path; what follows `unix` and `unixs` is a path of the peer's.
fn is_peer_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => is_host_and_port(rest),
        "unix" | "unixs" => !rest.is_empty(),
        _ => false,
    }
}

fn is_host_and_port(authority: &str) -> bool {
    let Some((host, port)) = authority.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_one = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.contains([':', '[', ']', '@', '?', '#']) && !host.contains(char::is_whitespace),
    };
    host_is_one && !authority.contains('/') && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_put_in_order() {
        let check = |given: &[&str], expected: Option<&[&str]>| {
            let urls = peer_urls(given.iter().map(|url| (*url).to_owned()).collect());
            let expected = expected.map(|urls| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
            assert_eq!(urls.ok(), expected, "{given:?}");
        };
        check(&["http://b:2", " https://a:1 "], Some(&["http://b:2", "https://a:1"]));
        check(&["http://b:2", "http://a:1"], Some(&["http://a:1", "http://b:2"]));
        check(&["http://[::1]:2380"], Some(&["http://[::1]:2380"]));
        check(&["unix:///run/peer.sock"], Some(&["unix:///run/peer.sock"]));
        for bad in ["x", "", "http://a", "a:1", "ftp://a:1", "http://a:1/path", "http://a:port", "http://::1:1"] {
            check(&[bad], None);
            check(&["http://a:1", bad], None);
        }
        check(&[], None);
    }
}
