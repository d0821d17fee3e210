//! How does a capsule answer HTTP?
//!
//! A component of the world `wasi:http/proxy` has no loop and no socket: it is a function from a request to an answer.
//! The loop and the sockets are here, and each request is answered by an instance of its own. Nothing that one request
//! does to its memory can be seen by the next, and what ends badly ends alone: it is answered with 500, and the reason
//! goes to the log.
//!
//! Instances come from a pool: memories, stacks and tables are reserved once, and a fresh instance is a mapping of the
//! component's first image, copied only where it is written to. All of it happens in one thread, since a capsule has
//! one core; who computes is interrupted every [`TURN`], so that the others have their turn.
//!
//! # Bounds
//! Whoever connects may be anybody. Bounded are how many connect ([`CONNECTIONS_MAX`], the rest wait in the kernel's
//! queue) and how many are answered at a time ([`INSTANCES_MAX`]); the length of a head, and how long it may take to
//! send it ([`HEAD_MAX`], [`HEAD_PATIENCE`]); the length of a body ([`BODY_MAX`]); the time between a request and the
//! end of its answer ([`ANSWER_PATIENCE`]); for who reads slowly, the time after that; the memory of an instance
//! (`--mem`, or [`MEMORY`]), and its fuel (`--fuel`), for each request.
//!
//! # The end
//! Told to end, by SIGTERM or SIGINT, it takes no more connections, answers what was asked, and ends; after
//! [`GRACE`] what is left is cut off and counted. Told twice, it ends at once.
//!
//! Deliberately absent: TLS, HTTP/2, requests to others (a component that tries is told that they are forbidden).

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, InstanceAllocationStrategy, PoolingAllocationConfig};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use super::meter::{self, Meter};
use super::{Ended, Failed, code, ended, in_one_line, words};
use crate::program::Program;
use crate::supervision;

/// Connections that are held at a time.
pub const CONNECTIONS_MAX: usize = 256;
/// Requests that are answered at a time; the others wait.
pub const INSTANCES_MAX: usize = 64;
/// No head of a request is longer, in bytes, or has more lines than hyper allows: 100.
pub const HEAD_MAX: usize = 64 << 10;
/// How long a head may take to arrive, and a connection may be idle.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// No body of a request is longer, in bytes.
pub const BODY_MAX: usize = 8 << 20;
/// From a request to the end of its answer.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// The memory of an instance, unless it is said otherwise, in bytes.
pub const MEMORY: u64 = 64 << 20;
/// After so long, who computes lets others have their turn.
pub const TURN: Duration = Duration::from_millis(10);
/// Between being told to end and ending: a second less than the node waits.
pub const GRACE: Duration = Duration::from_nanos(supervision::GRACE.0 - 1_000_000_000);

/// Of its parts: memories and tables of an instance, with those of adapters in it.
const PARTS_MAX: u32 = 16;

/// Whether a component answers HTTP.
pub(super) fn answers(engine: &Engine, component: &Component) -> bool {
    let ty = component.component_type();
    ty.exports(engine)
        .any(|(name, _)| name.starts_with("wasi:http/incoming-handler@0.2."))
}

/// What is said of one that was given no port.
pub(super) fn needs_a_port(program: &Program) -> Failed {
    let because = match program.seed {
        Some(_) => "requests come when they come, so it cannot be rehearsed (--deterministic)",
        None => "it answers HTTP and nobody can ask: expected a port, such as --port 8080:80",
    };
    unreachable(program, because)
}

pub(super) fn unreachable(program: &Program, because: impl ToString) -> Failed {
    Failed::Unreachable {
        name: program.name.clone(),
        because: because.to_string(),
    }
}

/// What a request is answered in.
struct Inside {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    meter: Meter,
    refuses: RefusesRequests,
}

impl WasiView for Inside {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Inside {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.refuses,
        }
    }
}

struct RefusesRequests;

/// A request that is being sent: the answer, and what goes on behind it.
type Sending<T> = Box<dyn Future<Output = Result<T, Error>> + Send>;

impl WasiHttpHooks for RefusesRequests {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sending<()>,
    ) -> Sending<(Response<WasiBody>, Sending<()>)> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

