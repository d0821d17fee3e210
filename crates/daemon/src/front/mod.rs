//! The node in a browser, and for whoever speaks HTTP.
//!
//! One thread with an event loop of its own serves the dashboard (`web/dashboard.*`, compiled in), the API
//! that it and others use (`api`), and measurements ([`live`]). It asks the deciding thread through the same
//! `Handle` as the control socket does, so nothing can be done here that could not be done there.
//!
//! Who answers is a [`Shown`]: a node, or a rehearsal that is lived as slowly as a node lives ([`serve`]). Page, requests, answers and who may ask are the same.
//!
//! # Who may
//! It listens on loopback unless told otherwise, where anybody on the machine can connect; so everything but
//! the page's own files, which tell nothing of the node, wants the key in the node's directory (`key`, mode 0600)
//! as a bearer token (RFC 6750). A browser adds no such token by itself, so another site's page cannot speak in
//! its owner's name; a request whose `Origin` is not this address is refused besides. Connections are at most
//! [`CONNECTIONS_MAX`], a head must arrive within [`HEAD_PATIENCE`], a body has at most [`BODY_MAX`] bytes. Of the
//! connections [`STREAMS_MAX`] may be streams that go on, each for [`STREAM_LASTS`] (a page asks again), and none is held
//! longer than [`CONNECTION_LASTS`]. Whoever wants one more takes the place of another (`places`), so neither silence nor forgotten tabs keep the owner out.
//!
//! Whoever is refused is told why, as JSON (`{"error": …}`). What is no HTTP at all has no such words: it is answered by a status alone, by who reads it, before anything here.
//!
//! Deliberately absent: TLS. Beyond loopback it belongs behind what terminates it.

mod api;
pub mod live;
mod places;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tower_service::Service as _;

use crate::control::{Answer, Request as Question};
use crate::journal::Journal;
use crate::news::News;
use crate::node::{Asked, Handle};
use live::Live;
use places::Places;

/// Where it listens unless told otherwise; on another port if this one is taken.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7600);
/// With more connections at a time, one is closed.
pub const CONNECTIONS_MAX: usize = 128;
/// Within this the head of a request has arrived, or the connection is closed.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// No body of a request is longer, in bytes.
pub const BODY_MAX: usize = 64 << 10;

/// So many connections may follow something; with more, the oldest of them ends. Others are served meanwhile.
pub const STREAMS_MAX: usize = 96;
/// A stream that follows something ends after so long, and may be asked for again.
pub const STREAM_LASTS: Duration = Duration::from_secs(10 * 60);
/// No connection is kept longer, whatever it does.
pub const CONNECTION_LASTS: Duration = Duration::from_secs(11 * 60);

const KEY: &str = "key";

/// The key of the node of a directory, which is made when there is none.
///
/// # Errors
/// If the file cannot be made or read, or holds something else.
pub fn key(data: &Path) -> io::Result<String> {
    let path = data.join(KEY);
    let new = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    match new {
        Ok(mut file) => {
            let key = new_key()?;
            file.write_all(key.as_bytes())?;
            file.sync_all()?;
            return Ok(key);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let key = fs::read_to_string(&path)?;
    if key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(key);
    }
    let found = format!(
        "found {} bytes that are no key, expected 64 hexadecimal digits; without the file a new one is made",
        key.len()
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, found))
}

/// Whoever is shown: a node, or a rehearsal.
pub trait Shown: Send + Sync {
    /// Asks, and waits for the answer.
    fn ask(&self, question: Question) -> Answer;
    /// Whether there is a program of this name.
    fn knows(&self, program: &str) -> bool;
    /// What a program said, if it says anything.
    fn journal(&self, program: &str) -> Option<Arc<Journal>>;
    /// What happened to programs.
    fn news(&self) -> &News;
}

/// What every request can reach.
struct Shared {
    node: Arc<dyn Shown>,
    key: blake3::Hash,
    live: Arc<Live>,
    callers: Arc<Places>,
    streams: Arc<Places>,
}

