//! The connection to one server, with the token that this server, and no other, is shown.
use std::{
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use http::{Request, Response, header::AUTHORIZATION};
use tonic::{
    body::Body,
    codegen::Service,
    transport::{self, Channel, channel::ResponseFuture},
};

use crate::token::Token;

/// Carries calls to one server over one connection that is made when it is first used and made again when it breaks; each
/// call shows the token, where there is one. Follows no redirect: a call goes to its server or fails. Cheap to clone;
/// clones share the connection.
#[derive(Clone, Debug)]
pub struct Carrier {
    channel: Channel,
    token: Option<Arc<RwLock<Token>>>,
}

impl Carrier {
    pub(crate) fn new(channel: Channel, token: Option<Token>) -> Self {
        Self {
            channel,
            token: token.map(|token| Arc::new(RwLock::new(token))),
        }
    }

    /// Whether calls show a token.
    #[must_use]
    pub fn shows_token(&self) -> bool {
        self.token.is_some()
    }

    /// After the ledger did not accept the token: whether its file holds another one now, which all clones show from here
    /// on. A clone that fails at the same moment finds no successor any more; its next call shows it.
    pub(crate) fn renew(&self) -> bool {
        let Some(token) = &self.token else {
            return false;
        };
        let mut token = token.write().unwrap_or_else(PoisonError::into_inner);
        let successor = token.successor();
        let renewed = successor.is_some();
        if let Some(successor) = successor {
            *token = successor;
        }
        renewed
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
        if let Some(token) = &self.token {
            let token = token.read().unwrap_or_else(PoisonError::into_inner);
            request.headers_mut().insert(AUTHORIZATION, token.header());
        }
        self.channel.call(request)
    }
}
