//! What is a reader answered who follows a link?
//!
//! A link leads on, the picture is a picture, and everything else is a page that says what is the matter. The door has no calls and no
//! credentials; it is a socket of its own, so that nothing else can be reached at a sender's host.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, REFERRER_POLICY, USER_AGENT,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mta::badge::UNSUBSCRIBE_PATH;
use mta::returns::{NotEnded, Returns};
use mta::tracking::{Answer, Asked, Tracking};

/// One transparent pixel.
const PICTURE: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");

pub fn router(tracking: Tracking, returns: Returns) -> Router {
    Router::new()
        .route("/c/{token}", get(click))
        .route("/o/{token}", get(open))
        .with_state(tracking)
        .merge(streams(returns))
        .fallback(|| async {
            page(StatusCode::NOT_FOUND, "There is nothing here", "This host only leads on from links in mail.")
        })
}

/// Links that end a stream of mail. Whoever looks at one ends nothing: filters look at all of them (RFC 8058).
fn streams(returns: Returns) -> Router {
    Router::new().route(&format!("{UNSUBSCRIBE_PATH}{{token}}"), get(ask).post(end)).with_state(returns)
}

async fn ask(State(returns): State<Returns>, Path(token): Path<String>) -> Response {
    if !returns.ends_a_stream(&token) {
        return unknown();
    }
    let button = "Nothing has changed yet.</p><form method=\"post\"><input type=\"hidden\" name=\"List-Unsubscribe\" \
                  value=\"One-Click\"><button>Send me no more of this</button></form><p>";
    page(StatusCode::OK, "Do you want no more of this mail?", button)
}

async fn end(State(returns): State<Returns>, Path(token): Path<String>) -> Response {
    match returns.end_stream(&token).await {
        Ok(()) => page(
            StatusCode::OK,
            "You get no more of this mail",
            "It is written down. What is under way already may still come.",
        ),
        Err(NotEnded::Unknown) => unknown(),
        Err(NotEnded::Later) => page(
            StatusCode::SERVICE_UNAVAILABLE,
            "This cannot be written down right now",
            "Please try again in a minute.",
        ),
    }
}

async fn click(
    State(tracking): State<Tracking>,
    Path(token): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match tracking.click(&asked(&token, &method, &headers)) {
        Answer::Lead(target) => match HeaderValue::from_str(&in_ascii(&target)) {
            Ok(target) => {
                let mut response = StatusCode::FOUND.into_response();
                response.headers_mut().insert(LOCATION, target);
                guarded(response)
            }
            Err(_) => unknown(),
        },
        Answer::Over(target) => page(
            StatusCode::GONE,
            "This link does not lead on any more",
            &format!(
                "Whoever sent it has stopped using it. When the mail was sent, it led to:</p><p>{}",
                escaped(&target)
            ),
        ),
        Answer::Unknown => unknown(),
    }
}

async fn open(
    State(tracking): State<Tracking>,
    Path(token): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    tracking.open(&asked(&token, &method, &headers));
    let mut response = PICTURE.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    guarded(response)
}

fn asked<'a>(token: &'a str, method: &Method, headers: &'a HeaderMap) -> Asked<'a> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let host = text(HOST);
    // Without its port.
    let host = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(host, _)| host);
    Asked { host, token, agent: text(USER_AGENT), fetched: method != Method::HEAD }
}

fn unknown() -> Response {
    page(
        StatusCode::NOT_FOUND,
        "This link is not known",
        "It was changed on its way, or was never made here. It leads nowhere. Take it from the mail once more, as a whole.",
    )
}

fn page(status: StatusCode, title: &str, words: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><h1>{title}</h1><p>{words}</p></html>"
    );
    let mut response = (status, page).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    guarded(response)
}

/// Nothing is kept, shown inside something else, found by search, or told to where a link leads.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
    );
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(ROBOTS, HeaderValue::from_static("noindex"));
    response
}

/// Links may be written with letters that a header may not have.
fn in_ascii(link: &str) -> String {
    let mut out = String::with_capacity(link.len());
    for c in link.chars() {
        if c.is_ascii_graphic() {
            out.push(c);
        } else {
            let mut octets = [0; 4];
            out.extend(c.encode_utf8(&mut octets).bytes().map(|octet| format!("%{octet:02X}")));
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{escaped, in_ascii};

    #[test]
    fn a_link_stays_a_header_and_a_text() {
        assert_eq!(in_ascii("https://a.test/ü?x=\r\n"), "https://a.test/%C3%BC?x=%0D%0A");
        assert_eq!(escaped("<a \"b\">&"), "&lt;a &quot;b&quot;&gt;&amp;");
    }
}