/// The engine for a component that answers requests: with a pool, and with turns.
///
/// # Errors
/// If this host does not give the pool its addresses.
pub fn engine(program: &Program) -> wasmtime::Result<Engine> {
    let all = u32::try_from(INSTANCES_MAX).expect("they are few");
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(all)
        .total_stacks(all)
        .total_core_instances(all * PARTS_MAX)
        .max_core_instances_per_component(PARTS_MAX)
        .total_memories(all * 4)
        .max_memories_per_component(4)
        .total_tables(all * PARTS_MAX)
        .max_tables_per_component(PARTS_MAX)
        // What was written to so far is cleared by hand, which is cheaper than by the kernel.
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10);
    let mut config = code::config(program);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config.epoch_interruption(true);
    Engine::new(&config)
}

/// A component that answers requests.
struct Service {
    program: Program,
    pre: ProxyPre<Inside>,
    instances: Arc<Semaphore>,
    turns: Turns,
}

/// Whoever answers requests, however they are answered.
pub(super) trait Answers: Send + Sync + 'static {
    /// What answers are made of.
    type Body: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static;

    /// What answers.
    fn program(&self) -> &Program;

    /// Answers a request.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Where a program is reached, and takes no connection yet.
pub(super) type Doors = Vec<(std::net::SocketAddr, TcpListener)>;

/// Listens on the ports of a program.
pub(super) fn listen(program: &Program) -> Result<Doors, Failed> {
    let ports = program.ports.iter().map(|port| {
        let listener = TcpListener::bind(port.host).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        listener
            .map_err(|error| unreachable(program, format!("listening on {}: {error}", port.host)))
    });
    ports.collect()
}

/// Serves until this process is told to end, and those are answered who asked before.
pub(super) fn serve_until_told(
    service: Arc<impl Answers>,
    doors: Doors,
    told: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve_all(service, doors, told));
    // What was cut off is not waited for.
    runtime.shutdown_background();
    served
}

/// Serves a program until this process is told to end.
pub(super) fn serve(program: &Program, bytes: &[u8], data: &Path) -> Result<Ended, Failed> {
    let engine = engine(program).map_err(|error| unreachable(program, in_one_line(&error)))?;
    let (component, code_from) = code::code::<Component>(&engine, bytes, program, data)?;
    if !answers(&engine, &component) {
        let because =
            "it does not answer HTTP: expected a component of the world wasi:http/proxy (--port)";
        return Err(unreachable(program, because));
    }
    let unstartable = |error: wasmtime::Error| Failed::Unstartable {
        name: program.name.clone(),
        because: in_one_line(&error),
    };
    let mut linker = Linker::<Inside>::new(&engine);
    // What `wasi:http/proxy` lacks is given as well: compilers of Rust and C ask for it, and it holds nothing.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)
        .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
        .expect("an empty linker takes all of WASI");
    let pre = linker.instantiate_pre(&component).and_then(ProxyPre::new);
    let service = Arc::new(Service {
        program: program.clone(),
        pre: pre.map_err(unstartable)?,
        instances: Arc::new(Semaphore::new(INSTANCES_MAX)),
        turns: Turns::begin(engine).map_err(|error| unreachable(program, error))?,
    });
    let doors = listen(program)?;
    let (_, told) = told_to_end().map_err(|error| unreachable(program, error))?;
    serve_until_told(service, doors, told).map_err(|error| unreachable(program, error))?;
    Ok(Ended {
        code: 0,
        code_from,
        used: None,
    })
}

/// The end of a process that serves.
#[derive(Clone)]
pub(super) struct End(watch::Sender<bool>);

impl End {
    /// Nobody else comes, and once the grace is long over the process ends as the signal would end it: whatever holds the
    /// thread that answers cannot hold this one.
    pub(super) fn begin(&self, signal: i32) {
        self.0.send_replace(true);
        let last = thread::Builder::new().name("last".into());
        let _ = last.spawn(move || {
            thread::park_timeout(GRACE + GRACE / 2);
            signal_hook::low_level::emulate_default_handler(signal)
        });
    }
}

