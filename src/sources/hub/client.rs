//! Requests to the hub, and what keeps them safe.
//!
//! The access token goes to the hub's own address and nowhere else: not to the host that a redirect names, not after
//! one has led away, and never over plain http but on this machine. Redirects are counted, answers have bounds in size
//! and time.

use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::{Agent, Body};

use super::{Hub, HubError};

/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that is no file of the model.
const ANSWER: u64 = 10 << 20;

/// Speaks to one hub.
#[derive(Debug)]
pub(super) struct Client<'a> {
    hub: &'a Hub,
    agent: Agent,
}

/// Which redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    /// All of them.
    All,
    /// Those that stay where they are: of a large file the hub itself says what it is, and then names a storage host.
    SameOrigin,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_recv_response(Some(hub.patience))
            .timeout_per_read(Some(hub.patience))
            .timeout_per_write(Some(hub.patience))
            .user_agent(concat!("layerscope/", env!("CARGO_PKG_VERSION")));
        Self { hub, agent: config.build().into() }
    }

    /// What the hub says of a file, without the file.
    pub(super) fn head(&self, url: &str) -> Result<Response<Body>, HubError> {
        self.send(url, Follow::SameOrigin, |agent, at, headers| {
            let request =
                headers.iter().fold(agent.head(at), |request, (key, value)| request.header(key, value));
            request.call()
        })
    }

    /// A file from its byte `from` on.
    pub(super) fn get(&self, url: &str, from: u64) -> Result<Response<Body>, HubError> {
        let range = format!("bytes={from}-");
        self.send(url, Follow::All, |agent, at, headers| {
            let request = agent.get(at).header(header::RANGE, &range);
            headers.iter().fold(request, |request, (key, value)| request.header(key, value)).call()
        })
    }

    /// A short answer, whole: its status and its bytes.
    pub(super) fn read(&self, url: &str) -> Result<(u16, Vec<u8>), HubError> {
        let whole = self.hub.patience * 4;
        let mut answer = self.send(url, Follow::All, |agent, at, headers| {
            let request =
                headers.iter().fold(agent.get(at), |request, (key, value)| request.header(key, value));
            request.config().timeout_global(Some(whole)).build().call()
        })?;
        let bytes = answer.body_mut().with_config().limit(ANSWER).read_to_vec();
        Ok((answer.status().as_u16(), bytes.map_err(|error| network(url, &error))?))
    }

    /// Sends a request on from redirect to redirect.
    fn send(
        &self,
        url: &str,
        follow: Follow,
        call: impl Fn(&Agent, &Uri, &HeaderMap) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, HubError> {
        let mut at: Uri = url.parse().map_err(|_| unusable(url, "address", url))?;
        let mut headers = self.headers(&at)?;
        for _ in 0..=REDIRECTS {
            let answer =
                call(&self.agent, &at, &headers).map_err(|error| network(&at.to_string(), &error))?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let next = target(&at, answer.headers())?;
            if !same_origin(&at, &next) {
                if follow == Follow::SameOrigin {
                    return Ok(answer);
                }
                if at.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                    return Err(unusable(&at.to_string(), "redirect from https", &next.to_string()));
                }
                headers.remove(header::AUTHORIZATION);
            }
            at = next;
        }
        Err(HubError::Redirects { url: url.to_owned(), most: REDIRECTS })
    }

    /// Identity encoding, so that lengths are those of the file; and the token, where it may go.
    fn headers(&self, at: &Uri) -> Result<HeaderMap, HubError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static("identity"));
        if let Some(token) = self.hub.token.as_ref().filter(|_| is_private(at)) {
            let value = header::HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| HubError::BadToken)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

/// The error of a request that got no usable answer.
pub(super) fn network(url: &str, error: &ureq::Error) -> HubError {
    HubError::Network { url: url.to_owned(), reason: error.to_string() }
}

fn unusable(url: &str, what: &'static str, value: &str) -> HubError {
    HubError::BadAnswer { url: url.to_owned(), what, value: value.to_owned() }
}

