//! What the log says of a failed call.
use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use tracing_subscriber::fmt::MakeWriter;
use waybill_proto::pb;

use crate::kit::served;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Kept {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The log of this whole binary: the tests run beside each other, each looks for words of its own.
fn kept() -> &'static Kept {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    KEPT.get_or_init(|| {
        let kept = Kept::default();
        tracing_subscriber::fmt()
            .json()
            .with_writer(kept.clone())
            .init();
        kept
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_is_one_line_without_tricks() {
    let kept = kept();
    let served = served().await;
    let key = pb::get_event_request::Key::Event(pb::EventRef {
        source: "/logs/marker\n\u{1b}[2J\u{202e}".to_owned(),
        id: "1".to_owned(),
        position: 0,
    });
    let request = pb::GetEventRequest {
        key: Some(key),
        at_least: None,
    };
    let status = served.reads().get_event(request).await.unwrap_err();
    assert!(!status.message().contains(char::is_control), "{status:?}");
    let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("/logs/marker"))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains(['\u{1b}', '\u{202e}']));
    let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    let fields = &line["fields"];
    assert_eq!(
        (&line["level"], &fields["code"]),
        (&"INFO".into(), &"NotFound".into())
    );
    assert_eq!(fields["method"], "waybill.v1.LedgerService/GetEvent");
    assert!(fields["elapsed_ms"].is_u64());
}
