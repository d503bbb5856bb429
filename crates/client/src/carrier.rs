//! The connection to one server, with the token that this server, and no other, is shown.
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use tonic::{
    body::Body,
    codegen::Service,
    transport::{self, Channel, channel::ResponseFuture},
};

/// Carries calls to one server over one connection that is made when it is first used and made again when it breaks; each
/// call shows the token, where there is one. Follows no redirect: a call goes to its server or fails. Cheap to clone;
/// clones share the connection.
#[derive(Clone, Debug)]
pub struct Carrier {
    channel: Channel,
    /// Marked as sensitive, so that neither its `Debug` nor a table of HTTP/2 headers holds it.
    authorization: Option<HeaderValue>,
}

impl Carrier {
    pub(crate) fn new(channel: Channel, authorization: Option<HeaderValue>) -> Self {
        Self {
            channel,
            authorization,
        }
    }

    /// Whether calls show a token.
    #[must_use]
    pub fn shows_token(&self) -> bool {
        self.authorization.is_some()
    }
}

impl Service<Request<Body>> for Carrier {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(AUTHORIZATION, authorization.clone());
        }
        self.channel.call(request)
    }
}
