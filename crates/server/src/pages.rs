//! What is neither gRPC nor its JSON: a page for people, probes, metrics, and what is not found.
use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Method, StatusCode, header};
use waybill_ledger::Severity;

use crate::{call::is_grpc, health, metrics, shared::Shared, status};

const TEXT: &str = "text/plain; charset=utf-8";

/// The routes beside the services, and the answer for every other path.
pub(crate) fn pages(router: Router, shared: &Shared) -> Router {
    let pages = Router::new()
        .route("/", get(front))
        .route(
            "/livez",
            get(|| async { text(StatusCode::OK, "ok\n".to_owned()) }),
        )
        .route("/readyz", get(ready))
        .route("/metrics", get(prometheus))
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared.clone());
    router.merge(pages).fallback(nothing_here)
}

async fn front(State(shared): State<Shared>) -> Response {
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
async fn ready(State(shared): State<Shared>, request: Request) -> Response {
    let state = match shared.status().await {
        Ok(state) => state,
        Err(failure) => {
            return text(
                status::http_status(failure.code()),
                format!("{}\n", failure.message()),
            );
        }
    };
    let open = !shared.drain.begun();
    let ready = open && health::answers_questions(&state);
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let verdict = if ready { "ready\n" } else { "not ready\n" };
    let verbose = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
    if !verbose {
        return text(code, verdict.to_owned());
    }
    let mark = |good: bool| if good { "+" } else { "-" };
    let (folded, total) = (
        state.heads.folded,
        state.heads.durable.max(state.questions_total),
    );
    let permille = folded
        .saturating_mul(1000)
        .checked_div(total)
        .unwrap_or(1000);
    let mut page = format!(
        "[{}] serving{}\n[{}] emits{}\n[{}] questions: views {folded}/{total} ({}.{} %)\n",
        mark(open),
        if open { "" } else { ": stopping" },
        mark(state.emits_reason.is_empty()),
        if state.emits_reason.is_empty() {
            String::new()
        } else {
            format!(": {}", state.emits_reason)
        },
        mark(health::answers_questions(&state)),
        permille / 10,
        permille % 10,
    );
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
    text(code, page + verdict)
}

async fn prometheus(State(shared): State<Shared>) -> Response {
    match shared.status().await {
        Ok(state) => {
            let page = shared.metrics.render(&state);
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
        }
        Err(failure) => text(
            status::http_status(failure.code()),
            format!("{}\n", failure.message()),
        ),
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

fn text(code: StatusCode, page: String) -> Response {
    (code, [(header::CONTENT_TYPE, TEXT)], page).into_response()
}