/// Becomes true once this process has been told to end, by a signal or by itself. At a second signal it ends as if nobody
/// had listened.
pub(super) fn told_to_end() -> io::Result<(End, watch::Receiver<bool>)> {
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGTERM, libc::SIGINT])?;
    let (tell, told) = watch::channel(false);
    let end = End(tell);
    let ended = end.clone();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (before, signal) in signals.forever().enumerate() {
                if before > 0 {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                end.begin(signal);
            }
        })?;
    Ok((ended, told))
}

async fn serve_all(
    service: Arc<impl Answers>,
    listeners: Doors,
    mut told: watch::Receiver<bool>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut doors = Vec::new();
    for (address, listener) in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (service, places, told) = (Arc::clone(&service), Arc::clone(&places), told.clone());
        eprintln!(
            "note: {} answers HTTP at http://{address}",
            service.program().name
        );
        doors.push(tokio::spawn(door(service, listener, places, told)));
    }
    let _ = told.wait_for(|told| *told).await;
    for door in doors {
        door.abort();
        let _ = door.await;
    }
    let all = u32::try_from(CONNECTIONS_MAX).expect("they are few");
    if timeout(GRACE, places.acquire_many(all)).await.is_err() {
        let left = CONNECTIONS_MAX - places.available_permits();
        eprintln!(
            "note: {} was told to end; after {} s {left} connections were cut off",
            service.program().name,
            GRACE.as_secs()
        );
    }
    Ok(())
}

/// Takes connections, as long as there is a place for them.
async fn door(
    service: Arc<impl Answers>,
    listener: tokio::net::TcpListener,
    places: Arc<Semaphore>,
    told: watch::Receiver<bool>,
) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let connection = connection(Arc::clone(&service), stream, told.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            // Too many files are open, perhaps: that passes when a connection ends.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Until it ends, or is too slow.
async fn connection(
    service: Arc<impl Answers>,
    stream: TcpStream,
    mut told: watch::Receiver<bool>,
) {
    let (allow, allowed) = watch::channel(Instant::now() + HEAD_PATIENCE);
    let allow = Arc::new(allow);
    let answer = service_fn(move |request| {
        // Who reads its answer slowly may take as long again as the answer took, and no longer.
        allow.send_replace(Instant::now() + 2 * ANSWER_PATIENCE);
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let mut ending = false;
    loop {
        let until = *allowed.borrow();
        tokio::select! {
            // Whatever went wrong, nobody is left to be told.
            _ = connection.as_mut() => return,
            _ = told.wait_for(|told| *told), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(until) => {
                if *allowed.borrow() == until {
                    return;
                }
            }
        }
    }
}

/// How an instance ended.
enum Guest {
    /// By itself, and nothing went wrong.
    Quiet,
    /// Otherwise, which the log says.
    Failed,
}

/// An answer on its way, with whoever is still giving it.
struct Answer {
    body: WasiBody,
    guest: Option<JoinHandle<Guest>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            // What it does behind its answer it may do until its time is up.
            self.guest = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(guest) = self.guest.take()
            && !self.body.is_end_stream()
        {
            // Nobody listens any more.
            guest.abort();
        }
    }
}

impl Answers for Service {
    type Body = Answer;

    fn program(&self) -> &Program {
        &self.program
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > BODY_MAX as u64) {
            let said =
                format!("found a body of more than {BODY_MAX} bytes, expected at most that\n");
            return plainly(StatusCode::PAYLOAD_TOO_LARGE, said);
        }
        if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
            let said = "found no Host, expected one\n".to_owned();
            return plainly(StatusCode::BAD_REQUEST, said);
        }
        let by = Instant::now() + ANSWER_PATIENCE;
        let mut asked = format!("{} {}", request.method(), request.uri().path());
        asked.truncate(asked.floor_char_boundary(200));
        let (sender, answer) = oneshot::channel();
        let guest = match timeout_at(by, Arc::clone(&self.instances).acquire_owned()).await {
            Ok(Ok(place)) => self.guest(request, sender, place, asked.clone(), by),
            Ok(Err(_)) | Err(_) => {
                eprintln!("error: {asked}: all {INSTANCES_MAX} instances were busy");
                return plainly(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "all instances are busy\n".into(),
                );
            }
        };
        match answer.await {
            Ok(Ok(response)) => response.map(|body| Answer {
                body,
                guest: Some(guest),
            }),
            Ok(Err(code)) => {
                eprintln!(
                    "error: {asked}: {} answered with an error: {code:?}",
                    self.program.name
                );
                failed()
            }
            Err(_) => {
                if let Ok(Guest::Quiet) = guest.await {
                    eprintln!(
                        "error: {asked}: {} ended and gave no answer",
                        self.program.name
                    );
                }
                failed()
            }
        }
    }
}

