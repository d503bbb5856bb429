//! Changes as forges leave them in history: merge commits that name their pull request, and squashed ones.
//!
//! A change that was rebased leaves no trace. What is found here is inferred and says so.
use super::message::Message;

/// Longest number or key of a change.
const NUMBER_BYTES_MAX: usize = 20;
/// Longest title and branch that are kept.
const NAME_BYTES_MAX: usize = 512;

/// A change that a commit's message speaks of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mention {
    /// The number within the repository; none for a branch that was merged without one.
    pub(super) number: Option<String>,
    pub(super) title: String,
    pub(super) head_branch: String,
    pub(super) base_branch: String,
}

/// Reads which change a commit merged. `parents` tells merges from squashes; `trunk` is the name of the default branch
/// for a commit that was made on it: elsewhere `title (#12)` is as likely a commit that was picked from there.
pub(super) fn mention(message: &Message, parents: usize, trunk: Option<&str>) -> Option<Mention> {
    let subject = &message.subject[..];
    let mainline = trunk.is_some();
    let found = match parents {
        0 => None,
        1 if !mainline => None,
        1 => azure(subject)
            .or_else(|| bitbucket(subject, message))
            .or_else(|| squash(subject))
            .or_else(|| gitlab_squash(message)),
        _ => pull_request(subject, message)
            .or_else(|| gitlab(subject, message))
            .or_else(|| bors(subject, message))
            .or_else(|| azure(subject))
            .or_else(|| bitbucket(subject, message))
            .or_else(|| squash(subject).filter(|_| mainline))
            .or_else(|| unnumbered(subject, parents, trunk?)),
    }?;
    Some(found.bounded())
}

impl Mention {
    fn new(number: &str, title: &str) -> Option<Self> {
        let good = (1..=NUMBER_BYTES_MAX).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit());
        good.then(|| Self {
            number: Some(number.to_owned()),
            title: title.to_owned(),
            ..Self::default()
        })
    }

    fn bounded(mut self) -> Self {
        for text in [
            &mut self.title,
            &mut self.head_branch,
            &mut self.base_branch,
        ] {
            *text = super::text::shortened(&super::text::safe(text), NAME_BYTES_MAX);
        }
        self
    }
}

/// GitHub `Merge pull request #12 from owner/branch`; Gitea `Merge pull request 'title' (#12) from branch into main`;
/// Bitbucket Server `Merge pull request #12 in PROJECT/repository from branch to main`.
fn pull_request(subject: &str, message: &Message) -> Option<Mention> {
    let rest = subject.strip_prefix("Merge pull request ")?;
    let at = rest.find('#')?;
    let (number, branches) = digits(&rest[at + 1..]);
    let quoted = rest[..at].trim_end_matches(['(', ' ']).trim_matches('\'');
    let title = if quoted.is_empty() {
        first_line(message)
    } else {
        quoted
    };
    let branches = branches.trim_start_matches(')');
    let from = branches
        .split_once(" from ")
        .map_or(branches, |(_, from)| from);
    let (head, base) = [" into ", " to "]
        .iter()
        .find_map(|word| from.split_once(word))
        .unwrap_or((from, ""));
    let of_github = base.is_empty() && quoted.is_empty();
    let head = if of_github {
        head.split_once('/').map_or(head, |(_, branch)| branch)
    } else {
        head
    };
    Some(Mention {
        head_branch: head.trim().to_owned(),
        base_branch: base.to_owned(),
        ..Mention::new(number, title)?
    })
}

/// GitLab: `Merge branch 'x' into 'main'`, and further down `See merge request group/project!34`.
fn gitlab(subject: &str, message: &Message) -> Option<Mention> {
    let number = gitlab_number(message)?;
    let title = Some(first_line(message))
        .filter(|line| !line.starts_with("See merge request "))
        .unwrap_or(subject);
    let branches = branch(subject).unwrap_or_default();
    Some(Mention {
        title: title.to_owned(),
        ..branches
    })
    .and_then(|mention| {
        Some(Mention {
            number: Mention::new(number, "")?.number,
            ..mention
        })
    })
}

fn gitlab_squash(message: &Message) -> Option<Mention> {
    Mention::new(gitlab_number(message)?, &message.subject)
}

fn gitlab_number(message: &Message) -> Option<&str> {
    let line = message
        .body
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("See merge request "))?;
    line.rsplit_once('!').map(|(_, number)| number)
}