/// The place of whoever asks.
#[derive(Clone, Copy)]
struct Caller(u64);

/// Begins to serve; tells where.
///
/// # Errors
/// If it cannot listen there, or has no key.
pub(crate) fn open(data: &Path, asked: Asked, node: Handle) -> io::Result<SocketAddr> {
    let key = key(data).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{}: {error}", data.join(KEY).display()),
        )
    })?;
    let listener = listen(match asked {
        Asked::At(address) => Some(address),
        _ => None,
    })?;
    let live = Arc::new(Live::default());
    let measured = live::measure(Arc::clone(&live), node.clone());
    serve(listener, &key, Arc::new(node), live, measured)
}

/// Listens where it is asked to, or at [`ADDRESS`], and on another port if that is taken.
///
/// # Errors
/// If nobody can listen there.
pub fn listen(at: Option<SocketAddr>) -> io::Result<TcpListener> {
    match at {
        Some(address) => TcpListener::bind(address),
        None => TcpListener::bind(ADDRESS).or_else(|_| TcpListener::bind((ADDRESS.ip(), 0))),
    }
}

/// A new key that nobody has.
///
/// # Errors
/// If the kernel gives no randomness.
pub fn new_key() -> io::Result<String> {
    let mut made = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut made)?;
    Ok(blake3::Hash::from_bytes(made).to_hex().to_string())
}

/// Serves to whoever has the key, from a thread of its own on which `beside` goes on meanwhile; tells where.
///
/// # Errors
/// If the kernel gives no thread or no event loop.
pub fn serve(
    listener: TcpListener,
    key: &str,
    shown: Arc<dyn Shown>,
    live: Arc<Live>,
    beside: impl Future<Output = ()> + Send + 'static,
) -> io::Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        node: shown,
        key: blake3::hash(key.as_bytes()),
        live,
        callers: Places::new(CONNECTIONS_MAX),
        streams: Places::new(STREAMS_MAX),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("front".into())
        .spawn(move || {
            runtime.block_on(async move {
                tokio::spawn(beside);
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        let callers = Arc::clone(&shared.callers);
                        accept(listener, router(shared), callers).await;
                    }
                    Err(error) => eprintln!("error: the dashboard does not listen: {error}"),
                }
            });
        })?;
    Ok(address)
}

async fn accept(listener: tokio::net::TcpListener, router: Router, callers: Arc<Places>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others will be given back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut place = callers.take();
        let router = router.clone();
        tokio::spawn(async move {
            let caller = Caller(place.number);
            let service = hyper::service::service_fn(move |request: hyper::Request<_>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(caller);
                router.clone().call(request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            // Who hangs up needs no explanation.
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION_LASTS, connection) => {}
                () = place.lost() => {}
            }
        });
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let open = [
        "/",
        "/dashboard.js",
        "/fleet.js",
        "/style.css",
        "/uplot.js",
        "/uplot.css",
    ];
    let mut router = Router::new();
    for path in open {
        router = router.route(
            path,
            axum::routing::get(|request: Request| async move { page(request.uri().path()) }),
        );
    }
    for route in api::routes() {
        let guarded = route.serves.layer(axum::middleware::from_fn_with_state(
            Arc::clone(&shared),
            guard,
        ));
        router = router.route(route.path, guarded);
    }
    router
        .fallback(|| async {
            refused(
                StatusCode::NOT_FOUND,
                "there is nothing here; /api/openapi.json says what there is",
            )
        })
        .method_not_allowed_fallback(|| async {
            refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "not with this method; /api/openapi.json says which there are",
            )
        })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .layer(axum::middleware::map_response(harden))
        .with_state(shared)
}

/// Lets nobody through without the key, and no page of another site.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match may(&shared.key, request.headers()) {
        Ok(()) => {
            if let Some(Caller(number)) = request.extensions().get() {
                shared.callers.prove(*number);
            }
            next.run(request).await
        }
        Err((status, because)) => refused(status, because),
    }
}