impl Service {
    /// Starts an instance that answers, and says why if it does not.
    fn guest(
        &self,
        request: Request<Incoming>,
        answer: oneshot::Sender<Result<Response<WasiBody>, ErrorCode>>,
        place: OwnedSemaphorePermit,
        asked: String,
        by: Instant,
    ) -> JoinHandle<Guest> {
        let (program, pre) = (self.program.clone(), self.pre.clone());
        let turn = self.turns.take();
        tokio::spawn(async move {
            let _kept = (place, turn);
            let limit = program.limits.memory.unwrap_or(MEMORY);
            let mut wasi = words(&program);
            wasi.inherit_stdout().inherit_stderr();
            let inside = Inside {
                wasi: wasi.build(),
                http: WasiHttpCtx::new(),
                table: ResourceTable::new(),
                meter: Meter::new(Some(limit)),
                refuses: RefusesRequests,
            };
            let mut store = meter::store(pre.engine(), inside, meter::fuel(&program), |inside| {
                &mut inside.meter
            });
            store.set_epoch_deadline(1);
            store.epoch_deadline_async_yield_and_update(1);
            let request = request.map(|body| {
                let limited = Limited::new(body, BODY_MAX);
                limited.map_err(too_long_or_broken).boxed_unsync()
            });
            let done = timeout_at(by, async {
                let request = store
                    .data_mut()
                    .http()
                    .new_incoming_request(Scheme::Http, request)?;
                let answer = store.data_mut().http().new_response_outparam(answer)?;
                let proxy = pre.instantiate_async(&mut store).await?;
                let handler = proxy.wasi_http_incoming_handler();
                handler.call_handle(&mut store, request, answer).await
            });
            let because = match done.await {
                Ok(done) => match ended(&program, done.map(|()| 0), &store.data().meter) {
                    Ok(_) => return Guest::Quiet,
                    Err(failed) => failed.to_string(),
                },
                Err(_) => format!("no answer within {} s", ANSWER_PATIENCE.as_secs()),
            };
            eprintln!("error: {asked}: {because}");
            Guest::Failed
        })
    }
}

fn too_long_or_broken(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.is::<http_body_util::LengthLimitError>() {
        true => Error::HttpRequestBodySize(Some(BODY_MAX as u64)),
        false => Error::HttpProtocolError,
    }
}

fn failed() -> Response<Answer> {
    plainly(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the program failed; its log says how\n".into(),
    )
}

fn plainly(status: StatusCode, said: String) -> Response<Answer> {
    let body = Full::new(Bytes::from(said)).map_err(|never| match never {});
    let body = body.boxed_unsync();
    let mut response = Response::new(Answer { body, guest: None });
    *response.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Lets everybody who computes have their turn, as long as anybody does.
struct Turns {
    waiting: Arc<AtomicUsize>,
    thread: Thread,
}

/// Somebody who may compute.
struct Turn(Arc<AtomicUsize>);

impl Turns {
    fn begin(engine: Engine) -> io::Result<Self> {
        let waiting = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&waiting);
        let thread = thread::Builder::new().name("turns".into()).spawn(move || {
            loop {
                match seen.load(Ordering::Acquire) {
                    0 => thread::park(),
                    _ => thread::park_timeout(TURN),
                }
                engine.increment_epoch();
            }
        })?;
        Ok(Self {
            waiting,
            thread: thread.thread().clone(),
        })
    }

    fn take(&self) -> Turn {
        if self.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        Turn(Arc::clone(&self.waiting))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
