//! What every answer says to the browser, and what a command must show before it is heard.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::problem::Problem;

/// Nothing from another host, nothing inline, nobody may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Adds the headers that keep a page to itself.
pub(crate) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let set = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in set {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Refuses a command that another site could have made a browser send: a body that is not JSON, an origin that is not
/// this page, or a host name this console was not told is its own (a name that was pointed at this address).
///
/// A client without `Origin` and `Sec-Fetch-Site` is no browser and passes.
pub(crate) fn own_page(headers: &HeaderMap, hosts: &[String]) -> Result<(), Problem> {
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let mime = kind.split(';').next().unwrap_or_default().trim();
    if !mime.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("content type {kind:?}, expected application/json"),
        ));
    }
    let host = text(headers, &header::HOST).unwrap_or_default();
    if !is_own_host(host, hosts) {
        return Err(forbidden(format!(
            "host {host:?} is not a name of this console; add it to console.hosts"
        )));
    }
    let site = text(headers, &HeaderName::from_static("sec-fetch-site"));
    if !matches!(site, None | Some("same-origin" | "none")) {
        return Err(forbidden("a command must come from the console's own page"));
    }
    match text(headers, &header::ORIGIN) {
        None => Ok(()),
        Some(origin)
            if origin
                .split_once("://")
                .is_some_and(|(_, rest)| rest == host) =>
        {
            Ok(())
        }
        Some(origin) => Err(forbidden(format!("origin {origin:?} is not this console"))),
    }
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn is_own_host(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|h| h.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&'static str, &'static str)]) -> Result<(), Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        own_page(&headers, &["room.example".to_owned()])
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn the_own_page_and_a_plain_client_are_heard() {
        let page = ("origin", "http://127.0.0.1:8080");
        asked(&[
            JSON,
            ("host", "127.0.0.1:8080"),
            page,
            ("sec-fetch-site", "same-origin"),
        ])
        .unwrap();
        asked(&[JSON, ("host", "[::1]:8080")]).unwrap();
        asked(&[JSON, ("host", "room.example")]).unwrap();
    }

    #[test]
    fn other_sites_forms_and_borrowed_names_are_refused() {
        let host = ("host", "127.0.0.1:8080");
        assert!(asked(&[("content-type", "text/plain"), host]).is_err());
        assert!(asked(&[host]).is_err());
        assert!(asked(&[JSON, host, ("origin", "http://evil.example")]).is_err());
        assert!(asked(&[JSON, host, ("origin", "null")]).is_err());
        assert!(asked(&[JSON, host, ("sec-fetch-site", "cross-site")]).is_err());
        assert!(
            asked(&[
                JSON,
                ("host", "rebound.example:8080"),
                ("origin", "http://rebound.example:8080")
            ])
            .is_err()
        );
    }
}
