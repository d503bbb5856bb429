//! What an answer stands on, said at its end.
use waybill_proto::pb::{Basis, NoValue, Problem, knowledge::Order};

use crate::{output::clean, words};

/// `as of seq 184,223 (recorded until …)`, and whatever is unusual about the knowledge used.
pub(super) fn line(basis: Option<&Basis>) -> String {
    let Some(basis) = basis else {
        return "the answer does not say what it stands on".to_owned();
    };
    let mut text = format!("as of seq {}", words::count(basis.position));
    if basis.evaluated_time.is_some() {
        text.push_str(&format!(
            " · now is {}",
            words::minute(basis.evaluated_time.as_ref())
        ));
    }
    if basis.refused_leaf_count > 0 {
        text.push_str(&format!(
            " · {} refused (waybill log --refused)",
            words::plural(basis.refused_leaf_count, "message is", "messages are")
        ));
    }
    let knowledge = basis
        .knowledge
        .as_ref()
        .and_then(|knowledge| knowledge.order.as_ref());
    if let Some(Order::Assumed(assumed)) = knowledge {
        let lag = assumed
            .lag
            .as_ref()
            .map_or_else(|| "0".to_owned(), words::length);
        text.push_str(&format!(" · knowledge assumed, lag {lag}"));
        if basis.excluded_count > 0 {
            text.push_str(&format!(
                ", {} without a time left out",
                words::plural(basis.excluded_count, "event", "events")
            ));
        }
    }
    text
}

/// One line for each oddity that the answer stepped around.
pub(super) fn problems(problems: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let count = if problem.count > 1 {
            format!(" ({} times)", words::count(problem.count))
        } else {
            String::new()
        };
        format!("problem: {}{count}\n", clean(&problem.text))
    };
    problems.iter().map(line).collect()
}

/// Why there is no value, and what would supply it.
pub(super) fn no_value(none: &NoValue) -> String {
    match (none.text.as_str(), none.remedy.as_str()) {
        ("", remedy) => format!("{}: {}", none.code, clean(remedy)),
        (text, "") => clean(text),
        (text, remedy) => format!("{}; to know it: {}", clean(text), clean(remedy)),
    }
}
