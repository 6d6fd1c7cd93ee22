//! The metrics over plain HTTP: one path, one answer for each connection, nothing written by those
//! who ask. The figures are the event loop's: it is asked for them at most once a second, however
//! many ask.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::{Mutex, Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

const PATH: &str = "/metrics";
const OPENMETRICS: &str = "application/openmetrics-text";
/// How old figures may be.
const FRESH: Duration = Duration::from_secs(1);
/// For one connection, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(10);
/// At one time; more wait.
const CONNECTIONS: usize = 16;

/// No place to offer metrics at.
#[derive(Debug, thiserror::Error)]
#[error("cannot offer metrics at {at}: {reason}; {}", remedy(.reason))]
pub struct NoServer {
    at: SocketAddr,
    reason: io::Error,
}

fn remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => "give --metrics a port that nobody listens at",
        io::ErrorKind::PermissionDenied => {
            "give --metrics a port from 1024 on: those below need CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "give --metrics an address that this host has",
        _ => "leave --metrics out to go without",
    }
}

/// A place that is taken, where nobody is answered yet.
pub struct Server {
    listener: TcpListener,
    at: SocketAddr,
    patience: Duration,
}

impl Server {
    /// Takes the place.
    pub fn bind(at: SocketAddr) -> Result<Self, NoServer> {
        let no = |reason| NoServer { at, reason };
        let listener = TcpListener::bind(at).map_err(no)?;
        listener.set_nonblocking(true).map_err(no)?;
        let at = listener.local_addr().map_err(no)?;
        Ok(Self {
            listener,
            at,
            patience: PATIENCE,
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.at)
    }

    /// Answers from now on, in the tokio runtime it is called in, with what [`Questions`] are
    /// answered with.
    pub fn serve(self) -> Result<Questions, NoServer> {
        let Self {
            listener,
            at,
            patience,
        } = self;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|reason| NoServer { at, reason })?;
        let (sender, questions) = mpsc::channel(1);
        tokio::spawn(accept(listener, Arc::new(Desk::new(sender)), patience));
        Ok(Questions(questions))
    }
}

/// The metrics in both forms.
#[derive(Clone, Debug)]
pub struct Page {
    /// OpenMetrics.
    pub open: Bytes,
    /// The text format of Prometheus, for whoever does not ask for OpenMetrics.
    pub plain: Bytes,
}

/// What readers want to know.
pub struct Questions(mpsc::Receiver<Question>);

impl Questions {
    /// The next one. Safe to cancel.
    pub async fn next(&mut self) -> Question {
        match self.0.recv().await {
            Some(question) => question,
            // The server runs as long as its runtime.
            None => std::future::pending().await,
        }
    }
}

/// Somebody waits for the metrics of this moment.
pub struct Question(oneshot::Sender<Page>);

impl Question {
    pub fn answer(self, page: Page) {
        // Whoever asked may have gone.
        _ = self.0.send(page);
    }
}

/// Where connections get the page.
struct Desk {
    questions: mpsc::Sender<Question>,
    last: Mutex<Option<(Instant, Page)>>,
}

impl Desk {
    const fn new(questions: mpsc::Sender<Question>) -> Self {
        Self {
            questions,
            last: Mutex::const_new(None),
        }
    }

    /// The last page if it is fresh, else a new one; those who ask meanwhile wait for the same.
    /// `None`: the monitor is ending.
    async fn page(&self) -> Option<Page> {
        let mut last = self.last.lock().await;
        if let Some((asked, page)) = &*last
            && asked.elapsed() < FRESH
        {
            return Some(page.clone());
        }
        let asked = Instant::now();
        let (sender, answer) = oneshot::channel();
        self.questions.send(Question(sender)).await.ok()?;
        let page = answer.await.ok()?;
        *last = Some((asked, page.clone()));
        Some(page)
    }
}

async fn accept(listener: tokio::net::TcpListener, desk: Arc<Desk>, patience: Duration) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    // Too slow is as good as gone.
                    _ = timeout(patience, converse(stream, desk)).await;
                    drop(permit);
                });
            }
            // Such as too many open files: it passes, or it does not, and the monitor goes on.
            Err(error) => {
                log::warn!("cannot take a connection for metrics: {error}");
                sleep(FRESH).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(respond(&request, &desk).await) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        log::debug!("a reader of metrics went wrong: {error}");
    }
}

async fn respond(request: &Request<Incoming>, desk: &Desk) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return brief(StatusCode::NOT_FOUND, "only /metrics is here\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = brief(StatusCode::METHOD_NOT_ALLOWED, "metrics are only read\n");
        let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    let Some(Page { open, plain }) = desk.page().await else {
        return brief(StatusCode::SERVICE_UNAVAILABLE, "the monitor is ending\n");
    };
    let accepted = request.headers().get_all(ACCEPT).iter();
    let wants_open = accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(OPENMETRICS));
    let (text, kind) = if wants_open {
        (
            open,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )
    } else {
        (
            plain,
            prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
        )
    };
    answer(StatusCode::OK, kind, text)
}

fn brief(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn answer(status: StatusCode, kind: &'static str, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod server_tests;
