//! Requests that a page of another site makes a browser send.

use hyper::header::{self, HeaderName};
use hyper::{Method, Request};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a browser sends this from a page of another origin, and it could change something.
///
/// Goes by `Sec-Fetch-Site` (<https://www.w3.org/TR/fetch-metadata/>) and, for browsers without it,
/// by `Origin` against `Host`. Programs that are no browser send neither and are not concerned.
pub(super) fn is_cross_site<B>(request: &Request<B>) -> bool {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return false;
    }
    let headers = request.headers();
    if let Some(site) = headers.get(FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    authority.is_none() || authority != host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: Method, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/").header("host", "pod:9102");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_cross_site(&request.body(()).unwrap())
    }

    #[test]
    fn only_what_a_browser_sends_from_elsewhere_is_refused() {
        let post = |headers: &[(&str, &str)]| refused(Method::POST, headers);
        assert!(!post(&[]));
        assert!(!post(&[("origin", "http://pod:9102")]));
        assert!(!post(&[("sec-fetch-site", "same-origin"), ("origin", "http://behind-a-proxy")]));
        assert!(!post(&[("sec-fetch-site", "none")]));
        assert!(post(&[("sec-fetch-site", "cross-site")]));
        assert!(post(&[("sec-fetch-site", "same-site")]));
        assert!(post(&[("origin", "http://elsewhere")]));
        assert!(post(&[("origin", "null")]));
        assert!(post(&[("origin", "http://pod:9103")]));
        assert!(!refused(Method::GET, &[("sec-fetch-site", "cross-site")]));
    }
}