/// homu `Auto merge of #12 - owner:branch, r=someone`, its `Rollup merge of #12 …`, and bors-ng's `Merge #12`.
fn bors(subject: &str, message: &Message) -> Option<Mention> {
    let rest = ["Auto merge of #", "Rollup merge of #", "Merge #"]
        .iter()
        .find_map(|start| subject.strip_prefix(start))?;
    let (number, rest) = digits(rest);
    if rest.contains('#') {
        // A batch of several: which commits are whose cannot be told.
        return None;
    }
    let head = rest
        .strip_prefix(" - ")
        .and_then(|rest| rest.split(", ").next())
        .unwrap_or_default();
    let head = head.split_once(':').map_or(head, |(_, branch)| branch);
    let title = first_line(message);
    let title = title
        .strip_prefix(number)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(title);
    Some(Mention {
        head_branch: head.to_owned(),
        ..Mention::new(number, title)?
    })
}

/// Azure DevOps: `Merged PR 12: title`, merged or squashed.
fn azure(subject: &str) -> Option<Mention> {
    let (number, title) = digits(subject.strip_prefix("Merged PR ")?);
    Mention::new(number, title.strip_prefix(": ")?)
}

/// Bitbucket: `Merged in branch (pull request #12)`; its server: `Pull request #12: title`. Merged or squashed.
fn bitbucket(subject: &str, message: &Message) -> Option<Mention> {
    if let Some((head, number)) = subject
        .strip_prefix("Merged in ")
        .and_then(|rest| rest.split_once(" (pull request #"))
    {
        let title = first_line(message);
        return Some(Mention {
            head_branch: head.to_owned(),
            ..Mention::new(number.strip_suffix(')')?, title)?
        });
    }
    let (number, title) = digits(subject.strip_prefix("Pull request #")?);
    Mention::new(number, title.strip_prefix(": ")?)
}

/// `title (#12)`, as GitHub and Gitea write when they squash. Of several numbers the last is this change's own.
fn squash(subject: &str) -> Option<Mention> {
    let (title, number) = subject.strip_suffix(')')?.rsplit_once("(#")?;
    Mention::new(number, title.trim_end())
}

/// Names of default branches: what merges one brings another branch up to date, also where that became the default.
const TRUNKS: [&str; 2] = ["main", "master"];

/// A merge on the default branch that names no number, whatever its words: of two parents, the second is the change's.
/// What merges the default branch itself is none, nor is a batch of which it cannot be told which commits are whose.
fn unnumbered(subject: &str, parents: usize, trunk: &str) -> Option<Mention> {
    let updates = merged_branch(subject).is_some_and(|it| it == trunk || TRUNKS.contains(&it));
    let batch = ["Auto merge of #", "Rollup merge of #", "Merge #"];
    if updates || batch.iter().any(|start| subject.starts_with(start)) {
        return None;
    }
    let free = Mention {
        title: subject.to_owned(),
        ..Mention::default()
    };
    branch(subject).or_else(|| (parents == 2).then_some(free))
}

/// What a subject says is merged: `Merge branch 'x' of y`, `Merge remote-tracking branch 'origin/x'`, `Merge x: why`.
pub(super) fn merged_branch(subject: &str) -> Option<&str> {
    let rest = subject.strip_prefix("Merge ")?;
    let kind = ["remote-tracking branch ", "branch "];
    let rest = kind
        .iter()
        .find_map(|kind| rest.strip_prefix(kind))
        .unwrap_or(rest);
    let name = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.split_once('\'')?.0,
        None => {
            let (name, more) = rest.split_at(rest.find([':', ' ']).unwrap_or(rest.len()));
            let ends = more.is_empty() || more.starts_with(':') || more.starts_with(" into ");
            ends.then_some(name)?
        }
    };
    Some(name.strip_prefix("origin/").unwrap_or(name))
}

/// `Merge branch 'x'` and `Merge branch 'x' into y`, but not what brings a branch up to date with another.
fn branch(subject: &str) -> Option<Mention> {
    let (head, rest) = subject.strip_prefix("Merge branch '")?.split_once('\'')?;
    let base = rest
        .strip_prefix(" into ")
        .map(|base| base.trim_matches('\''));
    if base.is_none() && !rest.is_empty() {
        // `Merge branch 'main' of host:path` is a pull.
        return None;
    }
    let title = subject.to_owned();
    let base_branch = base.unwrap_or_default().to_owned();
    Some(Mention {
        number: None,
        title,
        head_branch: head.to_owned(),
        base_branch,
    })
}

