//! An answer on its way: in pieces, and with its place among the calls of its token until it is read.
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::unread::LyingAnswer;

/// HTTP/2 takes a frame whole, however small its window is, and then asks for the end at once: only in pieces does what
/// nobody reads stay here, where it is counted and can be let go.
const PIECE_BYTES: usize = 32 << 10;

pub(super) struct Placed {
    body: Body,
    /// Of a frame, what was not passed on yet.
    rest: Bytes,
    lying: Option<LyingAnswer>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Placed {
    pub(super) fn new(
        body: Body,
        lying: Option<LyingAnswer>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            lying,
            _place: place,
        }
    }

    fn piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let piece = self.piece(context);
        match &self.lying {
            Some(lying) => lying.pass(piece),
            None => piece,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
