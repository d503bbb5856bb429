//! Answers that nobody reads: they hold memory and places, so they are let go after a while.
//!
//! Whoever sends a body asks for its next frame as soon as there is room for one. So the time since the last frame, while
//! the next has not been asked for, is the time that the reader has taken for it.
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use crate::status;

/// The answers of one connection that are whole when they are sent. They cannot be ended by themselves: what is left of them
/// lies with the connection.
#[derive(Default)]
pub(crate) struct Lying(Mutex<(u64, HashMap<u64, Since>)>);

/// Since when a frame has been lying there; `None` while the body is being waited for.
type Since = Option<Instant>;

impl Lying {
    /// Whether one has lain there for so long.
    pub(crate) fn is_any_left(&self, patience: Duration) -> bool {
        let open = lock(&self.0);
        let left = |since: &Since| since.is_some_and(|since| since.elapsed() >= patience);
        open.1.values().any(left)
    }

    /// An answer of this connection, until it is dropped.
    pub(crate) fn answer(self: &Arc<Self>) -> LyingAnswer {
        let mut open = lock(&self.0);
        open.0 += 1;
        let id = open.0;
        open.1.insert(id, Some(Instant::now()));
        LyingAnswer {
            of: self.clone(),
            id,
        }
    }
}

/// One answer among them.
pub(crate) struct LyingAnswer {
    of: Arc<Lying>,
    id: u64,
}

impl LyingAnswer {
    /// Passes a frame on.
    pub(crate) fn pass<T>(&self, frame: Poll<T>) -> Poll<T> {
        let since = frame.is_ready().then(Instant::now);
        lock(&self.of.0).1.insert(self.id, since);
        frame
    }
}

impl Drop for LyingAnswer {
    fn drop(&mut self) {
        lock(&self.of.0).1.remove(&self.id);
    }
}

/// A stream of messages that is ended where nobody reads it.
pub(crate) struct Attended {
    state: Arc<Mutex<State>>,
    patience: Duration,
    watch: AbortHandle,
}

struct State {
    /// `None` once it was let go.
    body: Option<Body>,
    since: Since,
}

impl Attended {
    pub(crate) fn new(body: Body, patience: Duration) -> Self {
        let state = Arc::new(Mutex::new(State {
            body: Some(body),
            since: Some(Instant::now()),
        }));
        let watch = tokio::spawn(watch(Arc::downgrade(&state), patience)).abort_handle();
        Self {
            state,
            patience,
            watch,
        }
    }
}

impl http_body::Body for Attended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = lock(&self.state);
        state.since = None;
        let Some(body) = state.body.as_mut() else {
            // What a client is told that begins to read again.
            let status = status::unread_answer(self.patience);
            return Poll::Ready(Some(Ok(Frame::trailers(status::trailers(&status)))));
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        state.since = Some(Instant::now());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        state.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.state);
        state.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Lets a stream go that has not been read for so long.
async fn watch(state: Weak<Mutex<State>>, patience: Duration) {
    let mut look_at = Instant::now() + patience;
    loop {
        sleep_until(look_at).await;
        let Some(state) = state.upgrade() else {
            return;
        };
        let since = lock(&state).since;
        look_at = since.unwrap_or_else(Instant::now) + patience;
        if since.is_some() && look_at <= Instant::now() {
            // Dropped outside of the lock: it may end what is far away.
            let body = lock(&state).body.take();
            return drop(body);
        }
    }
}

/// What is kept is whole after a panic too.
fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