fn first_line(message: &Message) -> &str {
    message.body.first().map_or(&message.subject, |line| line)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `number | title | head -> base` of what a message mentions.
    fn found(message: &str, parents: usize, mainline: bool) -> String {
        let trunk = mainline.then_some("trunk");
        mention(&Message::parse(message), parents, trunk).map_or("nothing".to_owned(), |m| {
            let number = m.number.unwrap_or_else(|| "-".to_owned());
            format!(
                "{number} | {} | {} -> {}",
                m.title, m.head_branch, m.base_branch
            )
        })
    }

    #[test]
    fn merges_of_every_forge() {
        let cases = [
            (
                "Merge pull request #12 from ann/fix/cart\n\nFix the cart",
                "12 | Fix the cart | fix/cart -> ",
            ),
            (
                "Merge pull request #12 in SHOP/api from fix/cart to main\n\nFix",
                "12 | Fix | fix/cart -> main",
            ),
            (
                "Merge pull request 'Fix the cart' (#12) from fix into main\n",
                "12 | Fix the cart | fix -> main",
            ),
            (
                "Merge branch 'fix' into 'main'\n\nFix it\n\nSee merge request shop/api!34",
                "34 | Fix it | fix -> main",
            ),
            (
                "Custom subject\n\nSee merge request shop/api!34",
                "34 | Custom subject |  -> ",
            ),
            (
                "Auto merge of #9 - ann:cart, r=bo\n\nFix",
                "9 | Fix | cart -> ",
            ),
            (
                "Rollup merge of #9 - ann:cart, r=bo\n\nFix",
                "9 | Fix | cart -> ",
            ),
            (
                "Merge #9\n\n9: Fix the cart r=bo a=ann",
                "9 | Fix the cart r=bo a=ann |  -> ",
            ),
            ("Merge #9 #10\n\n9: x\n\n10: y", "nothing"),
            ("Merged PR 77: Fix", "77 | Fix |  -> "),
            (
                "Merged in fix (pull request #5)\n\nFix",
                "5 | Fix | fix -> ",
            ),
            (
                "Pull request #5: Fix\n\nMerge in SHOP/api from fix to main",
                "5 | Fix |  -> ",
            ),
            ("Fix the cart (#12)", "12 | Fix the cart |  -> "),
            ("Merge branch 'fix'", "- | Merge branch 'fix' | fix -> "),
            ("Merge branch 'main' of github.com:acme/shop", "nothing"),
            ("Merge remote-tracking branch 'origin/main'", "nothing"),
            ("Merge branch 'main' into fix", "nothing"),
            ("Merge branch 'trunk' into fix", "nothing"),
            ("Merge trunk: the cart as it is there", "nothing"),
            (
                "Merge main menu and cart",
                "- | Merge main menu and cart |  -> ",
            ),
            ("Bring in the cart", "- | Bring in the cart |  -> "),
            ("Merge tag 'v1'", "- | Merge tag 'v1' |  -> "),
        ];
        for (message, expected) in cases {
            assert_eq!(found(message, 2, true), expected, "{message:?}");
        }
    }

    #[test]
    fn squashes_count_on_the_main_line_only() {
        let cases = [
            ("Fix the cart (#12)", "12 | Fix the cart |  -> "),
            (
                "Revert \"Fix the cart (#12)\" (#13)",
                "13 | Revert \"Fix the cart (#12)\" |  -> ",
            ),
            ("Merged PR 77: Fix", "77 | Fix |  -> "),
            ("Fix\n\nSee merge request shop/api!34", "34 | Fix |  -> "),
            ("Fix (#x)", "nothing"),
            ("Fix (#123456789012345678901)", "nothing"),
            ("Fix #12", "nothing"),
        ];
        for (message, expected) in cases {
            assert_eq!(found(message, 1, true), expected, "{message:?}");
            assert_eq!(found(message, 1, false), "nothing", "{message:?}");
            assert_eq!(found(message, 0, true), "nothing", "{message:?}");
        }
    }

    #[test]
    fn merges_without_a_number_count_on_the_main_line_only() {
        assert_eq!(found("Merge branch 'fix' into cart", 2, false), "nothing");
        assert_eq!(found("Bring in the cart", 2, false), "nothing");
        assert_eq!(found("Bring in three carts", 3, true), "nothing");
        assert_eq!(
            found("Merge pull request #12 from ann/fix", 2, false),
            "12 | Merge pull request #12 from ann/fix | fix -> "
        );
    }
}