fn may(key: &blake3::Hash, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let own = text(header::HOST).map(|host| format!("http://{host}"));
        if own.as_deref() != origin.to_str().ok() {
            return Err((StatusCode::FORBIDDEN, "a page of another origin asked"));
        }
    }
    // Of a scheme's name the case does not matter (RFC 9110, 11.1).
    let shown = text(header::AUTHORIZATION)
        .and_then(|value| value.split_once(' '))
        .and_then(|(scheme, shown)| scheme.eq_ignore_ascii_case("bearer").then_some(shown));
    // Compared as hashes, which takes the same time wherever they differ.
    match shown {
        Some(shown) if blake3::hash(shown.as_bytes()) == *key => Ok(()),
        Some(_) => Err((
            StatusCode::UNAUTHORIZED,
            "this is not the node's key; `cosmos dashboard` prints the address with it",
        )),
        None => Err((
            StatusCode::UNAUTHORIZED,
            "found no bearer token, expected the node's key; `cosmos dashboard` prints the address with it",
        )),
    }
}

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn page(path: &str) -> Response {
    let (kind, text) = match path {
        "/dashboard.js" => (
            "text/javascript; charset=utf-8",
            include_str!("../../../../web/dashboard.js"),
        ),
        "/fleet.js" => (
            "text/javascript; charset=utf-8",
            include_str!("../../../../web/fleet.js"),
        ),
        "/style.css" => (
            "text/css; charset=utf-8",
            concat!(
                include_str!("../../../../web/report.css"),
                include_str!("../../../../web/dashboard.css")
            ),
        ),
        "/uplot.js" => (
            "text/javascript; charset=utf-8",
            include_str!("../../../../web/vendor/uPlot.iife.min.js"),
        ),
        "/uplot.css" => (
            "text/css; charset=utf-8",
            include_str!("../../../../web/vendor/uPlot.min.css"),
        ),
        _ => (
            "text/html; charset=utf-8",
            include_str!("../../../../web/dashboard.html"),
        ),
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// An error as everything here says it: `{"error": …}`.
fn refused(status: StatusCode, because: impl Into<String>) -> Response {
    (
        status,
        axum::Json(api::Refused {
            error: because.into(),
        }),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_and_only_to_pages_of_this_address() {
        let key = blake3::hash(b"right");
        let ask = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_str(value).unwrap());
            }
            may(&key, &headers).map_err(|(status, _)| status.as_u16())
        };
        let host = ("host", "127.0.0.1:7600");
        let right = ("authorization", "Bearer right");
        assert_eq!(ask(&[host, right]), Ok(()));
        assert_eq!(ask(&[host, ("authorization", "bearer right")]), Ok(()));
        assert_eq!(
            ask(&[host, right, ("origin", "http://127.0.0.1:7600")]),
            Ok(())
        );
        assert_eq!(
            ask(&[host, right, ("origin", "http://127.0.0.1:7601")]),
            Err(403)
        );
        assert_eq!(ask(&[host, right, ("origin", "null")]), Err(403));
        assert_eq!(ask(&[right, ("origin", "http://127.0.0.1:7600")]), Err(403));
        assert_eq!(ask(&[host]), Err(401));
        assert_eq!(ask(&[host, ("authorization", "Bearer wrong")]), Err(401));
        assert_eq!(ask(&[host, ("authorization", "Basic right")]), Err(401));
    }

    #[test]
    fn a_key_is_made_once_private_and_a_damaged_one_is_said_to_be() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let made = key(folder.path()).unwrap();
        assert_eq!(key(folder.path()).unwrap(), made);
        let path = folder.path().join(KEY);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(&path, "short").unwrap();
        assert!(
            key(folder.path())
                .unwrap_err()
                .to_string()
                .contains("found 5 bytes")
        );
    }
}
