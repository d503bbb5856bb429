//! What is neither gRPC nor its JSON: a page for people, probes, metrics, and what is not found.
use axum::{
    Router,
    extract::{self, Request},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Method, StatusCode, header};
use waybill_ledger::{Severity, State, Status};

use crate::{
    access::{Access, Page},
    call::is_grpc,
    exposition,
    gate::Caller,
    health,
    shared::Shared,
    status,
};

const TEXT: &str = "text/plain; charset=utf-8";

/// The routes beside the services, and the answer for every other path.
pub(crate) fn pages(router: Router, shared: &Shared) -> Router {
    let pages = Page::ALL.into_iter().fold(Router::new(), |pages, page| {
        let handler = match page {
            Page::Front => get(front),
            Page::Live => get(|| async { text(StatusCode::OK, "ok\n".to_owned()) }),
            Page::Ready => get(ready),
            Page::Metrics => get(prometheus),
        };
        pages.route(page.path(), handler)
    });
    let pages = pages
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared.clone());
    router.merge(pages).fallback(nothing_here)
}

async fn front(extract::State(shared): extract::State<Shared>) -> Response {
    let services: String = shared
        .contract
        .services()
        .iter()
        .map(|name| format!("  {name}\n"))
        .collect();
    let page = format!(
        "Waybill {}: an event-sourced delivery ledger.\n\nledger    {}\ninstance  {}\n\n\
         gRPC on this port, with reflection (v1, v1alpha) and health per service:\n{services}\n\
         The same as proto3 JSON:\n  curl -d '{{}}' -H 'content-type: application/json' \
         http://HOST/waybill.v1.LedgerService/GetStatus\n\n\
         For machines: /livez /readyz /readyz?verbose /metrics\n",
        env!("CARGO_PKG_VERSION"),
        shared.ledger.ledger_id(),
        shared.ledger.instance_id(),
    );
    text(StatusCode::OK, page)
}

/// 200 while reads and questions are answered; whether emits are taken is told besides.
async fn ready(extract::State(shared): extract::State<Shared>, request: Request) -> Response {
    let state = match shared.status().await {
        Ok(state) => state,
        Err(failure) => return failed(&failure),
    };
    let open = !shared.drain.begun();
    let (code, verdict) = match open && health::answers_questions(&state) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    };
    let query = request.uri().query().unwrap_or_default();
    let verbose = query.split('&').any(|part| part.starts_with("verbose"));
    // Reasons name files and events: they are for those who may read.
    let told = Caller::of(request.extensions()).may(Access::Read);
    let details = if verbose && told {
        details(&state, open)
    } else {
        String::new()
    };
    text(code, details + verdict)
}

/// One line for each thing that readiness looks at, and for each finding.
fn details(state: &Status, open: bool) -> String {
    let line = |good: bool, what: String| format!("[{}] {what}\n", if good { '+' } else { '-' });
    let (folded, total) = (
        state.heads.folded,
        state.heads.durable.max(state.questions_total),
    );
    let permille = folded
        .saturating_mul(1000)
        .checked_div(total)
        .unwrap_or(1000);
    let serving = if open { "serving" } else { "serving: stopping" };
    let emits = match state.emits {
        State::Serving => "emits".to_owned(),
        State::Rebuilding | State::Refusing => format!("emits: {}", state.emits_reason),
    };
    let questions = format!(
        "questions: views {folded}/{total} ({}.{} %)",
        permille / 10,
        permille % 10
    );
    let mut page = line(open, serving.to_owned())
        + &line(state.emits == State::Serving, emits)
        + &line(health::answers_questions(state), questions);
    for finding in state
        .findings
        .iter()
        .filter(|finding| finding.severity != Severity::Ok)
    {
        page += &format!(
            "[!] {}: {}; {}\n",
            finding.code, finding.text, finding.remedy
        );
    }
    page
}

async fn prometheus(extract::State(shared): extract::State<Shared>) -> Response {
    match shared.status().await {
        Ok(state) => {
            let page = shared.metrics.render(&state);
            ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], page).into_response()
        }
        Err(failure) => failed(&failure),
    }
}

async fn wrong_method() -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned());
    response
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    response
}

async fn nothing_here(request: Request) -> Response {
    let path = request.uri().path();
    if is_grpc(request.headers()) && request.method() == Method::POST {
        return status::unimplemented(path).into_http();
    }
    let path = waybill_core::refusal::shown(path);
    text(
        StatusCode::NOT_FOUND,
        format!("nothing is served at `{path}`; see / for what is\n"),
    )
}

pub(crate) fn failed(failure: &tonic::Status) -> Response {
    text(
        status::http_status(failure.code()),
        format!("{}\n", failure.message()),
    )
}

fn text(code: StatusCode, page: String) -> Response {
    (code, [(header::CONTENT_TYPE, TEXT)], page).into_response()
}