/// Whether nobody else can read what is sent there: over TLS, or on this machine.
pub(super) fn is_private(at: &Uri) -> bool {
    let host = at.host().unwrap_or_default().trim_matches(['[', ']']);
    let own = host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    at.scheme_str() == Some("https") || own
}

/// Scheme, host and port.
fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |at: &Uri| {
        at.port_u16().or(match at.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        })
    };
    let host = |at: &Uri| at.host().map(str::to_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// Where a redirect leads: `Location`, whole or relative to `at`.
fn target(at: &Uri, headers: &HeaderMap) -> Result<Uri, HubError> {
    let url = at.to_string();
    let location = headers.get(header::LOCATION).map_or(Some(""), |value| value.to_str().ok());
    let location = location.unwrap_or_default().split('#').next().unwrap_or_default();
    if location.is_empty() {
        return Err(unusable(&url, "redirect", "no location"));
    }
    let scheme = at.scheme_str().unwrap_or("https");
    let authority = at.authority().map_or("", |authority| authority.as_str());
    let whole = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let next: Option<Uri> = whole.parse().ok();
    next.filter(|next| matches!(next.scheme_str(), Some("http" | "https")) && next.host().is_some())
        .ok_or_else(|| unusable(&url, "redirect", location))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_goes_over_tls_or_stays_on_this_machine() {
        for private in ["https://hub.co/a", "http://localhost:1/a", "http://127.0.0.1/a", "http://[::1]:80/"]
        {
            assert!(is_private(&uri(private)), "{private}");
        }
        for open in
            ["http://hub.co/a", "http://127.0.0.1.hub.co/", "http://10.0.0.1/", "http://localhost.hub.co/"]
        {
            assert!(!is_private(&uri(open)), "{open}");
        }
    }

    #[test]
    fn only_private_requests_carry_the_token() {
        let hub = Hub {
            cache: "/nowhere".into(),
            endpoint: "http://mirror.co".into(),
            token: Some("hf_secret".into()),
            offline: false,
            patience: Duration::from_secs(1),
        };
        let client = Client::new(&hub);
        let token = |at: &str| {
            let headers = client.headers(&uri(at)).unwrap();
            headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(token("https://hub.co/a").as_deref(), Some("Bearer hf_secret"));
        assert_eq!(token("http://mirror.co/a"), None);
        assert!(!format!("{:?}", client.headers(&uri("https://hub.co")).unwrap()).contains("hf_secret"));
        let broken = Hub { token: Some("hf\nsecret".into()), ..hub.clone() };
        let error = Client::new(&broken).headers(&uri("https://hub.co")).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
        let denied =
            super::super::download::refused(&hub, "o/n", "main", "http://mirror.co/a", 401).to_string();
        assert!(
            denied.ends_with("HF_TOKEN is never sent over plain http: give HF_ENDPOINT as https"),
            "{denied}"
        );
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a, b| same_origin(&uri(a), &uri(b));
        assert!(same("https://hub.co/a", "https://HUB.co:443/b"));
        assert!(!same("https://hub.co/a", "http://hub.co/a"));
        assert!(!same("https://hub.co/a", "https://hub.co:444/a"));
        assert!(!same("https://hub.co/a", "https://cdn.hub.co/a"));
        assert!(!same("http://127.0.0.1:1/", "http://localhost:1/"));
    }

    #[test]
    fn where_redirects_lead() {
        let from = uri("https://hub.co/org/name/file");
        let to = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, location.parse().unwrap());
            target(&from, &headers).map(|uri| uri.to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(to("/a?b#c").unwrap(), "https://hub.co/a?b");
        assert_eq!(to("//cdn.co/a").unwrap(), "https://cdn.co/a");
        assert_eq!(to("other").unwrap(), "https://hub.co/org/name/other");
        assert_eq!(to("http://x.co/a").unwrap(), "http://x.co/a");
        for bad in ["", "file:///etc/passwd", "/a b", "https://"] {
            assert!(to(bad).unwrap_err().contains("unusable redirect"), "{bad}");
        }
        let says = target(&from, &HeaderMap::new()).unwrap_err().to_string();
        assert!(says.ends_with("unusable redirect: \"no location\""), "{says}");
    }
}
